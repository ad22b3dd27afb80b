package rbd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// export writes a difference as `rbd export-diff` does.
type export struct{ bytes.Buffer }

func newExport(size int64) *export {
	e := &export{}
	e.WriteString(exportBanner + "f\x02\x00\x00\x00aat\x01\x00\x00\x00bs")
	e.number(size)
	return e
}

func (e *export) number(n int64) { e.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }

func (e *export) record(tag byte, off, length int64, data []byte) {
	e.WriteByte(tag)
	e.number(off)
	e.number(length)
	e.Write(data)
}

// pieces reads an export, and holds what it yields to what a DiffReader promises.
func pieces(t *testing.T, text []byte, size int64) (all []driver.Piece, err error) {
	t.Helper()
	at := int64(0)
	x := exported{r: bufio.NewReader(bytes.NewReader(text)), size: size, yield: func(p driver.Piece) bool {
		if p.Len <= 0 || p.Off < at || p.End() > size || p.Off%kib4 != 0 || p.Len%kib4 != 0 && p.End() != size {
			t.Fatalf("piece %+v after %d of %d", p.Extent, at, size)
		}
		if p.Data != nil && (p.Zero || int64(len(p.Data)) != p.Len || p.Len > driver.MaxPiece) {
			t.Fatalf("piece %+v has %d bytes", p.Extent, len(p.Data))
		}
		at = p.End()
		all = append(all, p)
		return true
	}}
	err = x.read()
	return all, err
}

// TestReadExport draws changes in whole and in parts of blocks, and wants each of
// them in a piece: with its bytes, as zeros, or to be read.
func TestReadExport(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 3))
	for round := range 40 {
		size := int64(600*kib4 - round%2*100)
		was, now := make([]byte, size), make([]byte, size)
		for i := range was {
			was[i] = byte(i * 7)
		}
		copy(now, was)
		e := newExport(size)
		for at := rnd.Int64N(9000); at < size; {
			unit := []int64{1, kib4}[rnd.IntN(2)]
			at = min((at+unit-1)/unit*unit, size)
			n := min((1+rnd.Int64N(300*kib4)/unit)*unit, size-at)
			if rnd.IntN(3) == 0 {
				clear(now[at:][:n])
				e.record('z', at, n, nil)
			} else {
				for i := range now[at:][:n] {
					now[at:][i] = byte(i*5 + round)
				}
				e.record('w', at, n, now[at:][:n])
			}
			at += n + rnd.Int64N(2)*rnd.Int64N(9000)
		}
		e.WriteByte('e')
		all, err := pieces(t, e.Bytes(), size)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			copy(was[p.Off:p.End()], now[p.Off:p.End()])
			if p.Data != nil && !bytes.Equal(p.Data, now[p.Off:p.End()]) || p.Zero && !driver.IsZero(now[p.Off:p.End()]) {
				t.Fatalf("round %d: piece %+v is not what was written", round, p.Extent)
			}
		}
		if !bytes.Equal(was, now) {
			t.Fatalf("round %d: a change is in no piece", round)
		}
	}
}

// TestReadExportWrong: what is cut short, of another size, out of order or no
// difference at all is an error.
func TestReadExportWrong(t *testing.T) {
	const size = 16 * kib4
	whole := newExport(size)
	whole.record('w', 0, kib4, make([]byte, kib4))
	whole.WriteByte('e')
	if _, err := pieces(t, whole.Bytes(), size); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if _, err := pieces(t, whole.Bytes()[:n], size); !block.Is(err, block.Unavailable) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	if _, err := pieces(t, append(whole.Bytes(), 'e'), size); !block.Is(err, block.Unavailable) {
		t.Errorf("with something behind it: %v", err)
	}
	if _, err := pieces(t, whole.Bytes(), 2*size); !block.Is(err, block.Unavailable) {
		t.Errorf("of another size: %v", err)
	}
	behind := newExport(size)
	behind.record('z', size-kib4, 2*kib4, nil)
	if _, err := pieces(t, behind.Bytes(), size); !block.Is(err, block.Unavailable) {
		t.Errorf("beyond the end: %v", err)
	}
	back := newExport(size)
	back.record('z', 2*kib4, kib4, nil)
	back.record('z', kib4, kib4, nil)
	if _, err := pieces(t, back.Bytes(), size); !errors.Is(err, errDisorder) {
		t.Errorf("out of order: %v", err)
	}
}

// TestScattered: small changes near to each other are not read one by one to the end;
// others are.
func TestScattered(t *testing.T) {
	for _, c := range []struct {
		length, stride int64
		scattered      bool
	}{{kib4, 10 * kib4, true}, {kib4, 100 * kib4, false}, {8 * kib4, 9 * kib4, false}} {
		const records = 600
		size := records * c.stride
		e := newExport(size)
		for i := range int64(records) {
			e.record('w', i*c.stride, c.length, make([]byte, c.length))
		}
		e.WriteByte('e')
		all, err := pieces(t, e.Bytes(), size)
		if errors.Is(err, errScattered) != c.scattered || c.scattered != (len(all) < records) {
			t.Errorf("%d bytes in each %d: %d pieces, %v", c.length, c.stride, len(all), err)
		}
	}
}

// FuzzReadExport wants pieces that keep a DiffReader's promises from whatever is
// written.
func FuzzReadExport(f *testing.F) {
	e := newExport(8 * kib4)
	e.record('w', 100, 5000, make([]byte, 5000))
	e.record('z', 3*kib4, 2*kib4, nil)
	e.WriteByte('e')
	f.Add(e.Bytes(), int64(8*kib4))
	f.Add([]byte(exportBanner+"w\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x7f"), int64(kib4))
	f.Fuzz(func(t *testing.T, text []byte, size int64) {
		_, _ = pieces(t, text, size&(1<<40-1)&^(kib4-1)) // most of them are no difference
	})
}
