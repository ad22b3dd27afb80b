package replication

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// inBubble plays with zones a and b and a protection of type gold from a to b.
// The clock is the bubble's.
func inBubble(t *testing.T, play func(t *testing.T, w *world, a, b *zone)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, openCatalogs(t, "a", "b"))
		w.protect("a", "b", "gold")
		a, b := w.zones["a"], w.zones["b"]
		a.rich, b.rich = true, true
		a.start(0)
		b.start(0)
		play(t, w, a, b)
		a.proc.cancel()
		b.proc.cancel()
		a.proc.serve.Wait() // a Sender that runs begins visits until it ends
		a.sender.stop()
		a.proc.end()
		b.proc.end()
	})
}

func (z *zone) link(id block.VolumeID) (l catalog.Link) {
	z.w.t.Helper()
	z.view(func(tx *catalog.Tx) (err error) { l, err = tx.Link(id, 1); return err })
	return l
}

func (z *zone) replica(id block.VolumeID) (r block.Replica) {
	z.w.t.Helper()
	z.view(func(tx *catalog.Tx) (err error) { r, err = tx.ReplicaOf("a", id, 1); return err })
	return r
}

func noise(n int) []byte {
	r, p := rand.New(rand.NewPCG(3, 3)), make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// later makes a pass some time later.
func (z *zone) later(d time.Duration) {
	z.w.t.Helper()
	z.w.advance(d)
	if err := z.sender.pass(z.proc.ctx); err != nil {
		z.w.t.Fatal(err)
	}
}

// TestDeltaAfterOutage: after an outage only what changed is sent, and a step
// that was cut goes on where it was.
func TestDeltaAfterOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		const size = 512 * driver.BlockSize
		id := a.volume("gold", 512)
		a.write(id, 0, noise(size))
		a.later(0)
		full := a.link(id).BytesSent
		if full < size || full > size+size/50 {
			t.Fatalf("%d bytes were sent for %d", full, size)
		}
		b.proc.cancel() // dead for an hour
		b.proc.mu.Lock()
		b.proc.dead = true
		b.proc.mu.Unlock()
		for range 60 {
			a.write(id, 8192, noise(4096))
			a.later(time.Minute)
		}
		if s := a.sender.Status()[0]; s.State != catalog.LinkError || s.LastError == "" || s.UnreplicatedSince.IsZero() ||
			w.clock().Sub(s.ReplicatedTo) != time.Hour {
			t.Errorf("during the outage: %+v", s)
		}
		b.start(0)
		a.later(2 * time.Minute)
		if sent := a.link(id).BytesSent - full; sent > 8192 {
			t.Errorf("%d bytes were sent for one block", sent)
		}
		if err := b.check(); err != nil {
			t.Error(err)
		}
		if s := a.sender.Status()[0]; s.State != catalog.LinkCurrent || s.LastError != "" || !s.UnreplicatedSince.IsZero() {
			t.Errorf("after the outage: %+v", s)
		}
	})
}

// TestResume cuts a full copy in the middle, kills both ends, and sees it go on.
func TestResume(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		const size = 512 * driver.BlockSize
		id := a.volume("gold", 512)
		a.write(id, 0, noise(size/2))
		a.write(id, size*3/4, noise(size/4))
		a.wrap = func(t Target) Target { return &failing{Target: t, runs: 1} }
		a.start(0)
		a.later(0)
		synctest.Wait()
		if p := b.replica(id).Pending; p == nil {
			t.Fatal("nothing is pending")
		}
		before := a.link(id).BytesSent
		a.wrap = nil
		a.start(0)
		b.start(0)
		a.later(time.Minute)
		sent := a.link(id).BytesSent - before
		if b.replica(id).Newest.ID == "" || sent > size*3/4-maxRun+20_000 {
			t.Errorf("%d bytes were sent after %d", sent, before)
		}
		if err := b.check(); err != nil {
			t.Error(err)
		}
	})
}

