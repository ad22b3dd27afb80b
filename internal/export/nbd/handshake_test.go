package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"kvol/internal/export/nbd"
)

const (
	errUnsup    = 1<<31 + 1
	errPolicy   = 1<<31 + 2
	errInvalid  = 1<<31 + 3
	errTLSReqd  = 1<<31 + 5
	errUnknown  = 1<<31 + 6
	errShutdown = 1<<31 + 7
	errTooBig   = 1<<31 + 9
)

func TestOptionsRefused(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	for _, c := range []struct {
		name string
		opt  int
		data []byte
		want uint32
	}{
		{"list: names are secret", 3, nil, errPolicy},
		{"list with data", 3, []byte("x"), errInvalid},
		{"peek export", 4, nil, errUnsup},
		{"TLS that is not configured", 5, nil, errPolicy},
		{"TLS with data", 5, []byte("x"), errInvalid},
		{"structured reply with data", 8, []byte("x"), errInvalid},
		{"extended headers", 11, nil, errUnsup},
		{"an option of the future", 4711, []byte("whatever"), errUnsup},
		{"go: unknown export", 7, be(named("nope"), uint16(0)), errUnknown},
		{"go: not now", 7, be(named("busy"), uint16(0)), errShutdown},
		{"go: forbidden", 7, be(named("forbidden"), uint16(0)), errPolicy},
		{"go: a fault of ours", 7, be(named("broken"), uint16(0)), errPolicy},
		{"info: unknown export", 6, be(named("nope"), uint16(0)), errUnknown},
		{"go without data", 7, nil, errInvalid},
		{"go: name longer than the data", 7, be(1000, "vol", uint16(0)), errInvalid},
		{"go: no count of infos", 7, named("vol"), errInvalid},
		{"go: infos missing", 7, be(named("vol"), uint16(2), uint16(1)), errInvalid},
		{"go: data left over", 7, be(named("vol"), uint16(0), "x"), errInvalid},
		{"go: a length that overflows", 7, be(-1, uint16(0)), errInvalid},
		{"meta context before structured replies", 10, be(named("vol"), 0), errInvalid},
		{"more data than an option may have", 4711, make([]byte, 100_000), errTooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := dial(t, path)
			w.greet(3)
			w.option(c.opt, c.data)
			text := w.answer(c.opt, c.want)
			if strings.Contains(string(text), "EOF") {
				t.Errorf("the answer tells the cause: %q", text)
			}
			w.option(2) // the handshake goes on
			w.answer(2, 1)
			w.gone()
		})
	}
}

func TestHandshakeEnds(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize), Limits: nbd.Limits{Options: 3}})
	for name, talk := range map[string]func(w *wire){
		"unknown client flags":            func(w *wire) { w.greet(4) },
		"no option magic":                 func(w *wire) { w.greet(3); w.send("IHAVEOPS", 7, 0) },
		"an old client with a new option": func(w *wire) { w.greet(0); w.option(3) },
		"export name: unknown":            func(w *wire) { w.greet(3); w.option(1, "nope") },
		"export name: far too long":       func(w *wire) { w.greet(3); w.send(optMagic, 1, 1<<20) },
		"an option of gigabytes":          func(w *wire) { w.greet(3); w.send(optMagic, 9, -1) },
		"more options than it has time for": func(w *wire) {
			w.greet(3)
			for range 3 {
				w.option(99)
				w.answer(99, errUnsup)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, path)
			talk(w)
			w.gone()
		})
	}
}

func TestHandshakeTimesOut(t *testing.T) {
	limits := nbd.Limits{Handshake: 50 * time.Millisecond}
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize), Limits: limits})
	w := dial(t, path)
	w.greet(3)
	w.option(6, named("vol"), uint16(0)) // holds the export open
	w.answer(6, 3)
	w.answer(6, 1)
	w.gone()
}

func TestExportName(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	for _, c := range []struct {
		clientFlags int
		name        string
		flags       uint16
		pad         int
	}{{3, "vol", 0x0d6d, 0}, {1, "vol", 0x0d6d, 124}, {0, "vol", 0x0d6d, 124}, {3, "vol-ro", 0x050f, 0}} {
		w := dial(t, path)
		w.greet(c.clientFlags)
		w.option(1, c.name)
		w.expect(int64(testSize), c.flags, make([]byte, c.pad))
		w.request(0, 0, 0, 4)
		w.plain(0, 0)
		w.expect(0)
		w.request(2, 0, 0, 0)
		w.gone()
	}
}

