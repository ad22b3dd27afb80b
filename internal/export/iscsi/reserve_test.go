package iscsi_test

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"kvol/internal/export/iscsi"
)

// kept keeps reservations in memory, for servers that come one after another.
type kept struct {
	mu    sync.Mutex
	state map[string][]byte
}

func (k *kept) LoadReservations(_ context.Context, unit string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state[unit], nil
}

func (k *kept) SaveReservations(_ context.Context, unit string, state []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state[unit] = state
	return nil
}

// reservation is what PERSISTENT RESERVE OUT brings.
func reservation(key, newKey uint64, flags byte) string {
	p := make([]byte, 24)
	binary.BigEndian.PutUint64(p, key)
	binary.BigEndian.PutUint64(p[8:], newKey)
	p[20] = flags
	return string(p)
}

// reserve sends PERSISTENT RESERVE OUT and returns the status and the sense.
func (w *wire) reserve(action, kind byte, key, newKey uint64, flags byte) (byte, []byte) {
	w.Helper()
	w.command([]byte{0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0}, 24, reservation(key, newKey, flags), writes)
	status, _, sense := w.result()
	return status, sense
}

func (w *wire) status(cdb []byte, data string) byte {
	w.Helper()
	flags := byte(reads)
	if data != "" {
		flags = writes
	}
	w.command(cdb, 512, data, flags)
	status, _, _ := w.result()
	return status
}

// TestReservationTypes says for each type who may read and write.
func TestReservationTypes(t *testing.T) {
	block := strings.Repeat("x", 512)
	for _, test := range []struct {
		kind                        byte
		memberReads, memberWrites   byte
		strangerReads, strangerKeys byte // strangers never write
	}{
		{1, 0, 0x18, 0, 0}, {3, 0x18, 0x18, 0x18, 0}, {5, 0, 0, 0, 0}, {6, 0, 0, 0x18, 0},
		{7, 0, 0, 0, 0}, {8, 0, 0, 0x18, 0},
	} {
		address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
		holder, member, stranger := enter(t, address, iqn, 1), enter(t, address, iqn, 2), enter(t, address, iqn, 3)
		for i, w := range []*wire{holder, member} {
			if status, _ := w.reserve(0, 0, 0, uint64(i+1), 0); status != 0 {
				t.Fatalf("register: %#x", status)
			}
		}
		if status, _ := stranger.reserve(1, test.kind, 9, 0, 0); status != 0x18 {
			t.Errorf("a stranger reserves: %#x", status)
		}
		if status, _ := holder.reserve(1, test.kind, 1, 0, 0); status != 0 {
			t.Errorf("reserve: %#x", status)
		}
		got := []byte{
			holder.status(cdb10(0x28, 0, 1), ""), holder.status(cdb10(0x2a, 0, 1), block),
			member.status(cdb10(0x28, 0, 1), ""), member.status(cdb10(0x2a, 0, 1), block),
			stranger.status(cdb10(0x28, 0, 1), ""), stranger.status(cdb10(0x2a, 0, 1), block),
		}
		want := []byte{0, 0, test.memberReads, test.memberWrites, test.strangerReads, 0x18}
		if string(got) != string(want) {
			t.Errorf("type %d: got %x, want %x", test.kind, got, want)
		}
	}
}

func TestPreempt(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	a, b := enter(t, address, iqn, 1), enter(t, address, iqn, 2)
	a.reserve(0, 0, 0, 1, 0)
	b.reserve(0, 0, 0, 2, 0)
	a.reserve(1, 3, 1, 0, 0)
	if status, _ := b.reserve(4, 1, 2, 1, 0); status != 0 {
		t.Fatalf("preempt: %#x", status)
	}
	a.fails(0x6, 0x2a05, []byte{0})
	if status := a.status(cdb10(0x2a, 0, 1), strings.Repeat("x", 512)); status != 0x18 {
		t.Errorf("the preempted writes: %#x", status)
	}
	if got := b.read([]byte{0x5e, 1, 0, 0, 0, 0, 0, 0, 255, 0}, 255); len(got) != 24 || got[15] != 2 || got[21] != 1 {
		t.Errorf("read reservation: %x", got)
	}
	if status, _ := a.reserve(0, 0, 0, 1, 1); status != 2 {
		t.Errorf("reservations are said to be kept, and there is nothing to keep them: %#x", status)
	}
}