// failing is a Target that breaks after some runs.
type failing struct {
	Target
	runs int
}

func (f *failing) Write(ctx context.Context, r Run) error {
	if f.runs--; f.runs < 0 {
		return block.Errorf(block.Unavailable, "broken on purpose")
	}
	return f.Target.Write(ctx, r)
}

// TestRun lets the loops run: new volumes are found, idle ones send heartbeats,
// a kick cuts waits short, and what is deleted is deleted there in time.
func TestRun(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		for _, z := range []*zone{a, b} {
			z.sender.cfg.Now, z.receiver.cfg.Now = time.Now, time.Now
			z.receiver.cfg.AfterDelete, z.receiver.cfg.KeepEvery = 40*time.Second, 5*time.Second
			z.proc.serve.Go(func() { _ = z.sender.Run(z.proc.ctx) })
			z.proc.serve.Go(func() { _ = z.receiver.Run(z.proc.ctx) })
		}
		var ids []block.VolumeID
		for range 9 { // more than go at once
			ids = append(ids, a.volume("gold", 8))
		}
		time.Sleep(7 * time.Second)
		for _, id := range ids {
			if r := b.replica(id); r.Newest.ID == "" {
				t.Fatalf("volume %s was not taken up", id)
			}
		}
		time.Sleep(time.Minute)
		if n := len(pointsOf(b, ids[0])); n != 1 {
			t.Errorf("an idle volume got %d points", n)
		}
		if lag := time.Since(b.replica(ids[0]).Current); lag > 7*time.Second {
			t.Errorf("an idle volume lags by %s", lag)
		}
		a.write(ids[1], 0, noise(4096))
		time.Sleep(1500 * time.Millisecond)
		if n := len(pointsOf(b, ids[1])); n != 2 {
			t.Errorf("%d points an interval after a write", n)
		}
		if err := b.check(); err != nil {
			t.Error(err)
		}
		b.proc.mu.Lock()
		b.proc.dead = true // unreachable, not gone
		b.proc.mu.Unlock()
		for _, r := range a.sender.lanes["b"].idle {
			_ = r.Close()
		}
		a.write(ids[2], 0, noise(4096))
		time.Sleep(10 * time.Minute)
		b.proc.mu.Lock()
		b.proc.dead = false
		b.proc.mu.Unlock()
		dials := w.dials
		if dials > 60 {
			t.Errorf("%d dials in ten minutes", dials)
		}
		a.sender.Kick(ids[2])
		time.Sleep(time.Millisecond)
		if n := len(pointsOf(b, ids[2])); n != 2 {
			t.Errorf("%d points after a kick", n)
		}
	})
}

// TestManagedAgain: the end of a link whose volume went takes nothing from a volume
// that has its id since.
func TestManagedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *world, a, b *zone) {
		for _, z := range []*zone{a, b} {
			z.sender.cfg.Now, z.receiver.cfg.Now = time.Now, time.Now
			z.proc.serve.Go(func() { _ = z.sender.Run(z.proc.ctx) })
		}
		id := a.volume("gold", 8)
		time.Sleep(7 * time.Second)
		a.update(func(tx *catalog.Tx) error {
			return errors.Join(tx.VolumeGone(id), tx.InsertCut(id, "new"), tx.Pin(id, "new", "somebody"))
		})
		a.sender.Kick(id)
		time.Sleep(time.Second)
		a.view(func(tx *catalog.Tx) error {
			cuts, err := tx.Cuts(id)
			if !slices.Contains(cuts, "new") {
				t.Errorf("of the volume that is there these cuts are left: %v", cuts)
			}
			links, also := tx.LinksOf(id)
			for _, l := range links {
				if l.Gone {
					t.Error("the link has not ended")
				}
			}
			return errors.Join(err, also)
		})
	})
}

