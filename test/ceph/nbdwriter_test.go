package ceph_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/client/nbd"
	"kvol/internal/zone/zonetest"
)

const (
	hostEdge   = 6 << 20      // bytes at the volume's beginning, and at its end, that a host writes to
	hostPart   = hostEdge / 2 // bytes that are filled and compared at a time
	hostWrites = 24           // that are waited for
	pollPause  = 10 * time.Millisecond
)

// nbdWriter is a host that writes to a volume by one connection to its export, and
// flushes, until it is told to end or can't.
type nbdWriter struct {
	conn  *nbd.Conn
	rnd   *rand.ChaCha8
	size  int64
	wrote atomic.Int64

	mu          sync.Mutex // held while it writes, and by who looks at what it wrote
	first, last []byte     // what the edges of the volume are; guarded by mu

	stop, ended chan struct{}
	err         error // why it ended; to be read when ended is closed
}

// newNBDWriter fills the edges of a volume.
func newNBDWriter(t *testing.T, conn *nbd.Conn) *nbdWriter {
	t.Helper()
	h := &nbdWriter{conn: conn, rnd: rand.NewChaCha8([32]byte{1}), size: conn.Size(), first: make([]byte, hostEdge),
		last: make([]byte, hostEdge), stop: make(chan struct{}), ended: make(chan struct{})}
	for n := range 2 * hostEdge / hostPart {
		p, off := h.part(n, hostPart)
		_, _ = h.rnd.Read(p) // never fails
		if _, err := conn.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return h
}

// part is the n-th part of some length, which divides hostEdge, of the edges, and where it is in the volume.
func (h *nbdWriter) part(n, length int) (p []byte, off int64) {
	at := n * length
	if at < hostEdge {
		return h.first[at:][:length], int64(at)
	}
	at -= hostEdge
	return h.last[at:][:length], h.size - hostEdge + int64(at)
}

func (h *nbdWriter) run() {
	defer close(h.ended)
	for h.err == nil {
		select {
		case <-h.stop:
			h.err = errors.Join(h.conn.Flush(), h.conn.Close())
			return
		default:
			h.err = h.write(int(h.wrote.Load()))
		}
	}
}

// write writes a block anywhere, or gives its space back, and flushes now and then.
func (h *nbdWriter) write(n int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	const blocks = 2 * hostEdge / zonetest.BlockSize
	p, off := h.part(int(h.rnd.Uint64()%blocks), zonetest.BlockSize)
	var err error
	if n%5 == 4 {
		clear(p)
		err = h.conn.WriteZeroes(off, int64(len(p)), true)
	} else {
		_, _ = h.rnd.Read(p) // never fails
		_, err = h.conn.WriteAt(p, off)
	}
	if err == nil && n%8 == 7 {
		err = h.conn.Flush()
	}
	if err == nil {
		h.wrote.Add(1)
	}
	return err
}

// goesOn waits until it wrote some more, or ended.
func (h *nbdWriter) goesOn() {
	for until := h.wrote.Load() + hostWrites; h.wrote.Load() < until; {
		select {
		case <-h.ended:
			return
		case <-time.After(pollPause):
		}
	}
}

func (h *nbdWriter) failed() bool {
	select {
	case <-h.ended:
		return true
	default:
		return false
	}
}

// end has it end, and tells of its error.
func (h *nbdWriter) end() error {
	close(h.stop)
	<-h.ended
	return h.err
}

// compare wants a volume to be what the host wrote, byte by byte: its edges, or with
// whole all of it. The host must not write meanwhile.
func (h *nbdWriter) compare(t *testing.T, where string, volume io.ReaderAt, whole bool) {
	t.Helper()
	got, zeros := make([]byte, hostPart), make([]byte, hostPart)
	same := func(want []byte, off int64) {
		t.Helper()
		p := got[:len(want)]
		if _, err := volume.ReadAt(p, off); err != nil {
			t.Fatalf("read the volume in %s at byte %d: %v", where, off, err)
		}
		for i := 0; !bytes.Equal(p, want); i += zonetest.BlockSize {
			if a, b := p[i:][:zonetest.BlockSize], want[i:][:zonetest.BlockSize]; !bytes.Equal(a, b) {
				t.Fatalf("in %s the block at byte %d is %x..., want %x...", where, off+int64(i), a[:8], b[:8])
			}
		}
	}
	for n := range 2 * hostEdge / hostPart {
		same(h.part(n, hostPart))
	}
	for off := int64(hostEdge); whole && off < h.size-hostEdge; off += hostPart {
		same(zeros[:min(hostPart, h.size-hostEdge-off)], off)
	}
}
