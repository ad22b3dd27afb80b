package replication

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// hungRoom does not tell its room before it is let go, whatever its context, as the file
// system of a server that is away.
type hungRoom struct {
	driver.Driver
	free chan struct{}
}

func (h hungRoom) Capacity(ctx context.Context) (driver.Capacity, error) {
	<-h.free
	return h.Driver.Capacity(ctx)
}

func (s *Sender) statusOf(id block.VolumeID) LinkStatus {
	all := s.Status()
	if i := slices.IndexFunc(all, func(l LinkStatus) bool { return l.Volume == id }); i >= 0 {
		return all[i]
	}
	return LinkStatus{}
}

// TestRoomOfAHungStore: while one store hangs, the volumes of another one are replicated,
// and the Sender ends when it is to.
func TestRoomOfAHungStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, openCatalogs(t, "a", "b"))
		a, b := w.zones["a"], w.zones["b"]
		h := hungRoom{mem.New(mem.Options{}), make(chan struct{})}
		a.second = h
		w.protect("a", "b", "gold")
		b.start(0)
		a.start(0)
		id := a.volume("gold", 4)
		a.write(id, 0, []byte("hello"))
		ctx, stop := context.WithCancel(a.proc.ctx)
		ended := make(chan error, 1)
		go func() { ended <- a.sender.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if l := a.sender.statusOf(id); l.State != catalog.LinkCurrent {
			t.Errorf("a volume of a store that answers is %+v", l)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close(h.free)
		a.proc.end()
		b.proc.end()
	})
}

// keepsOn is far away, and deletes snapshots when it is let go.
type keepsOn struct {
	driver.Driver
	asked chan struct{} // gets one for each deletion
	free  chan struct{}
}

func (keepsOn) Depth() int { return 4 }

func (k keepsOn) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	k.asked <- struct{}{}
	<-k.free
	return k.Driver.DeleteSnapshot(ctx, ref)
}

// besideKeepsOn is a world in which the replicas of silver volumes are in such a store, and
// those of gold ones are not.
func besideKeepsOn(t *testing.T) (*world, keepsOn) {
	w := newWorld(t, 1, openCatalogs(t, "a", "b"))
	k := keepsOn{mem.New(mem.Options{}), make(chan struct{}, 100), make(chan struct{})}
	w.zones["b"].second = k
	w.protect("a", "b", "gold")
	w.protect("a", "b", "silver")
	w.protections[1].Backup.Name = "second"
	return w, k
}

// TestConnectionIsFreeWhileTheReplicaIsClosed: the store of a replica hangs after the
// commit. The connection that it came by serves a volume of another store meanwhile, and
// the replica's next step waits.
func TestConnectionIsFreeWhileTheReplicaIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, k := besideKeepsOn(t)
		a, b := w.zones["a"], w.zones["b"]
		w.protections[1].Retention.Tiers = []block.RetentionTier{{Step: time.Hour, For: time.Hour}}
		b.start(0)
		a.start(0)
		ctx, s := a.proc.ctx, a.sender
		look := func() {
			t.Helper()
			if err := s.scan(ctx); err != nil {
				t.Fatal(err)
			}
			s.dispatch(ctx)
			synctest.Wait()
		}
		silver := a.volume("silver", 4)
		for n := byte(1); len(k.asked) == 0 && n < 10; n++ { // the retention keeps few of them
			w.advance(2 * time.Minute)
			a.write(silver, 0, []byte{n})
			look()
		}
		if l := s.statusOf(silver); len(k.asked) == 0 || l.Sending {
			t.Fatalf("%d deletions hang: %+v", len(k.asked), l)
		}
		gold := a.volume("gold", 4)
		a.write(gold, 0, []byte("hello"))
		s.Kick(gold) // and silver is not due
		look()
		if l := s.statusOf(gold); l.Sending || l.State != catalog.LinkCurrent || w.dials != 1 {
			t.Errorf("a volume of another store is %+v after %d dials", l, w.dials)
		}
		w.advance(2 * time.Minute)
		a.write(silver, 0, []byte{99})
		look()
		if l := s.statusOf(silver); !l.Sending {
			t.Errorf("the next step does not wait: %+v", l)
		}
		close(k.free)
		s.visits.Wait()
		if err := s.pass(ctx); err != nil {
			t.Fatal(err)
		}
		if l := s.statusOf(silver); l.State != catalog.LinkCurrent {
			t.Errorf("the replica that was closed late is %+v", l)
		}
		s.stop()
		a.proc.end()
		b.proc.end()
	})
}

