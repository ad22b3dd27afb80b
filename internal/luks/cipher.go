package luks

import (
	"crypto/aes"
	"io"

	"golang.org/x/crypto/xts"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Cipher encrypts sectors by their numbers. It may be used by many at once.
type Cipher struct{ xts *xts.Cipher }

// NewCipher makes a Cipher of a key of 32 bytes (AES-128) or 64 (AES-256).
// Others are Invalid.
func NewCipher(key []byte) (*Cipher, error) {
	if len(key) != 32 && len(key) != 64 {
		return nil, block.Errorf(block.Invalid, "A key of %d bits fits no cipher here.", len(key)*8)
	}
	c, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		return nil, err
	}
	return &Cipher{c}, nil
}

// encrypt writes whole sectors from src to dst, which may be the same; the first
// has the number sector.
func (c *Cipher) encrypt(dst, src []byte, sector uint64) {
	for i := 0; i < len(src); i += SectorSize {
		c.xts.Encrypt(dst[i:i+SectorSize], src[i:i+SectorSize], sector)
		sector++
	}
}

func (c *Cipher) decryptAll(p []byte, sector uint64) {
	for i := 0; i < len(p); i += SectorSize {
		c.xts.Decrypt(p[i:i+SectorSize], p[i:i+SectorSize], sector)
		sector++
	}
}

// decrypt leaves sectors of zeros as they are: those were never written, or
// given back. That one comes out of encryption has odds of one in two to the
// power of 4096.
func (c *Cipher) decrypt(p []byte, sector uint64) {
	for i := 0; i < len(p); i += SectorSize {
		if s := p[i : i+SectorSize]; !driver.IsZero(s) {
			c.xts.Decrypt(s, s, sector)
		}
		sector++
	}
}

// Encrypting returns a writer that takes clear bytes and writes their cipher to
// w. Offsets count from the payload's begin and are, like lengths, multiples of
// SectorSize; others are Invalid.
func (c *Cipher) Encrypting(w io.WriterAt) io.WriterAt { return encrypting{c, w} }

type encrypting struct {
	c *Cipher
	w io.WriterAt
}

// WriteAt implements io.WriterAt.
func (e encrypting) WriteAt(p []byte, off int64) (int, error) {
	if off%SectorSize != 0 || len(p)%SectorSize != 0 {
		return 0, block.Errorf(block.Invalid, "%d bytes at %d are no whole sectors", len(p), off)
	}
	buf := make([]byte, len(p))
	e.c.encrypt(buf, p, uint64(off/SectorSize))
	return e.w.WriteAt(buf, off)
}

// Decrypting returns a reader of the clear bytes of r, of which the first is
// that of a payload. A last sector that is not whole is read as if zeros
// followed it.
func (c *Cipher) Decrypting(r io.Reader) io.Reader { return &bySectors{r: r, change: c.decrypt} }

// Completing returns a reader of the cipher r in which sectors that were never
// written are encrypted zeros, as others expect them to be.
func (c *Cipher) Completing(r io.Reader) io.Reader { return &bySectors{r: r, change: c.complete} }

func (c *Cipher) complete(p []byte, sector uint64) {
	for i := 0; i < len(p); i += SectorSize {
		if s := p[i : i+SectorSize]; driver.IsZero(s) {
			c.xts.Encrypt(s, s, sector)
		}
		sector++
	}
}

// bySectors reads from r and changes what it reads.
type bySectors struct {
	r      io.Reader
	change func(p []byte, sector uint64)
	sector uint64
	buf    [64 * SectorSize]byte
	ready  []byte
	err    error
}

// Read implements io.Reader.
func (d *bySectors) Read(p []byte) (int, error) {
	if len(d.ready) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := io.ReadFull(d.r, d.buf[:])
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		d.err = err
		whole := (n + SectorSize - 1) / SectorSize * SectorSize
		clear(d.buf[n:whole])
		d.change(d.buf[:whole], d.sector)
		d.sector += uint64(whole / SectorSize)
		if d.ready = d.buf[:whole]; whole == 0 {
			return 0, d.err
		}
	}
	n := copy(p, d.ready)
	d.ready = d.ready[n:]
	return n, nil
}
