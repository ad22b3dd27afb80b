package luks

import (
	"iter"
	"sync"

	"kvol/internal/driver"
)

// Device encrypts what it writes to a device and decrypts what it reads from
// it: the payload of a container whose header is kept elsewhere. Sectors that
// were never written, or were zeroed, read as zeros; so who sees the cipher
// sees which parts of a volume are in use, and nothing else.
type Device struct {
	driver.Device
	cipher *Cipher
	guard  *sync.RWMutex // write: around changes of parts of sectors
}

// NewDevice stands in front of a device. All Devices of one volume that are
// used at once need the same guard.
func NewDevice(d driver.Device, c *Cipher, guard *sync.RWMutex) driver.Device {
	out := Device{d, c, guard}
	if extents, ok := d.(driver.ExtentReader); ok {
		return deviceExtents{out, extents}
	}
	return out
}

type deviceExtents struct {
	Device
	extents driver.ExtentReader
}

// Extents implements driver.ExtentReader.
func (d deviceExtents) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return d.extents.Extents(off, length)
}

// around returns the whole sectors around a range.
func around(off, length int64) (from, to int64) {
	return off / SectorSize * SectorSize, (off + length + SectorSize - 1) / SectorSize * SectorSize
}

// ReadAt implements io.ReaderAt.
func (d Device) ReadAt(p []byte, off int64) (int, error) {
	if err := driver.CheckRange(off, int64(len(p)), d.Size()); err != nil {
		return 0, err
	}
	from, to := around(off, int64(len(p)))
	whole := p
	if aligned := from == off && to-from == int64(len(p)); !aligned {
		whole = make([]byte, to-from)
	}
	if _, err := d.Device.ReadAt(whole, from); err != nil {
		return 0, err
	}
	d.cipher.decrypt(whole, uint64(from/SectorSize))
	if len(whole) != len(p) {
		copy(p, whole[off-from:])
	}
	return len(p), nil
}

// WriteAt implements io.WriterAt. Parts of sectors are read, changed and written
// back, one such write at a time.
func (d Device) WriteAt(p []byte, off int64) (int, error) {
	if err := driver.CheckRange(off, int64(len(p)), d.Size()); err != nil || len(p) == 0 {
		return 0, err
	}
	from, to := around(off, int64(len(p)))
	whole := make([]byte, to-from)
	if from == off && len(whole) == len(p) {
		d.guard.RLock()
		defer d.guard.RUnlock()
	} else {
		d.guard.Lock()
		defer d.guard.Unlock()
		if err := d.readEdges(whole, from, off, off+int64(len(p))); err != nil {
			return 0, err
		}
	}
	copy(whole[off-from:], p)
	d.cipher.encrypt(whole, whole, uint64(from/SectorSize))
	if _, err := d.Device.WriteAt(whole, from); err != nil {
		return 0, err
	}
	return len(p), nil
}

// readEdges reads the first and the last sector of whole where a write from
// begin to end leaves parts of them alone.
func (d Device) readEdges(whole []byte, from, begin, end int64) error {
	read := func(at int64) error {
		p := whole[at : at+SectorSize]
		if _, err := d.Device.ReadAt(p, from+at); err != nil {
			return err
		}
		d.cipher.decrypt(p, uint64((from+at)/SectorSize))
		return nil
	}
	last := int64(len(whole)) - SectorSize
	if begin != from || end < from+SectorSize {
		if err := read(0); err != nil {
			return err
		}
	}
	if last > 0 && end != from+int64(len(whole)) {
		return read(last)
	}
	return nil
}

// Zero implements driver.Device.
func (d Device) Zero(off, length int64) error {
	if err := driver.CheckRange(off, length, d.Size()); err != nil || length == 0 {
		return err
	}
	from := (off + SectorSize - 1) / SectorSize * SectorSize
	to := (off + length) / SectorSize * SectorSize
	if from >= to {
		_, err := d.WriteAt(make([]byte, length), off)
		return err
	}
	if from > off {
		if _, err := d.WriteAt(make([]byte, from-off), off); err != nil {
			return err
		}
	}
	if end := off + length; end > to {
		if _, err := d.WriteAt(make([]byte, end-to), to); err != nil {
			return err
		}
	}
	d.guard.RLock()
	defer d.guard.RUnlock()
	return d.Device.Zero(from, to-from)
}
