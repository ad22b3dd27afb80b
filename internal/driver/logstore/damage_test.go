package logstore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// TestDamageIsFoundAndHealed flips a bit of data, then of a header, in a full
// segment: scrub and check say which volume and range, reads fail, and a
// healer's bytes come back for good.
func TestDamageIsFoundAndHealed(t *testing.T) {
	ctx := context.Background()
	for name, delta := range map[string]int64{"data": headerSize + 4 + 9, "header": 20} {
		mem := vfs.NewMem(1<<30, nil)
		s, err := Open(ctx, crashOptions(mem, nil))
		must(t, err)
		must(t, s.CreateVolume(ctx, "v", crashSize))
		d, err := s.OpenVolume(ctx, "v")
		must(t, err)
		p := randomBytes(rand.New(rand.NewPCG(1, 1)), blockSize)
		at := s.log.now()
		for i := range int64(40) {
			_, err := d.WriteAt(p, i*blockSize)
			must(t, err)
		}
		f, err := mem.Open(segmentName("s", at.segment))
		must(t, err)
		_, err = f.WriteAt([]byte{0xee}, at.off+delta)
		must(t, err)
		var seen []Damage
		found, err := s.Scrub(ctx, Watch{Found: func(g Damage) { seen = append(seen, g) }})
		must(t, err)
		hit := false
		for _, g := range seen {
			hit = hit || g.Volume == "v" && g.Extent.Off == 0 && g.Segment == at.segment
		}
		if found == 0 || found != len(seen) || !hit {
			t.Errorf("%s: found %d: %+v", name, found, seen)
		}
		got := make([]byte, blockSize)
		if name == "header" { // the blocks behind it are whole: they were written again
			if st := s.Status(); st.Damaged != 0 || st.Healed != int64(found) {
				t.Errorf("header: %d damaged, %d of %d healed", st.Damaged, st.Healed, found)
			}
		} else {
			if !block.Is(s.Check(ctx), block.Corrupt) || s.Status().Damaged != 1 {
				t.Errorf("damage without a copy: %+v", s.Damages())
			}
			if _, err := d.ReadAt(got, 0); !block.Is(err, block.Corrupt) {
				t.Errorf("a damaged block was served: %v", err)
			}
			s.healer = func(_ context.Context, want Lost) ([]byte, error) {
				if !slices.Equal(want.Volumes, []block.VolumeID{"v"}) || want.Off != 0 || want.CRC != blockCRC(p) {
					t.Errorf("asked for %+v", want)
				}
				return p, nil
			}
			_, err = d.ReadAt(got, 0)
			must(t, err)
			s.healer = nil
		}
		if _, err = d.ReadAt(got, 0); err != nil || !bytes.Equal(got, p) || len(s.Damages()) != 0 {
			t.Errorf("%s: not healed for good: %v", name, err)
		}
		must(t, s.Check(ctx))
		must(t, d.Close())
		s.release()
	}
}

// TestSpaceGoesBack fills and empties a store: its files go back to the file
// system but for a small reserve.
func TestSpaceGoesBack(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, crashOptions(vfs.NewMem(1<<30, nil), nil))
	must(t, s.pool.wait(readyTarget))
	must(t, s.CreateVolume(ctx, "v", 40*crashSegment))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	p := randomBytes(rand.New(rand.NewPCG(1, 1)), blockSize)
	for i := range int64(30 * crashSegment / blockSize) {
		_, err := d.WriteAt(p, i*blockSize)
		must(t, err)
	}
	full := s.Status().Segments
	must(t, d.Close())
	must(t, s.DeleteVolume(ctx, "v"))
	must(t, s.sweepAll(ctx))
	must(t, s.reclaimWhenDue(ctx))
	if n := s.Status().Segments; full < 30 || n > 2*readyTarget+3 {
		t.Errorf("%d segments when full, %d when empty", full, n)
	}
}