func TestInfoAndGo(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	w := dial(t, path)
	w.greet(3)
	w.option(8)
	w.answer(8, 1)
	for _, opt := range []int{6, 6, 7} {
		w.option(opt, named("vol"), uint16(4), uint16(1), uint16(2), uint16(3), uint16(77))
		for _, want := range [][]byte{
			be(uint16(0), int64(testSize), uint16(0x0ded)), // with DF, since replies are structured
			be(uint16(1), "vol"), be(uint16(2), "a test"), be(uint16(3), 1, 4096, 32<<20),
		} {
			if got := w.answer(opt, 3); !bytes.Equal(got, want) {
				t.Errorf("option %d: info %x, want %x", opt, got, want)
			}
		}
		w.answer(opt, 1)
	}
	w.request(3, 0, 0, 0)
	w.plain(3, 0)
}

func TestMetaContexts(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	w := dial(t, path)
	w.greet(3)
	w.option(8)
	w.answer(8, 1)
	for _, c := range []struct {
		opt     int
		queries []string
		found   bool
	}{
		{9, nil, true}, {9, []string{"base:"}, true}, {9, []string{"base:allocation"}, true},
		{9, []string{"qemu:"}, false},
		{9, []string{"x:y", "base:allocation"}, true}, {9, []string{"base"}, false}, {10, nil, false},
		{10, []string{"base:"}, false}, {10, []string{"x:y", "base:allocation"}, true},
		{10, []string{"base:allocation2"}, false},
	} {
		data := be(named("vol"), len(c.queries))
		for _, q := range c.queries {
			data = append(data, named(q)...)
		}
		w.option(c.opt, data)
		if c.found {
			got := w.answer(c.opt, 4)
			if string(got[4:]) != "base:allocation" || c.opt == 9 && binary.BigEndian.Uint32(got) != 0 {
				t.Errorf("option %d %q: %q", c.opt, c.queries, got)
			}
		}
		w.answer(c.opt, 1)
	}
	for _, bad := range [][]byte{nil, named("vol"), be(named("vol"), 1), be(named("vol"), -1), be(named("vol"), 0, 0),
		be(named("vol"), 1, 100, "short")} {
		w.option(10, bad)
		w.answer(10, errInvalid)
	}
	w.option(10, named("nope"), 1, named("base:allocation"))
	w.answer(10, errUnknown)
	w.option(10, named("vol"), 1, named("base:allocation"))
	w.answer(10, 4)
	w.answer(10, 1)
	w.option(7, named("vol-ro"), uint16(0)) // another export: the choice does not hold
	w.answer(7, 3)
	w.answer(7, 1)
	w.request(7, 0, 0, 4096)
	if got := w.chunk(7, 1<<15+1); binary.BigEndian.Uint32(got) != 22 {
		t.Errorf("block status without a context: %x", got)
	}
}

// TestListedContextsAreNotChosen: a list changes nothing of what was chosen, nor
// for which export.
func TestListedContextsAreNotChosen(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	for _, c := range []struct {
		export string
		kind   uint16
	}{{"vol", 5}, {"vol-ro", 1<<15 + 1}} {
		w := dial(t, path)
		w.greet(3)
		w.option(8)
		w.answer(8, 1)
		w.option(10, named("vol"), 1, named("base:allocation"))
		w.answer(10, 4)
		w.answer(10, 1)
		w.option(9, named("vol-ro"), 0)
		w.answer(9, 4)
		w.answer(9, 1)
		w.option(7, named(c.export), uint16(0))
		w.answer(7, 3)
		w.answer(7, 1)
		w.request(7, 0, 0, 4096)
		w.chunk(7, c.kind)
		w.Close()
	}
}

func TestConnectionLimit(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize), Limits: nbd.Limits{Connections: 2}})
	a, b := enter(t, path, "vol", false), enter(t, path, "vol", false)
	dial(t, path).gone()
	a.request(2, 0, 0, 0)
	a.gone()
	for { // the place is free once the server has noticed
		c := dial(t, path)
		if n, _ := c.Read(make([]byte, 18)); n == 18 {
			break
		}
	}
	b.request(3, 0, 0, 0)
	b.plain(3, 0)
}

func TestServerStopsInHandshake(t *testing.T) {
	path, stop := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	w := dial(t, path)
	w.greet(3)
	stop()
	w.gone()
}

func TestServeReturnsWhenListenerIsClosed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := &deadListener{}
	if err := nbd.New(nbd.Config{}).Serve(ctx, l); err != nil {
		t.Error(err)
	}
	if err := nbd.New(nbd.Config{}).Serve(t.Context(), l); err == nil {
		t.Error("Serve on a closed listener returned nil")
	}
}
