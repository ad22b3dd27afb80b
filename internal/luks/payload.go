package luks

import (
	"iter"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Payload reads what a host reads that opened a container. Sectors that were
// never written read as zeros, where the host reads noise.
type Payload struct {
	driver.Reader
	cipher *Cipher
	at     int64
}

// NewPayload stands in front of what holds a container of which the payload
// begins at a multiple of SectorSize.
func NewPayload(container driver.Reader, c *Cipher, at int64) driver.Reader {
	p := Payload{container, c, at}
	if extents, ok := container.(driver.ExtentReader); ok {
		return payloadExtents{p, extents}
	}
	return p
}

// Size implements driver.Reader.
func (p Payload) Size() int64 { return p.Reader.Size() - p.at }

// ReadAt implements io.ReaderAt.
func (p Payload) ReadAt(b []byte, off int64) (int, error) {
	if err := driver.CheckRange(off, int64(len(b)), p.Size()); err != nil {
		return 0, err
	}
	from, to := around(off, int64(len(b)))
	whole := make([]byte, to-from)
	if _, err := p.Reader.ReadAt(whole, p.at+from); err != nil {
		return 0, err
	}
	p.cipher.decrypt(whole, uint64(from/SectorSize))
	return copy(b, whole[off-from:]), nil
}

type payloadExtents struct {
	Payload
	extents driver.ExtentReader
}

// Extents implements driver.ExtentReader.
func (p payloadExtents) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		for e, err := range p.extents.Extents(p.at+off, length) {
			e.Off -= p.at
			if !yield(e, err) {
				return
			}
		}
	}
}

// Container writes what a host writes that opened a container: the payload of
// one with a header that Format made. Zeros are encrypted like everything else,
// since the host would read noise in their place. Offsets and lengths of what is
// written are multiples of SectorSize; others are Invalid.
type Container struct {
	driver.Device
	cipher *Cipher
}

// NewContainer stands in front of a device on which the header is.
func NewContainer(d driver.Device, c *Cipher) Container { return Container{d, c} }

// Size implements driver.Device.
func (d Container) Size() int64 { return d.Device.Size() - HeaderSize }

// ReadAt implements io.ReaderAt.
func (d Container) ReadAt(p []byte, off int64) (int, error) {
	if err := driver.CheckRange(off, int64(len(p)), d.Size()); err != nil {
		return 0, err
	}
	from, to := around(off, int64(len(p)))
	whole := make([]byte, to-from)
	if _, err := d.Device.ReadAt(whole, HeaderSize+from); err != nil {
		return 0, err
	}
	d.cipher.decryptAll(whole, uint64(from/SectorSize))
	return copy(p, whole[off-from:]), nil
}

// WriteAt implements io.WriterAt.
func (d Container) WriteAt(p []byte, off int64) (int, error) {
	if err := driver.CheckRange(off, int64(len(p)), d.Size()); err != nil {
		return 0, err
	}
	if off%SectorSize != 0 || len(p)%SectorSize != 0 {
		return 0, block.Errorf(block.Invalid, "%d bytes at %d are no whole sectors", len(p), off)
	}
	whole := make([]byte, len(p))
	d.cipher.encrypt(whole, p, uint64(off/SectorSize))
	return d.Device.WriteAt(whole, HeaderSize+off)
}

// Zero implements driver.Device.
func (d Container) Zero(off, length int64) error {
	zeros := make([]byte, min(length, zeroedAtOnce))
	for length > 0 {
		n := min(length, zeroedAtOnce)
		if _, err := d.WriteAt(zeros[:n], off); err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

// zeroedAtOnce is how many bytes Container.Zero writes at a time.
const zeroedAtOnce = 1 << 20
