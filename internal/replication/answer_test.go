package replication

import (
	"context"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// answerless is a Target of which the first answer to a commit is lost.
type answerless struct {
	Target
	lost *bool
}

func (a answerless) Commit(ctx context.Context, c Commit) (block.Point, error) {
	p, err := a.Target.Commit(ctx, c)
	if err == nil && !*a.lost {
		*a.lost = true
		return p, block.Errorf(block.Unavailable, "the answer was lost")
	}
	return p, err
}

// TestLostAnswerThenDeletedSnapshot has the answer to the first of two steps
// lost, which leads to a tenant's snapshot, and the tenant delete that snapshot
// before the target is asked what it has: it is the base of all that follows, and
// must be kept until then.
func TestLostAnswerThenDeletedSnapshot(t *testing.T) {
	w := newWorld(t, 1, openCatalogs(t, "a", "b"))
	a, b := w.zones["a"], w.zones["b"]
	w.protect("a", "b", "gold")
	b.start(0)
	a.start(0)
	p := &play{world: w, a: a, names: map[block.VolumeID][]block.SnapshotID{}}
	id := a.volume("gold", 16)
	a.write(id, 4096, []byte("hello"))
	p.snapshot(id)
	a.write(id, 0, []byte("and more"))
	lost := false
	a.sender.wrap = func(t Target) Target { return answerless{t, &lost} }
	pass := func() {
		if err := a.sender.pass(a.proc.ctx); err != nil {
			t.Fatal(err)
		}
		w.advance(10 * time.Second)
	}
	pass()
	base := block.PointID(p.names[id][0])
	p.unsnapshot(id)
	b.proc.mu.Lock()
	b.proc.dead = true // so that the next visit does not reach it
	b.proc.mu.Unlock()
	pass()
	b.start(0)
	for range 8 {
		pass()
	}
	if !lost || p.bad != nil {
		t.Fatal(lost, p.bad)
	}
	var points []block.Point
	b.view(func(tx *catalog.Tx) error {
		all, err := tx.Replicas("a")
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		points, err = tx.Points(all[0].ID)
		return err
	})
	if n := len(points); n == 0 || points[n-1].Parent != base {
		t.Errorf("of the points %v the newest carried the whole volume again", points)
	}
	have, err := a.store.Snapshots(context.Background(), id)
	if err != nil || len(have) != 1 {
		t.Errorf("the source keeps %v, %v; want the confirmed point alone", have, err)
	}
	if err := b.check(); err != nil {
		t.Error(err)
	}
	a.sender.stop()
	a.proc.end()
	b.proc.end()
}
