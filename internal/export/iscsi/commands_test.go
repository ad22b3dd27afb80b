package iscsi_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

// refused expects a command with data to fail with a sense, which it returns.
func (w *wire) refused(key byte, code uint16, cdb []byte, data string) []byte {
	w.Helper()
	w.command(cdb, len(data), data, writes)
	status, _, sense := w.result()
	if status != 2 || sense[2] != key || binary.BigEndian.Uint16(sense[12:]) != code {
		w.Fatalf("%x: status %#x, sense %x, want %#x/%#04x", cdb, status, sense, key, code)
	}
	return sense
}

func cdb16(code, flags byte, lba uint64, blocks uint32) []byte {
	b := make([]byte, 16)
	b[0], b[1] = code, flags
	binary.BigEndian.PutUint64(b[2:], lba)
	binary.BigEndian.PutUint32(b[10:], blocks)
	return b
}

// vital asks for a page of vital product data.
func (w *wire) vital(page byte) []byte {
	w.Helper()
	return w.read([]byte{0x12, 1, page, 0, 0xff, 0}, 255)
}

// TestVitalPages reads the pages that SPC-4 and SBC-3 have (7.8 and 6.6).
func TestVitalPages(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	w := enter(t, address, iqn, 1)
	if got := w.vital(0); !bytes.Equal(got, []byte{0, 0, 0, 6, 0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2}) {
		t.Errorf("supported pages: %x", got)
	}
	for _, page := range []byte{0x80, 0x83, 0xb0, 0xb1, 0xb2} {
		if got := w.vital(page); got[0] != 0 || got[1] != page || int(binary.BigEndian.Uint16(got[2:])) != len(got)-4 {
			t.Errorf("page %#x: %x", page, got)
		}
	}
	if got := string(w.vital(0x80)[4:]); got != "a volume" {
		t.Errorf("the serial number is %q", got)
	}
	names := w.vital(0x83)[4:]
	if names[0] != 1 || names[1] != 3 || names[3] != 8 || names[4]>>4 != 3 || names[12] != 2 || names[13] != 1 ||
		string(names[16:]) != "KVOL    a volume" || int(names[15]) != len(names)-16 {
		t.Errorf("the unit's names are %x", names)
	}
	limits := w.vital(0xb0)[4:]
	be := binary.BigEndian
	if len(limits) != 60 || limits[1] != 255 || be.Uint16(limits[2:]) != 8 || be.Uint32(limits[4:]) != 32<<20/512 ||
		be.Uint32(limits[20:]) != 256 || be.Uint32(limits[24:]) != 8 || be.Uint64(limits[32:]) != 1<<30/512 {
		t.Errorf("the block limits are %x", limits)
	}
	if got := w.vital(0xb1)[4:]; len(got) != 60 || be.Uint16(got) != 1 {
		t.Errorf("the characteristics are %x", got)
	}
	if got := w.vital(0xb2)[4:]; !bytes.Equal(got, []byte{0, 0xe4, 2, 0}) {
		t.Errorf("the provisioning is %x", got)
	}
	if got := w.read([]byte{0x12, 1, 0xb0, 0, 6, 0}, 6); len(got) != 6 || got[3] != 60 {
		t.Errorf("six bytes of the block limits: %x", got)
	}
	w.fails(0x5, 0x2400, []byte{0x12, 1, 0x86, 0, 0xff, 0})
	w.fails(0x5, 0x2400, []byte{0x12, 0, 0x80, 0, 0xff, 0}) // a page that is no vital one
	if got := w.read([]byte{0x12, 0, 0, 0, 96, 0}, 96); string(got[8:16]) != "KVOL    " || got[2] != 6 || got[4] != 91 {
		t.Errorf("standard data: %x", got)
	}
}

