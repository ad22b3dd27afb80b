package program

import (
	"sync/atomic"

	"kvol/internal/client/nbd"
)

// conn is one of an export's connections.
type conn struct {
	*nbd.Conn
	under atomic.Int32 // requests
}

// with has a request carried out on the first connection of which qemu-nbd would begin
// it at once; where there is none, on the one that waits for the fewest.
func (e *Export) with(do func(*nbd.Conn) error) error {
	least := &e.conns[0]
	for i := range e.conns {
		c := &e.conns[i]
		n := c.under.Load()
		if n < RequestsEach {
			least = c
			break
		}
		if n < least.under.Load() {
			least = c
		}
	}
	least.under.Add(1)
	defer least.under.Add(-1)
	return do(least.Conn)
}

// Size is how large the image is, in bytes.
func (e *Export) Size() int64 { return e.conns[0].Size() }

// ReadAt implements io.ReaderAt.
func (e *Export) ReadAt(p []byte, off int64) (n int, err error) {
	err = e.with(func(c *nbd.Conn) (err error) { n, err = c.ReadAt(p, off); return err })
	return n, err
}

// WriteAt implements io.WriterAt.
func (e *Export) WriteAt(p []byte, off int64) (n int, err error) {
	err = e.with(func(c *nbd.Conn) (err error) { n, err = c.WriteAt(p, off); return err })
	return n, err
}

// WriteZeroes is nbd.Conn's.
func (e *Export) WriteZeroes(off, length int64, hole bool) error {
	return e.with(func(c *nbd.Conn) error { return c.WriteZeroes(off, length, hole) })
}

// BlockStatus is nbd.Conn's.
func (e *Export) BlockStatus(off, length int64) (all []nbd.Extent, err error) {
	err = e.with(func(c *nbd.Conn) (err error) { all, err = c.BlockStatus(off, length); return err })
	return all, err
}

// Flush makes all writes that completed before it survive a power cut, on whichever
// connection: they share one image (qemu's block/export, one BlockBackend for all).
func (e *Export) Flush() error { return e.conns[0].Flush() }