// TestDeletion lets the loops run and deletes a volume: its replica is kept for
// a while, and then goes.
func TestDeletion(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		for _, z := range []*zone{a, b} {
			z.sender.cfg.Now, z.receiver.cfg.Now = time.Now, time.Now
			z.receiver.cfg.AfterDelete, z.receiver.cfg.KeepEvery = 40*time.Second, 5*time.Second
			z.proc.serve.Go(func() { _ = z.sender.Run(z.proc.ctx) })
			z.proc.serve.Go(func() { _ = z.receiver.Run(z.proc.ctx) })
		}
		ids := []block.VolumeID{a.volume("gold", 8), a.volume("gold", 8)}
		time.Sleep(7 * time.Second)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(a.sender, b.receiver)
		families, err := registry.Gather()
		n := 0
		for _, f := range families {
			n += len(f.GetMetric())
		}
		if err != nil || n != 2*4+2*2 {
			t.Errorf("%d series: %v", n, err)
		}
		a.update(func(tx *catalog.Tx) error {
			if err := tx.VolumeGone(ids[1]); err != nil {
				return err
			}
			links, err := tx.LinksOf(ids[1])
			if err != nil {
				return err
			}
			if err := tx.DeleteVolume(ids[1]); err != nil {
				return err
			}
			for _, l := range links { // what a visit that began before writes down after
				if err := tx.InsertCut(ids[1], "late"); err != nil {
					return err
				}
				if err := tx.Pin(ids[1], "late", holderOf(l.Protection)); err != nil {
					return err
				}
			}
			return nil
		})
		gone := b.replica(ids[1]).ID
		a.sender.Kick(ids[1])
		time.Sleep(time.Second)
		if b.replica(ids[1]).DeletedAt.IsZero() {
			t.Error("the target was not told of the deletion")
		}
		a.view(func(tx *catalog.Tx) error {
			pins, err := tx.PinnedPoints(ids[1])
			cuts, also := tx.Cuts(ids[1])
			if len(pins)+len(cuts) > 0 {
				t.Errorf("left are pins %v and cuts %v", pins, cuts)
			}
			return errors.Join(err, also)
		})
		time.Sleep(30 * time.Second)
		if b.replica(ids[1]).ID != gone {
			t.Error("the replica went too early")
		}
		time.Sleep(15 * time.Second)
		for v := range b.store.Volumes(t.Context()) {
			if v.ID == gone {
				t.Error("the replica's bytes are there still")
			}
		}
		all, err := b.receiver.Status(t.Context())
		if err != nil || len(all) != 1 {
			t.Errorf("%d replicas are left, %v", len(all), err)
		}
	})
}

func pointsOf(z *zone, id block.VolumeID) (points []block.Point) {
	r := z.replica(id)
	z.view(func(tx *catalog.Tx) (err error) { points, err = tx.Points(r.ID); return err })
	return points
}

// TestStrangers: who may not send is told so and changes nothing.
func TestStrangers(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *world, a, b *zone) {
		dial := func(as, from block.Zone) (*Remote, error) {
			here, there := net.Pipe()
			b.proc.serve.Go(func() { _ = b.receiver.ServeConn(b.proc.ctx, there, from) })
			return NewRemote(t.Context(), here, as, "b", time.Minute)
		}
		if r, err := dial("a", "c"); err == nil {
			if _, err := r.Offer(t.Context(), Offer{Volume: "v", Protection: 1}); !block.Is(err, block.Forbidden) {
				t.Errorf("a zone under another name: %v", err)
			}
			_ = r.Close()
		}
		for _, o := range []Offer{{Volume: "v", Protection: 2}, {Volume: "v", Protection: 0}} {
			r, err := dial("a", "a")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Offer(t.Context(), o); !block.Is(err, block.Forbidden) {
				t.Errorf("protection %d: %v", o.Protection, err)
			}
			_ = r.Close()
		}
		here, there := net.Pipe()
		a.proc.serve.Go(func() { _ = a.receiver.ServeConn(a.proc.ctx, there, "b") })
		if r, err := NewRemote(t.Context(), here, "b", "c", time.Minute); !block.Is(err, block.Forbidden) {
			t.Error("a zone that is not the one that was meant:", r, err)
		}
	})
}

