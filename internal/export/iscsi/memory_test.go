package iscsi_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

// TestTaskSetFull: a write for whose data there is no room is refused before any
// is asked for, and what was sent unasked is dropped.
func TestTaskSetFull(t *testing.T) {
	const most = 32 << 20
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s, Limits: iscsi.Limits{InFlightBytes: most}})
	w := enter(t, address, iqn, 1, "InitialR2T=No")
	w.command(cdb16(0x8a, 0, 0, most/512), most, "", writes)
	r2t := w.r2t()
	for range 10 {
		w.command(cdb10(0x2a, 0, 8), 4096, "", writes)
		if status, _, _ := w.result(); status != 0x28 {
			t.Fatalf("status %#x", status)
		}
	}
	w.command(cdb10(0x2a, 0, 8), 4096, "", 0x20) // data follows
	var h [48]byte
	h[0], h[1] = 0x05, 0x80
	binary.BigEndian.PutUint32(h[16:], w.tag)
	binary.BigEndian.PutUint32(h[20:], noTag)
	w.send(h, strings.Repeat("x", 4096))
	if status, _, _ := w.result(); status != 0x28 {
		t.Fatalf("with unsolicited data: status %#x", status)
	}
	w.write(cdb10(0x2a, 0, 1), strings.Repeat("y", 512)) // what came whole is taken
	w.manage(abortTask, binary.BigEndian.Uint32(r2t[16:]))
	w.managed()
	w.command(cdb10(0x2a, 8, 8), 4096, "", writes)
	w.give(w.r2t(), strings.Repeat("z", 4096), true)
	if status, _, _ := w.result(); status != 0 {
		t.Fatalf("when there is room again: status %#x", status)
	}
	s.Holds(t, 0, []byte(strings.Repeat("y", 512)+strings.Repeat("\x00", 7*512)+strings.Repeat("z", 4096)))
}

// TestReadsTakeWhatTheyAreCharged: a read that the initiator takes little of
// needs little memory, and tells how much there would have been.
func TestReadsTakeWhatTheyAreCharged(t *testing.T) {
	const most, readers = 32 << 20, 64
	s := newShelf(t, testSize)
	content := exporttest.Fill(4, 1024)
	if _, err := s.Device.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	address, _ := serve(t, iscsi.Config{Targets: s, Limits: iscsi.Limits{InFlightBytes: most}})
	w := enter(t, address, iqn, 1)
	for _, test := range []struct {
		expected, left int
		flags          byte
	}{{700, most - 700, reads}, {0, most, reads}, {0, most, 0x80}} {
		w.command(cdb16(0x88, 0, 0, most/512), test.expected, "", test.flags)
		h, got := w.receive()
		if h[1]&4 == 0 || int(binary.BigEndian.Uint32(h[44:])) != test.left || !bytes.Equal(got, content[:test.expected]) {
			t.Errorf("%d bytes of a long read: %d came, %x", test.expected, len(got), h)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range readers {
		w.command(cdb16(0x88, 0, 0, most/512), 512, "", reads)
	}
	for range readers {
		w.result()
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > most/2 {
		t.Errorf("reads that give %d bytes took %d", readers*512, n)
	}
}
