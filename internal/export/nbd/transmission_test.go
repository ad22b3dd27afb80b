package nbd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver/drivertest"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
)

// deadListener is closed.
type deadListener struct{}

func (*deadListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (*deadListener) Close() error              { return nil }
func (*deadListener) Addr() net.Addr            { return &net.UnixAddr{} }

const (
	fua      = 1 << 0
	noHole   = 1 << 1
	df       = 1 << 2
	reqOne   = 1 << 3
	fastZero = 1 << 4
)

func TestReadsAndWrites(t *testing.T) {
	s := newShelf(t, 64<<20)
	path, _ := serve(t, nbd.Config{Exports: s})
	for _, structured := range []bool{false, true} {
		w := enter(t, path, "vol", structured)
		for i, c := range []struct {
			off int64
			n   int
		}{
			{0, 1}, {4095, 2}, {12345, 4096}, {1 << 20, 64 << 10}, {3 << 20, 64<<10 + 1}, {5<<20 + 7, 1 << 20},
			{8 << 20, 32 << 20}, {64<<20 - 1, 1},
		} {
			p := exporttest.Fill(byte(i), c.n)
			w.request(1, 0, c.off, uint32(c.n), p...)
			w.plain(1, 0)
			s.Holds(t, c.off, p)
			w.request(0, 0, c.off, uint32(c.n))
			if structured {
				if got := w.chunk(0, 1); !bytes.Equal(got, be(c.off, p)) {
					t.Fatalf("read of %d at %d: wrong data", c.n, c.off)
				}
			} else {
				w.plain(0, 0)
				w.expect(p)
			}
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	const end = int64(testSize)
	for _, c := range []struct {
		name       string
		export     string
		cmd, flags uint16
		off        int64
		n          uint32
		payload    int
		errno      int
	}{
		{"read beyond", "vol", 0, 0, end, 1, 0, 22},
		{"read across the end", "vol", 0, 0, end - 1, 2, 0, 22},
		{"read at an offset that overflows", "vol", 0, 0, -1, 2, 0, 22},
		{"read too long", "vol", 0, 0, 0, 32<<20 + 1, 0, 22},
		{"write beyond", "vol", 1, 0, end, 1, 1, 28},
		{"write across the end", "vol", 1, fua, end - 1, 200_000, 200_000, 28},
		{"write too long", "vol", 1, 0, 0, 32<<20 + 1, 32<<20 + 1, 22},
		{"trim beyond", "vol", 4, 0, end, 1, 0, 22},
		{"write zeroes beyond", "vol", 6, 0, end - 1, 2, 0, 28},
		{"cache beyond", "vol", 5, 0, end, 1, 0, 22},
		{"fast zeroes that would be written", "vol", 6, noHole | fastZero, 0, 4096, 0, 95},
		{"an unknown command", "vol", 47, 0, 0, 0, 0, 22},
		{"an unknown flag", "vol", 0, 1 << 9, 0, 1, 0, 22},
		{"an unknown flag of a write", "vol", 1, noHole, 0, 3, 3, 22},
		{"DF with simple replies", "vol", 0, df, 0, 1, 0, 22},
		{"block status without a context", "vol", 7, 0, 0, 4096, 0, 22},
		{"write to a read-only export", "vol-ro", 1, 0, 0, 5, 5, 1},
		{"large write to a read-only export", "vol-ro", 1, 0, 0, 300_000, 300_000, 1},
		{"trim of a read-only export", "vol-ro", 4, 0, 0, 4096, 0, 1},
		{"zeroes on a read-only export", "vol-ro", 6, 0, 0, 4096, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := enter(t, path, c.export, false)
			w.request(c.cmd, c.flags, c.off, c.n, exporttest.Fill(1, c.payload)...)
			w.plain(c.cmd, c.errno)
			w.request(3, 0, 0, 0) // and the connection goes on
			w.plain(3, 0)
		})
	}
	s.Holds(t, 0, make([]byte, testSize))
}

func TestNoRequestAtAll(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	w := enter(t, path, "vol", false)
	w.send(make([]byte, 28))
	w.gone()
	w = enter(t, path, "vol", false)
	w.request(1, 0, 0, 1<<20, 1, 2, 3) // half a write, and away
	w.Close()
}

func TestDeviceErrors(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	plain, rich := enter(t, path, "vol", false), enter(t, path, "vol", true)
	for kind, errno := range map[block.Kind]int{
		block.Internal: 5, block.Corrupt: 5, block.Unavailable: 5, block.NoSpace: 28, block.OverLimit: 28, block.Invalid: 22,
		block.Stale: 1, block.Forbidden: 1, block.Unsupported: 95, block.NotFound: 108, block.Conflict: 108,
	} {
		failure := block.Wrap(kind, errors.New("the cause"), "the sentence")
		s.Faults.SetRule(func(drivertest.Call) error { return failure })
		for _, cmd := range []uint16{0, 1, 3, 4, 6} {
			w, n := plain, uint32(4096)
			for _, big := range []bool{false, true} {
				if big {
					n = 200_000
				}
				var payload []byte
				if cmd == 1 {
					payload = exporttest.Fill(1, int(n))
				}
				w.request(cmd, 0, 0, n, payload...)
				w.plain(cmd, errno)
			}
		}
		rich.request(1, fua, 0, 1, 1)
		rich.plain(1, errno)
		rich.request(0, 0, 0, 4096)
		got := rich.chunk(0, 1<<15+1)
		want := be(errno, uint16(12), "the sentence")
		if kind == block.Internal {
			want = be(errno, uint16(0))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%v: error chunk %q, want %q", kind, got, want)
		}
	}
}

func TestFlushAndFUA(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	w := enter(t, path, "vol", false)
	flushes := func() int { return s.Faults.Calls(drivertest.OpFlush) }
	for _, c := range []struct {
		cmd, flags uint16
		payload    int
		want       int
	}{
		{1, 0, 4096, 0}, {1, fua, 4096, 1}, {1, fua, 200_000, 1}, {4, 0, 0, 0}, {4, fua, 0, 1}, {6, 0, 0, 0},
		{6, fua, 0, 1}, {6, fua | noHole, 0, 1}, {3, 0, 0, 1}, {3, fua, 0, 1}, {0, fua, 0, 0},
	} {
		before, n := flushes(), uint32(4096)
		if c.payload > 0 {
			n = uint32(c.payload)
		}
		w.request(c.cmd, c.flags, 0, n, exporttest.Fill(1, c.payload)...)
		w.plain(c.cmd, 0)
		if c.cmd == 0 {
			w.read(int(n))
		}
		if got := flushes() - before; got != c.want {
			t.Errorf("command %d with flags %#x and %d bytes: %d flushes, want %d", c.cmd, c.flags, c.payload, got, c.want)
		}
	}
	boom := errors.New("the disk said no")
	s.Faults.FailNth(drivertest.OpFlush, 1, boom)
	w.request(1, fua, 0, 1, 1)
	w.plain(1, 5)
	s.Faults.FailNth(drivertest.OpFlush, 1, boom)
	w.request(3, 0, 0, 0)
	w.plain(3, 5)
}

// TestFlushCoversOtherConnections: what completed on one connection is under
// the flush of another, since both use one device (CAN_MULTI_CONN).
func TestFlushCoversOtherConnections(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	a, b := enter(t, path, "vol", false), enter(t, path, "vol", false)
	var mu sync.Mutex
	var order []string
	s.Faults.SetRule(func(c drivertest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.After {
			order = append(order, string(c.Op))
		}
		return nil
	})
	a.request(1, 0, 0, 1, 42)
	a.plain(1, 0)
	b.request(3, 0, 0, 0)
	b.plain(3, 0)
	b.request(0, 0, 0, 1)
	b.plain(0, 0)
	b.expect([]byte{42})
	mu.Lock()
	defer mu.Unlock()
	if len(order) != 3 || order[0] != "write" || order[1] != "flush" {
		t.Errorf("the device saw %v", order)
	}
}

func TestTrimAndZeroes(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	w := enter(t, path, "vol", true)
	all := exporttest.Fill(3, testSize)
	if _, err := s.Device.WriteAt(all, 0); err != nil {
		t.Fatal(err)
	}
	step := func(cmd, flags uint16, off int64, n uint32, from, to int64) {
		t.Helper()
		w.request(cmd, flags, off, n)
		w.plain(cmd, 0)
		clear(all[from:to])
		s.Holds(t, 0, all)
	}
	step(4, 0, 100, 5000, 4096, 4096)          // no whole block
	step(4, 0, 100, 9000, 4096, 8192)          // whole blocks only
	step(4, 0, 3*4096, 2*4096, 3*4096, 5*4096) // aligned
	step(4, 0, testSize-100, 100, 0, 0)        // the end of the device is no reason to touch more
	step(4, 0, testSize-5000, 5000, testSize-4096, testSize)
	step(6, 0, 20_001, 3, 20_001, 20_004) // every byte counts
	step(6, 0, 30_000, 9000, 30_000, 39_000)
	holes := s.Faults.Calls(drivertest.OpZero)
	step(6, noHole, 50_000, 9000, 50_000, 59_000)
	step(6, noHole, 1<<20, 2<<20+5, 1<<20, 3<<20+5)
	if s.Faults.Calls(drivertest.OpZero) != holes {
		t.Error("zeros without holes were made as holes")
	}
	step(6, fastZero, 5<<20, 1<<20, 5<<20, 6<<20)
	step(6, fua, 0, 1<<20, 0, 1<<20)
	step(4, 0, 0, 0, 0, 0)
	w.request(5, 0, 0, testSize)
	w.plain(5, 0)
}

func TestHolesInReads(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	for _, export := range []string{"vol", "blind"} {
		w := enter(t, path, export, true)
		w.request(0, df, 1<<20, 1<<20)
		if export == "vol" {
			if got := w.chunk(0, 2); !bytes.Equal(got, be(int64(1<<20), 1<<20)) {
				t.Errorf("hole: %x", got)
			}
		} else if got := w.chunk(0, 1); !bytes.Equal(got[8:], make([]byte, 1<<20)) {
			t.Error("a hole does not read as zeros")
		}
	}
	if _, err := s.Device.WriteAt([]byte{1}, 2<<20-1); err != nil {
		t.Fatal(err)
	}
	w := enter(t, path, "vol", true)
	w.request(0, 0, 1<<20, 1<<20)
	if got := w.chunk(0, 1); len(got) != 8+1<<20 || got[len(got)-1] != 1 {
		t.Error("a range with one byte in it was taken for a hole")
	}
	w.request(0, 0, 0, 0)
	if got := w.chunk(0, 0); len(got) != 0 {
		t.Errorf("empty read: %x", got)
	}
}

func TestBlockStatus(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	for _, off := range []int64{8192, 3 << 20} { // the second runs over a leaf of the driver
		if _, err := s.Device.WriteAt(exporttest.Fill(1, 3<<20), off); err != nil {
			t.Fatal(err)
		}
	}
	w := enter(t, path, "vol", true)
	status := func(w *wire, flags uint16, off int64, n uint32, want ...int) {
		t.Helper()
		w.request(7, flags, off, n)
		if got := w.chunk(7, 5); !bytes.Equal(got[4:], pairs(want)) {
			t.Errorf("status of %d at %d: %x, want %x", n, off, got[4:], pairs(want))
		}
	}
	status(w, 0, 0, testSize, 8192, 3, 6<<20-8192, 0, 2<<20, 3)
	status(w, reqOne, 0, testSize, 8192, 3)
	status(w, reqOne, 8192, testSize-8192, 6<<20-8192, 0)
	status(w, 0, 8191, 2, 1, 3, 1, 0)
	status(w, 0, 9000, 5, 5, 0)
	status(w, 0, 7<<20+1, 100, 100, 3)
	blind := enter(t, path, "blind", true)
	status(blind, 0, 5, testSize-5, testSize-5, 0)
	for _, bad := range []struct {
		off int64
		n   uint32
	}{{0, 0}, {testSize, 1}, {0, testSize + 1}} {
		w.request(7, 0, bad.off, bad.n)
		if got := w.chunk(7, 1<<15+1); binary.BigEndian.Uint32(got) != 22 {
			t.Errorf("status of %d at %d: %x", bad.n, bad.off, got)
		}
	}
}

// TestBlockStatusIsBounded: a volume in crumbs is told in part, from the
// beginning.
func TestBlockStatusIsBounded(t *testing.T) {
	const size = 128 << 20
	s := newShelf(t, size)
	path, _ := serve(t, nbd.Config{Exports: s})
	for off := int64(0); off < size; off += 8192 {
		if _, err := s.Device.WriteAt([]byte{1}, off); err != nil {
			t.Fatal(err)
		}
	}
	w := enter(t, path, "vol", true)
	w.request(7, 0, 0, size)
	got := w.chunk(7, 5)
	if len(got) != 4+8*4096 || !bytes.Equal(got[4:20], be(4096, 0, 4096, 3)) {
		t.Errorf("%d bytes: %x...", len(got), got[:20])
	}
}

func pairs(v []int) (b []byte) {
	for _, n := range v {
		b = append(b, be(n)...)
	}
	return b
}