// TestTidyBesideAHungStore: what is left over in one store is removed while another one
// hangs.
func TestTidyBesideAHungStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, k := besideKeepsOn(t)
		a, b := w.zones["a"], w.zones["b"]
		b.start(0)
		a.start(0)
		stray := map[block.TypeID]driver.SnapshotRef{}
		for n, store := range []driver.Driver{b.store, k.Driver} {
			of := w.protections[n].SourceType
			id := a.volume(of, 4)
			a.write(id, 0, []byte("hello"))
			a.later(time.Minute)
			b.view(func(tx *catalog.Tx) error {
				rep, err := tx.ReplicaOf("a", id, w.protections[n].Seq)
				stray[of] = driver.SnapshotRef{Volume: rep.ID, Name: "stray"}
				return err
			})
			if err := store.CreateSnapshot(t.Context(), stray[of]); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // the replicas are given free
		ctx, stop := context.WithCancel(b.proc.ctx)
		ended := make(chan error, 1)
		go func() { ended <- b.receiver.Run(ctx) }()
		synctest.Wait()
		if len(k.asked) == 0 {
			t.Fatal("nothing hangs")
		}
		if _, err := b.store.OpenSnapshot(ctx, stray["gold"]); !block.Is(err, block.NotFound) {
			t.Errorf("what was left over is there still: %v", err)
		}
		again := stray["gold"]
		again.Name = "another"
		if err := b.store.CreateSnapshot(ctx, again); err != nil {
			t.Fatal(err)
		}
		time.Sleep(b.receiver.cfg.KeepEvery)
		synctest.Wait()
		if _, err := b.store.OpenSnapshot(ctx, again); !block.Is(err, block.NotFound) {
			t.Errorf("what was left over later is there still: %v", err)
		}
		close(k.free)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		a.sender.stop()
		a.proc.end()
		b.proc.end()
	})
}

// slow does not make snapshots of some volumes before it is let go.
type slow struct {
	driver.Driver
	volumes map[block.VolumeID]bool
	asked   chan struct{} // gets one for each snapshot that waits
	free    chan struct{}
}

func (s slow) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	if s.volumes[ref.Volume] {
		s.asked <- struct{}{}
		<-s.free
	}
	return s.Driver.CreateSnapshot(ctx, ref)
}

// TestSlowVisitsGiveWay: visits that take long before anything is to be sent keep the
// places of quick ones for a moment only.
func TestSlowVisitsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, openCatalogs(t, "a", "b"))
		a, b := w.zones["a"], w.zones["b"]
		store := slow{mem.New(mem.Options{}), map[block.VolumeID]bool{}, make(chan struct{}, 100), make(chan struct{})}
		a.second = store
		w.protect("a", "b", "gold")
		b.start(0)
		a.start(0)
		ctx, s := a.proc.ctx, a.sender
		var ids []block.VolumeID
		for range s.cfg.Sessions + 1 {
			ids = append(ids, a.volumeOn(store, "second", "gold", 4))
		}
		a.later(time.Minute)
		last := ids[s.cfg.Sessions]
		for _, id := range ids[:s.cfg.Sessions] {
			store.volumes[id] = true
		}
		write := func(ids ...block.VolumeID) {
			for _, id := range ids {
				writeTo(t, store, id)
			}
			w.advance(time.Minute)
			if err := s.scan(ctx); err != nil {
				t.Fatal(err)
			}
			for range ids { // in places of those that were done at once
				s.dispatch(ctx)
				synctest.Wait()
			}
		}
		write(ids[:s.cfg.Sessions]...)
		if len(store.asked) != s.cfg.Sessions {
			t.Fatalf("%d volumes are slow", len(store.asked))
		}
		before := s.statusOf(last).ReplicatedTo
		write(last)
		if l := s.statusOf(last); l.ReplicatedTo != before {
			t.Fatalf("there are more places than are taken: %+v", l)
		}
		time.Sleep(bulkTime)
		synctest.Wait()
		s.dispatch(ctx)
		synctest.Wait()
		if l := s.statusOf(last); l.State != catalog.LinkCurrent || l.ReplicatedTo == before {
			t.Errorf("a volume waits for slow ones: %+v", l)
		}
		close(store.free)
		s.visits.Wait()
		s.stop()
		a.proc.end()
		b.proc.end()
	})
}

func writeTo(t *testing.T, store driver.Driver, id block.VolumeID) {
	t.Helper()
	d, err := store.OpenVolume(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteAt([]byte(id)[:8], 0); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
