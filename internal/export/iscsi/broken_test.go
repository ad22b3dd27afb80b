package iscsi_test

import (
	"log/slog"
	"strings"
	"testing"

	"kvol/internal/driver"
	"kvol/internal/export/iscsi"
)

// torn is a device whose first block can't be read without a panic.
type torn struct{ driver.Device }

func (d torn) ReadAt(p []byte, off int64) (int, error) {
	if off == 0 {
		panic("torn")
	}
	return d.Device.ReadAt(p, off)
}

// TestPanicEndsItsSession: a command that panics, with a worker or with the
// reader, ends its own session; the server goes on with others.
func TestPanicEndsItsSession(t *testing.T) {
	s := newShelf(t, testSize)
	s.Device = torn{s.Device}
	address, _ := serve(t, iscsi.Config{Targets: s, Log: slog.New(slog.DiscardHandler)})
	other := enter(t, address, iqn, 2)
	for _, blocks := range []uint16{1, 2048} {
		p := newPort(t, address, "2")
		sn := p.first.cmdSN
		second := p.add(1, sn)
		second.at(sn).command(cdb10(0x28, 0, blocks), int(blocks)*512, "", reads)
		second.gone()
		p.first.gone()
		other.read(cdb10(0x28, 8, 1), 512)
	}
}

// TestDataWithoutTheBit has commands that bring data say that they bring none.
func TestDataWithoutTheBit(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1)
	w.write(cdb10(0x2a, 0, 8), strings.Repeat("x", 8*512))
	for _, flags := range []byte{reads, 0x80} {
		for _, blocks := range []byte{1, 255} { // what the input buffer has, and more than that
			cdb := make([]byte, 16)
			cdb[0], cdb[13] = 0x89, blocks
			w.command(cdb, 2*int(blocks)*512, "", flags)
			if status, _, sense := w.result(); status != 2 || sense[2] != 5 {
				t.Errorf("flags %#x, %d blocks: status %#x, sense %x", flags, blocks, status, sense)
			}
		}
		for _, cdb := range [][]byte{cdb10(0x2a, 0, 8), cdb10(0x41, 0, 8), cdb16(0x8b, 0, 0, 8)} {
			w.command(cdb, 512, "", flags)
			if status, _, sense := w.result(); status != 2 || sense[2] != 5 {
				t.Errorf("flags %#x, %x: status %#x, sense %x", flags, cdb, status, sense)
			}
		}
	}
	s.Holds(t, 0, []byte(strings.Repeat("x", 8*512)))
}
