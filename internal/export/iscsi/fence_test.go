package iscsi_test

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"kvol/internal/export/iscsi"
)

// forced is a write of a block with FUA, which is for workers.
func forced(lba uint32) []byte {
	cdb := cdb10(0x2a, lba, 1)
	cdb[1] = 8
	return cdb
}

// TestOthersAreAborted: what fences a host aborts its commands. Those that wait
// for data never touch the medium, and what is being carried out is over before
// the fence is said to be up.
func TestOthersAreAborted(t *testing.T) {
	for name, test := range map[string]struct {
		fence func(w *wire)
		up    func(w *wire) // takes its answer
		told  []uint16      // to who is fenced
	}{
		"preempt and abort": {func(w *wire) { w.reserving(5, 5, 1, 2) }, func(w *wire) {
			if status, _, sense := w.result(); status != 0 {
				w.Errorf("status %#x, sense %x", status, sense)
			}
		}, []uint16{0x2a05, 0x2f00}},
		"clear task set": {func(w *wire) { w.manage(clearTaskSet, noTag) }, (*wire).managed, []uint16{0x2f00}},
		"reset":          {func(w *wire) { w.manage(lunReset, noTag) }, (*wire).managed, []uint16{0x2903, 0x2f00}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, testSize)
			g := newGated(s)
			defer g.open()
			address, _ := serve(t, iscsi.Config{Targets: s})
			a, b := enter(t, address, iqn, 1), enter(t, address, iqn, 2)
			a.reserve(0, 0, 0, 1, 0)
			b.reserve(0, 0, 0, 2, 0)
			a.reserve(1, 5, 1, 0, 0)
			b.command(cdb10(0x2a, 1, 1), 512, "", writes)
			waits := b.r2t()
			b.command(forced(2), 512, strings.Repeat("b", 512), writes)
			<-g.begun
			test.fence(a)
			a.ping()
			g.open()
			test.up(a)
			s.Holds(t, 2*512, []byte(strings.Repeat("b", 512)))
			b.give(waits, strings.Repeat("b", 512), true)
			b.ping() // is answered, and nothing before
			for _, code := range test.told {
				b.fails(0x6, code, []byte{0})
			}
			if status := b.status(cdb10(0x28, 0, 1), ""); status != 0 {
				t.Errorf("reading: %#x", status)
			}
			s.Holds(t, 512, make([]byte, 512))
			a.write(cdb10(0x2a, 1, 1), strings.Repeat("a", 512))
		})
	}
}

// reserving sends PERSISTENT RESERVE OUT without waiting for its answer.
func (w *wire) reserving(action, kind byte, key, newKey uint64) {
	w.Helper()
	w.command([]byte{0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0}, 24, reservation(key, newKey, 1), writes)
}

// TestPreemptStopsWhatWaits: PREEMPT aborts nothing, but what had not begun is
// judged by the reservation that is there when it would.
func TestPreemptStopsWhatWaits(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	a, b := enter(t, address, iqn, 1), enter(t, address, iqn, 2)
	a.reserve(0, 0, 0, 1, 0)
	b.reserve(0, 0, 0, 2, 0)
	a.reserve(1, 5, 1, 0, 0)
	b.command(cdb10(0x2a, 1, 1), 512, "", writes)
	waits := b.r2t()
	if status, _ := a.reserve(4, 5, 1, 2, 0); status != 0 {
		t.Fatalf("preempt: %#x", status)
	}
	b.give(waits, strings.Repeat("b", 512), true)
	if status, _, _ := b.result(); status != 0x18 {
		t.Errorf("a write that waited for its data: %#x", status)
	}
	s.Holds(t, 512, make([]byte, 512))
}

// slowly has other goroutines go on while it keeps reservations.
type slowly struct{ kept }

func (s *slowly) SaveReservations(ctx context.Context, unit string, state []byte) error {
	for range 100 {
		runtime.Gosched()
	}
	return s.kept.SaveReservations(ctx, unit, state)
}

// TestPreemptEachOther: hosts that preempt each other at once do not wait for
// each other.
func TestPreemptEachOther(t *testing.T) {
	store := &slowly{kept{state: map[string][]byte{}}}
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize), Reservations: store})
	a, b := enter(t, address, iqn, 1), enter(t, address, iqn, 2)
	for range 50 {
		for range 4 { // many at once, and by turns with what registers again
			a.reserving(6, 0, 0, 1)
			b.reserving(6, 0, 0, 2)
			a.reserving(5, 1, 1, 2)
			b.reserving(5, 1, 2, 1)
		}
		a.manage(abortTaskSet, noTag) // some may be aborted by the other: no answer tells that
		b.manage(abortTaskSet, noTag)
		for _, w := range []*wire{a, b} {
			for {
				if h, _ := w.receive(); h[0] == 0x22 {
					break
				}
			}
		}
	}
}
