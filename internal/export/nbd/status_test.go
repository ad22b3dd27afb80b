package nbd_test

import (
	"io"
	"net"
	"strings"
	"testing"

	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
)

func newChangedShelf(t *testing.T) *shelf {
	s := newShelf(t, testSize)
	s.changed = map[string][]driver.Extent{
		"monday":  {{Off: 4096, Len: 8192}, {Off: 1 << 20, Len: 1 << 20}, {Off: testSize - 4096, Len: 4096}},
		"tuesday": {},
		"lost":    nil,
	}
	if _, err := s.Device.WriteAt(exporttest.Fill(1, 4096), 8192); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestChangedSince(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newChangedShelf(t)})
	w := dial(t, path)
	w.greet(3)
	w.option(8)
	w.answer(8, 1)
	for query, want := range map[string][]string{
		"base:":                {"base:allocation"},
		"kvol:":                {"kvol:changed:lost", "kvol:changed:monday", "kvol:changed:tuesday"},
		"kvol:changed:":        {"kvol:changed:lost", "kvol:changed:monday", "kvol:changed:tuesday"},
		"kvol:changed:tuesday": {"kvol:changed:tuesday"},
		"kvol:changed:t":       {},
		"qemu:":                {},
	} {
		w.option(9, named("vol"), 1, named(query))
		for _, name := range want {
			if got := string(w.answer(9, 4)); got != "\x00\x00\x00\x00"+name {
				t.Errorf("%s: %q", query, got)
			}
		}
		w.answer(9, 1)
	}
	// Contexts that the export does not have are left out, others chosen once.
	w.option(10, named("vol"), 4, named("kvol:changed:monday"), named("kvol:changed:never"), named("base:allocation"),
		named("base:allocation"))
	if got := string(w.answer(10, 4)); got != "\x00\x00\x00\x01base:allocation" {
		t.Errorf("%q", got)
	}
	if got := string(w.answer(10, 4)); got != "\x00\x00\x00\x02kvol:changed:monday" {
		t.Errorf("%q", got)
	}
	w.answer(10, 1)
	w.option(7, named("vol"), uint16(0))
	w.answer(7, 3)
	w.answer(7, 1)
	status := func(flags uint16, off int64, n uint32, base, changed []byte) {
		t.Helper()
		w.request(7, flags, off, n)
		w.expect(chunkMagic, uint16(0), uint16(5), cookie(7), 4+len(base), 1, base)
		w.expect(chunkMagic, uint16(1), uint16(5), cookie(7), 4+len(changed), 2, changed)
	}
	status(0, 0, 1<<20, be(8192, 3, 4096, 0, 1<<20-12288, 3), be(4096, 0, 8192, 1, 1<<20-12288, 0))
	status(0, 5000, 1000, be(1000, 3), be(1000, 1))
	status(0, 20000, 1000, be(1000, 3), be(1000, 0))
	status(reqOne, 8192, 1<<20, be(4096, 0), be(4096, 1))
	status(0, 2<<20-10, 30, be(30, 3), be(10, 1, 20, 0))
	status(0, testSize-5000, 5000, be(5000, 3), be(904, 0, 4096, 1))
}

// TestChangedThatCannotBeRead: a moment that is gone when it is chosen is
// refused, and nothing stays chosen.
func TestChangedThatCannotBeRead(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newChangedShelf(t)})
	w := dial(t, path)
	w.greet(3)
	w.option(8)
	w.answer(8, 1)
	w.option(10, named("vol"), 2, named("base:allocation"), named("kvol:changed:lost"))
	w.answer(10, 4)
	if got := string(w.answer(10, 1<<31+6)); got != "no such moment" {
		t.Errorf("%q", got)
	}
	w.option(7, named("vol"), uint16(0))
	w.answer(7, 3)
	w.answer(7, 1)
	w.request(7, 0, 0, 4096)
	w.chunk(7, 1<<15+1)
}

// TestChangedForTools: clients of others read such a context.
func TestChangedForTools(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newChangedShelf(t)})
	url := "nbd+unix:///vol?socket=" + path
	got := strings.Join(strings.Fields(exporttest.Run(t, "nbdinfo", "--map=kvol:changed:monday", url)), " ")
	want := "0 4096 0 4096 8192 1 12288 1036288 0 1048576 1048576 1 2097152 6287360 0 8384512 4096 1"
	if got != want {
		t.Errorf("nbdinfo --map:\n%s\n%s", got, want)
	}
	// qemu shows what its dirty bitmap has as no data.
	out := exporttest.Run(t, "qemu-img", "map", "--output=json", "--image-opts",
		"driver=nbd,server.type=unix,server.path="+path+",export=vol,x-dirty-bitmap=kvol:changed:monday")
	for _, part := range []string{`"start": 4096, "length": 8192`, `"start": 1048576, "length": 1048576`} {
		if !strings.Contains(out, part) {
			t.Errorf("qemu-img map lacks %s:\n%s", part, out)
		}
	}
}

func TestCacheReads(t *testing.T) {
	s := newShelf(t, testSize)
	if _, err := s.Device.WriteAt(exporttest.Fill(1, 100), 3<<20); err != nil {
		t.Fatal(err)
	}
	path, _ := serve(t, nbd.Config{Exports: s})
	w := enter(t, path, "vol", false)
	w.request(5, 0, 0, testSize)
	w.plain(5, 0)
	if n := s.Faults.Calls(drivertest.OpRead); n != 1 {
		t.Errorf("%d reads of a mebibyte each, want that of the one with data", n)
	}
	w.request(5, 0, 1<<20, testSize)
	w.plain(5, 22)
	s.Faults.SetRule(func(c drivertest.Call) error {
		if c.Op == drivertest.OpRead {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	w.request(5, 0, 3<<20, 1)
	w.plain(5, 5)
}

func TestLimitsOfConnections(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s, Limits: nbd.Limits{ExportConnections: 2}})
	first, _ := enter(t, path, "vol", false), enter(t, path, "vol", false)
	third := dial(t, path)
	third.greet(3)
	third.option(7, named("vol"), uint16(0))
	if got := string(third.answer(7, 1<<31+2)); !strings.Contains(got, "as many connections") {
		t.Errorf("%q", got)
	}
	enter(t, path, "vol-ro", false)
	first.request(2, 0, 0, 0)
	first.gone()
	for { // the server counts it until it is done with it, a moment later
		third.option(7, named("vol"), uint16(0))
		if third.read(20)[12] == 0 { // no error
			break
		}
		third.read(len("The export has as many connections as it may have."))
	}
	third.read(12)
	third.answer(7, 1)
	third.request(3, 0, 0, 0)
	third.plain(3, 0)
}

func TestLimitOfConnectionsOfAHost(t *testing.T) {
	address, _ := serveTCP(t, nbd.Config{Exports: newShelf(t, testSize), Limits: nbd.Limits{ClientConnections: 1}})
	connect := func() *wire {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return &wire{t, c}
	}
	one, other := connect(), connect()
	other.gone()
	one.greet(3)
}
