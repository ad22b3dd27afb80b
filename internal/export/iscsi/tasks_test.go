package iscsi_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/driver"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

// gated is a device whose writes to the first MiB say that they have begun, and
// wait for the gate.
type gated struct {
	driver.Device
	begun chan struct{}
	gate  chan struct{}
	open  func()
}

func newGated(s *shelf) *gated {
	g := &gated{Device: s.Device, begun: make(chan struct{}, 100), gate: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.gate) })
	s.Device = g
	return g
}

func (g *gated) WriteAt(p []byte, off int64) (int, error) {
	if off < 1<<20 {
		g.begun <- struct{}{}
		<-g.gate
	}
	return g.Device.WriteAt(p, off)
}

const (
	abortTask    = 1
	abortTaskSet = 2
	clearTaskSet = 4
	lunReset     = 5
)

// manage asks for a task management function, as an immediate command.
func (w *wire) manage(function byte, tag uint32) {
	w.Helper()
	h := [48]byte{0: 0x42, 1: 0x80 | function, 9: 1, 18: 0x7f, 19: 99}
	binary.BigEndian.PutUint32(h[20:], tag)
	binary.BigEndian.PutUint32(h[24:], w.cmdSN)
	w.send(h, "")
}

// managed expects a task management function to be complete.
func (w *wire) managed() {
	w.Helper()
	if h, _ := w.receive(); h[0] != 0x22 || h[2] != 0 {
		w.Fatalf("%x answers a task management function", h)
	}
}

// ping expects the answer to a ping to be what comes next, and returns how many
// commands the window has room for.
func (w *wire) ping() int {
	w.Helper()
	h := [48]byte{0: 0x40, 1: 0x80, 19: 3, 20: 0xff, 21: 0xff, 22: 0xff, 23: 0xff}
	binary.BigEndian.PutUint32(h[24:], w.cmdSN)
	w.send(h, "")
	got, _ := w.receive()
	if got[0] != 0x20 {
		w.Fatalf("%x answers a ping", got)
	}
	return int(binary.BigEndian.Uint32(got[32:]) - binary.BigEndian.Uint32(got[28:]) + 1)
}

// r2t expects to be asked for data.
func (w *wire) r2t() [48]byte {
	w.Helper()
	h, _ := w.receive()
	if h[0] != 0x31 {
		w.Fatalf("%x is no R2T", h)
	}
	return h
}

// give sends data that an R2T asked for; final says that it is all of it.
func (w *wire) give(r2t [48]byte, data string, final bool) {
	w.Helper()
	h := [48]byte{0: 0x05}
	if final {
		h[1] = 0x80
	}
	copy(h[16:24], r2t[16:24])
	copy(h[40:44], r2t[40:44])
	w.send(h, data)
}

// TestAbortAwaitsWhatIsCarriedOut: a reset that comes by one connection, while the
// reader of another writes, is answered when the write is over, and nobody else
// gets its buffer before.
func TestAbortAwaitsWhatIsCarriedOut(t *testing.T) {
	for _, solicited := range []bool{false, true} {
		s := newShelf(t, testSize)
		g := newGated(s)
		defer g.open()
		address, _ := serve(t, iscsi.Config{Targets: s})
		p := newPort(t, address, "2")
		a, sn := p.first, p.first.cmdSN
		b := p.add(1, sn)
		content := string(exporttest.Fill(5, 4096))
		if solicited {
			a.at(sn).command(cdb10(0x2a, 0, 8), 4096, "", writes)
			a.give(a.r2t(), content, true)
		} else {
			a.at(sn).command(cdb10(0x2a, 0, 8), 4096, content, writes)
		}
		<-g.begun
		b.at(sn+1).manage(lunReset, noTag)
		b.ping()                     // is answered first
		for other := range byte(2) { // they take buffers of the write's size
			w := enter(t, address, iqn, 8+other)
			for range 64 {
				w.command(cdb10(0x2a, 4096, 8), 4096, "", writes)
				w.give(w.r2t(), strings.Repeat("B", 2048), false)
			}
		}
		g.open()
		b.managed()
		s.Holds(t, 0, []byte(content))
		a.ping() // is answered, and the write is not
	}
}

const noTag = 0xffffffff

// TestAbortOfWhatWaits: a command that waits for its turn is aborted at once, is
// never carried out, and its tag is free.
func TestAbortOfWhatWaits(t *testing.T) {
	s := newShelf(t, testSize)
	s.throttle = func(write bool, _ int64) time.Duration {
		if write {
			return time.Hour
		}
		return 0
	}
	address, stop := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1)
	for range 3 {
		w.command(cdb10(0x2a, 0, 1), 512, strings.Repeat("x", 512), writes)
		w.manage(abortTask, w.tag)
		w.managed()
		w.tag-- // again
	}
	w.command(cdb10(0x2a, 0, 1), 512, strings.Repeat("x", 512), writes)
	w.manage(abortTaskSet, noTag)
	w.managed()
	w.read(cdb10(0x28, 0, 1), 512)
	w.Close()
	stop() // what waited goes on when its connection ends
	s.Holds(t, 0, make([]byte, 512))
}

// TestAbortKeepsTheWindow: immediate commands have no place in the window, so
// that none is free when they are aborted.
func TestAbortKeepsTheWindow(t *testing.T) {
	const width, immediate = 4, 10
	s := newShelf(t, testSize)
	g := newGated(s)
	defer g.open()
	address, _ := serve(t, iscsi.Config{Targets: s, Limits: iscsi.Limits{Commands: width, Workers: immediate}})
	w := enter(t, address, iqn, 1)
	forced := cdb10(0x2a, 0, 1)
	forced[1] = 8 // FUA, which is for workers
	for i := range immediate {
		h := [48]byte{0: 0x41, 1: writes, 9: 1}
		binary.BigEndian.PutUint32(h[16:], uint32(5000+i))
		binary.BigEndian.PutUint32(h[20:], 512)
		binary.BigEndian.PutUint32(h[24:], w.cmdSN)
		copy(h[32:], forced)
		w.send(h, string(bytes.Repeat([]byte{1}, 512)))
		<-g.begun
	}
	w.manage(abortTaskSet, noTag)
	w.ping()
	g.open()
	w.managed()
	if n := w.ping(); n != width {
		t.Errorf("a window of %d commands has room for %d", width, n)
	}
}
