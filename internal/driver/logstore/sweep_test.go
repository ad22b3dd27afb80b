package logstore

import (
	"context"
	"testing"

	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// TestSweepLeavesLaterMarksAlone takes a snapshot between the moment at which
// the sweeper listed the marks and its work: the epoch that begins with it must
// not be joined with the one that the snapshot sees. The same sweep without
// that bound shows what would happen.
func TestSweepLeavesLaterMarksAlone(t *testing.T) {
	for _, bounded := range []bool{true, false} {
		if kept := sweepAroundSnapshot(t, bounded); kept != bounded {
			t.Errorf("with the bound %v the snapshot kept its content: %v", bounded, kept)
		}
	}
}

func sweepAroundSnapshot(t *testing.T, bounded bool) (kept bool) {
	ctx := context.Background()
	s, err := Open(ctx, crashOptions(vfs.NewMem(1<<30, nil), nil))
	must(t, err)
	defer func() {
		must(t, s.Check(ctx))
		must(t, s.Close())
	}()
	must(t, s.CreateVolume(ctx, "v", crashSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	defer func() { must(t, d.Close()) }()
	fill := func(value byte) {
		p := make([]byte, blockSize)
		p[0] = value
		_, err := d.WriteAt(p, 0)
		must(t, err)
	}
	fill(1)
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "first"}))
	fill(2)
	s.mu.Lock()
	br := s.volumes["v"].branch
	br.soil(br.last(), head)
	s.dirty[br] = struct{}{}
	s.mu.Unlock()
	g, _ := s.nextGap()
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "later"}))
	fill(3)
	if !bounded {
		g.to = head
	}
	must(t, s.sweepGap(ctx, g))
	r, err := s.OpenSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "later"})
	must(t, err)
	defer func() { must(t, r.Close()) }()
	got := make([]byte, blockSize)
	_, err = r.ReadAt(got, 0)
	must(t, err)
	return got[0] == 2
}