// TestModePages reads the caching and the control page, and changes what may be
// changed of them.
func TestModePages(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	w, other := enter(t, address, iqn, 1), enter(t, address, iqn, 2)
	caching := append([]byte{0x08, 18, 4}, make([]byte, 17)...)
	control := []byte{0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}
	blocks := []byte{0, 2, 0, 0, 0, 0, 2, 0} // 64 MiB in blocks of 512
	sense := func(cdb []byte, want ...[]byte) {
		t.Helper()
		if got := w.read(cdb, 255); !bytes.Equal(got, bytes.Join(want, nil)) {
			t.Errorf("%x: %x", cdb, got)
		}
	}
	sense([]byte{0x1a, 0, 0x08, 0, 0xff, 0}, []byte{31, 0, 0x10, 8}, blocks, caching)
	sense([]byte{0x1a, 8, 0x0a, 0, 0xff, 0}, []byte{15, 0, 0x10, 0}, control)
	sense([]byte{0x1a, 8, 0x3f, 0, 0xff, 0}, []byte{35, 0, 0x10, 0}, caching, control)
	sense([]byte{0x5a, 8, 0x0a, 0, 0, 0, 0, 0, 0xff, 0}, []byte{0, 18, 0, 0x10, 0, 0, 0, 0}, control)
	sense([]byte{0x1a, 8, 0x4a, 0, 0xff, 0}, []byte{15, 0, 0x10, 0}, []byte{0x0a, 10, 4, 0, 8, 0, 0, 0, 0, 0, 0, 0})
	w.fails(0x5, 0x3900, []byte{0x1a, 0, 0xca, 0, 0xff, 0}) // saved values
	w.fails(0x5, 0x2400, []byte{0x1a, 0, 0x1c, 0, 0xff, 0})
	w.fails(0x5, 0x2400, []byte{0x1a, 0, 0x0a, 1, 0xff, 0}) // a subpage

	protect := bytes.Clone(control)
	protect[4] = 8
	change := func(page []byte) ([]byte, string) {
		data := append([]byte{0, 0, 0, 0}, page...)
		return []byte{0x15, 0x10, 0, 0, byte(len(data)), 0}, string(data)
	}
	w.write(change(protect))
	sense([]byte{0x1a, 8, 0x4a & 0x3f, 0, 0xff, 0}, []byte{15, 0, 0x90, 0}, protect)
	other.fails(0x6, 0x2a01, []byte{0}) // parameters changed
	for _, session := range []*wire{w, other} {
		session.refused(0x7, 0x2700, cdb10(0x2a, 0, 1), strings.Repeat("x", 512))
	}
	w.write(change(control))
	w.write(cdb10(0x2a, 0, 1), strings.Repeat("x", 512))
	long := append(make([]byte, 8), control...)
	w.write([]byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, byte(len(long)), 0}, string(long))

	cdb, data := change(append([]byte{0x0a, 10, 0, 0x20}, make([]byte, 8)...)) // its order can't change
	w.refused(0x5, 0x2600, cdb, data)
	cdb, data = change([]byte{0x0a, 9, 0, 0x10})
	w.refused(0x5, 0x1a00, cdb, data)
	cdb, data = change(append([]byte{0x1c, 10}, make([]byte, 10)...))
	w.refused(0x5, 0x2600, cdb, data)
	cdb, data = change(control)
	cdb[1] |= 1 // to be saved
	w.refused(0x5, 0x2400, cdb, data)

	descriptors := bytes.Clone(control)
	descriptors[2] = 4
	w.write(change(descriptors))
	w.command([]byte{0xff}, 0, "", 0x80)
	if _, _, got := w.result(); got[0] != 0x72 || got[1] != 5 || got[2] != 0x20 {
		t.Errorf("sense with descriptors: %x", got)
	}
}

// TestWriteSame writes one block to many places, and zeros that bring no block.
func TestWriteSame(t *testing.T) {
	const size = 2 << 30
	s := newShelf(t, size)
	address, _ := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1)
	one, zeros := string(exporttest.Fill(9, 512)), strings.Repeat("\x00", 512)
	w.write(cdb10(0x41, 3, 5), one)
	s.Holds(t, 2*512, []byte(zeros+strings.Repeat(one, 5)+zeros))
	w.write(cdb16(0x93, 0, 4000, 3000), one) // more than is written at once
	s.Holds(t, 3999*512, []byte(zeros+strings.Repeat(one, 3000)+zeros))
	w.write(cdb16(0x93, 8, 4001, 2), zeros) // UNMAP: reads return what was sent
	s.Holds(t, 4000*512, []byte(one+zeros+zeros+one))
	w.write(cdb16(0x93, 8, 4004, 1), one)
	s.Holds(t, 4003*512, []byte(one+one+one))
	w.write(cdb16(0x93, 1, 4010, 2), "") // NDOB
	s.Holds(t, 4009*512, []byte(one+zeros+zeros+one))
	w.write(cdb10(0x41, size/512-3, 0), one) // to the end
	s.Holds(t, size-4*512, []byte(zeros+one+one+one))

	w.refused(0x5, 0x2100, cdb16(0x93, 0, size/512-1, 2), one)
	w.refused(0x5, 0x2400, cdb16(0x93, 0, 0, 1<<21+1), one) // more than block limits say
	w.refused(0x5, 0x2400, cdb16(0x93, 0, 0, 0), one)       // which that is too
	w.refused(0x5, 0x2400, cdb16(0x93, 0x18, 0, 1), one)    // ANCHOR
	w.refused(0x5, 0x2400, cdb16(0x93, 0x20, 0, 1), one)    // protection information
	w.refused(0x5, 0x2400, cdb16(0x93, 0, 0, 2), one+one)
	w.refused(0x5, 0x2400, cdb10(0x41, 0, 2), "")
	s.Holds(t, 0, make([]byte, 512))
}

// TestCompareAndWrite writes where the device has what is expected, and tells
// where it has not.
func TestCompareAndWrite(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1)
	compare := func(lba uint64, blocks byte) []byte {
		b := cdb16(0x89, 0, lba, 0)
		b[13] = blocks
		return b
	}
	zeros := strings.Repeat("\x00", 1024)
	first, second := string(exporttest.Fill(1, 1024)), string(exporttest.Fill(2, 1024))
	w.write(compare(8, 2), zeros+first)
	s.Holds(t, 8*512, []byte(first))
	w.write(compare(8, 2), first+second)
	s.Holds(t, 7*512, []byte(zeros[:512]+second+zeros[:512]))

	off := []byte(second)
	off[700] ^= 1
	sense := w.refused(0xe, 0x1d00, compare(8, 2), string(off)+first)
	if sense[0] != 0xf0 || binary.BigEndian.Uint32(sense[3:]) != 700 {
		t.Errorf("where it differs is told by %x", sense)
	}
	s.Holds(t, 8*512, []byte(second))
	w.write(compare(8, 0), "")
	w.refused(0x5, 0x2400, compare(8, 2), second) // without what to write
	w.refused(0x5, 0x2100, compare(testSize/512-1, 2), zeros+first)
	many := strings.Repeat("\x00", 60*512)
	w.write(compare(100, 60), many+many)
	s.Holds(t, 8*512, []byte(second))
}