// TestReservationsLast has them outlive the session, and the server where the
// initiator asks for it.
func TestReservationsLast(t *testing.T) {
	for _, flags := range []byte{0, 1} {
		store := &kept{state: map[string][]byte{}}
		s := newShelf(t, testSize)
		address, stop := serve(t, iscsi.Config{Targets: s, Reservations: store})
		w := enter(t, address, iqn, 1)
		w.reserve(0, 0, 0, 7, flags)
		w.reserve(1, 3, 7, 0, 0)
		w.Close()
		other := enter(t, address, iqn, 2)
		if status := other.status(cdb10(0x28, 0, 1), ""); status != 0x18 {
			t.Errorf("a logout ended the reservation: %#x", status)
		}
		stop()
		address, _ = serve(t, iscsi.Config{Targets: s, Reservations: store})
		other = enter(t, address, iqn, 2)
		if status, want := other.status(cdb10(0x28, 0, 1), ""), 0x18*flags; status != want {
			t.Errorf("after a restart, APTPL=%d: %#x, want %#x", flags, status, want)
		}
	}
}

// TestReservationsForgotten: what is taken away from a unit's hosts keeps out nobody who
// logs in from then on, whether it was to be kept or not.
func TestReservationsForgotten(t *testing.T) {
	for _, flags := range []byte{0, 1} {
		store := &kept{state: map[string][]byte{}}
		s := newShelf(t, testSize)
		address, _ := serve(t, iscsi.Config{Targets: s, Reservations: store})
		const unit = "a volume"
		before := enter(t, address, iqn, 1)
		before.reserve(0, 0, 0, 7, flags)
		before.reserve(1, 3, 7, 0, 0)
		state := iscsi.Forgotten("2")
		if err := store.SaveReservations(t.Context(), unit, state); err != nil {
			t.Fatal(err)
		}
		after := enter(t, address, iqn, 2)
		if status := after.status(cdb10(0x28, 0, 1), ""); status != 0 {
			t.Errorf("a reservation that was taken away keeps others out, APTPL=%d: %#x", flags, status)
		}
		before.Close()
		after.reserve(0, 0, 0, 8, 1)
		after.reserve(1, 3, 8, 0, 0)
		if third := enter(t, address, iqn, 3); third.status(cdb10(0x28, 0, 1), "") != 0x18 {
			t.Error("a new reservation does not hold")
		}
		if kept, _ := store.LoadReservations(t.Context(), unit); iscsi.EraOf(kept) != "2" {
			t.Errorf("the state that is kept is of another era: %s", kept)
		}
	}
}

// TestCompareAndWriteIsAtomic has sessions count in one block.
func TestCompareAndWriteIsAtomic(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	const each = 50
	var all sync.WaitGroup
	for port := range byte(3) {
		w := enter(t, address, iqn, port+1)
		all.Go(func() {
			cdb := make([]byte, 16)
			cdb[0], cdb[13] = 0x89, 1
			for done := 0; done < each; {
				old := w.read(cdb10(0x28, 0, 1), 512)
				count := append([]byte(nil), old...)
				binary.BigEndian.PutUint32(count, binary.BigEndian.Uint32(count)+1)
				w.command(cdb, 1024, string(old)+string(count), writes)
				switch status, _, sense := w.result(); {
				case status == 0:
					done++
				case sense[2] != 0xe:
					t.Errorf("sense %x", sense)
					return
				}
			}
		})
	}
	all.Wait()
	want := make([]byte, 4)
	binary.BigEndian.PutUint32(want, 3*each)
	s.Holds(t, 0, want)
}
