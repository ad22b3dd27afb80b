package logstore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
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
		found, err := s.Scrub(ctx, 0)
		must(t, err)
		hit := false
		for _, g := range s.Damages() {
			hit = hit || g.Volume == "v" && g.Extent.Off == 0 && g.Segment == at.segment
		}
		if found == 0 || !hit || !block.Is(s.Check(ctx), block.Corrupt) || s.Status().Damaged == 0 {
			t.Errorf("%s: found %d: %+v", name, found, s.Damages())
		}
		got := make([]byte, blockSize)
		if name == "data" {
			if _, err := d.ReadAt(got, 0); !block.Is(err, block.Corrupt) {
				t.Errorf("a damaged block was served: %v", err)
			}
			s.healer = func(context.Context, block.VolumeID, driver.Extent) ([]byte, error) { return p, nil }
			_, err = d.ReadAt(got, 0)
			must(t, err)
			s.healer = nil
			if _, err = d.ReadAt(got, 0); err != nil || !bytes.Equal(got, p) || s.Status().Healed != 1 {
				t.Errorf("not healed for good: %v", err)
			}
			must(t, s.Check(ctx))
		}
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