// TestTakeover: a stream whose source is silent gives way to a newer one.
func TestTakeover(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		id := a.volume("gold", 8)
		a.write(id, 0, bytes.Repeat([]byte{1}, 4096))
		conn, err := a.Replicate(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		old, err := NewRemote(t.Context(), conn, "a", "b", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		if _, err := old.Offer(t.Context(), Offer{Volume: id, Protection: 1, Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		a.later(0)
		if b.replica(id).Newest.ID == "" || time.Since(began) > 0 {
			t.Errorf("the newer stream waited %s", time.Since(began))
		}
		if err := old.Heartbeat(t.Context(), Heartbeat{}); err == nil {
			t.Error("the older stream works still")
		}
	})
}

// TestFencedSource: a promoted target refuses, and the source learns by whom.
func TestFencedSource(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		id := a.volume("gold", 8)
		a.later(0)
		at := block.Recovered{Zone: "b", Volume: "new"}
		b.update(func(tx *catalog.Tx) error { _, err := tx.RaiseEpoch(b.replicaIn(tx, id), at, 1); return err })
		a.write(id, 0, noise(4096))
		a.later(time.Minute)
		if r := a.fenced[id]; r.Zone != "b" || r.Volume != "new" || r.Epoch != 65 {
			t.Errorf("the source was told %+v", r)
		}
		if s := a.sender.Status()[0]; s.State != catalog.LinkFenced {
			t.Errorf("%+v", s)
		}
		if n := len(pointsOf(b, id)); n != 1 {
			t.Errorf("%d points", n)
		}
	})
}

func (z *zone) replicaIn(tx *catalog.Tx, id block.VolumeID) block.VolumeID {
	r, err := tx.ReplicaOf("a", id, 1)
	if err != nil {
		z.w.t.Error(err)
	}
	return r.ID
}

// TestSnapshotDuringCut takes a tenant's snapshot at every driver operation of
// a pass: just before a point is cut it is older than that point, and would
// never be sent if the sender took it for nobody's.
func TestSnapshotDuringCut(t *testing.T) {
	for at := 1; at <= 8; at++ {
		inBubble(t, func(t *testing.T, w *world, a, b *zone) {
			id := a.volume("gold", 16)
			a.write(id, 0, noise(4096))
			var taken block.SnapshotID
			a.proc.mu.Lock()
			a.proc.hookAt, a.proc.hook = a.proc.ops+at, func() { taken = a.snapshotInStore(id) }
			a.proc.mu.Unlock()
			a.later(0)
			a.write(id, 4096, noise(4096))
			a.later(time.Second)
			a.later(time.Second)
			if taken == "" {
				return // the pass has fewer operations
			}
			for _, p := range pointsOf(b, id) {
				if p.Name == string(taken) {
					return
				}
			}
			t.Errorf("the snapshot taken at operation %d is no point of the replica", at)
		})
	}
}

// snapshotInStore takes a tenant's snapshot past the process: its row, then the
// store.
func (z *zone) snapshotInStore(id block.VolumeID) block.SnapshotID {
	z.w.t.Helper()
	snapshot := block.SnapshotID(block.NewID())
	z.update(func(tx *catalog.Tx) error {
		return tx.InsertSnapshot(block.Snapshot{ID: snapshot, VolumeID: id, Size: 1, Status: block.SnapshotCreating})
	})
	ref := driver.SnapshotRef{Volume: id, Name: block.PointID(snapshot)}
	if err := z.store.CreateSnapshot(context.Background(), ref); err != nil {
		z.w.t.Error(err)
	}
	z.remember(ref)
	return snapshot
}
