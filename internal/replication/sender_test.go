package replication

import (
	"context"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// protect makes zone a's volumes of a new type replicate to zone b.
func (w *world) protect(from, to block.Zone, t block.TypeID) block.Protection {
	p := block.Protection{Seq: int64(len(w.protections) + 1), SourceZone: from, SourceType: t, Destination: to,
		Source: block.Backend{Name: "main"}, Backup: block.Backend{Name: "main"}, Interval: time.Second, Enabled: true,
		Retention: block.Retention{Tiers: []block.RetentionTier{{Step: time.Second, For: time.Hour}}}}
	w.protections = append(w.protections, p)
	return p
}

// volume makes a volume of some blocks in zone z.
func (z *zone) volume(t block.TypeID, blocks int64) block.VolumeID {
	return z.volumeOn(z.store, "main", t, blocks)
}

// volumeOn is volume on one of the zone's backends.
func (z *zone) volumeOn(store driver.Driver, backend string, t block.TypeID, blocks int64) block.VolumeID {
	id := block.VolumeID(block.NewID())
	ctx := context.Background()
	if err := store.CreateVolume(ctx, id, blocks*driver.BlockSize); err != nil {
		z.w.t.Fatal(err)
	}
	z.update(func(tx *catalog.Tx) error {
		if err := tx.UpsertType(block.VolumeType{ID: t, Name: string(t), Public: true}); err != nil {
			return err
		}
		return tx.InsertVolume(block.Volume{ID: id, Project: "p", User: "u", Size: 1, Status: block.VolumeAvailable,
			TypeID: t, Backend: backend, AvailabilityZone: "az", Epoch: 1})
	})
	return id
}

func (z *zone) write(id block.VolumeID, off int64, p []byte) {
	dev, err := z.store.OpenVolume(context.Background(), id)
	if err != nil {
		z.w.t.Error(err)
		return
	}
	defer dev.Close()
	if p == nil {
		err = dev.Zero(off, driver.BlockSize)
	} else {
		_, err = dev.WriteAt(p, off)
	}
	if err != nil {
		z.w.t.Error(err)
	}
}

func TestOnePoint(t *testing.T) {
	w := newWorld(t, 1, openCatalogs(t, "a", "b"))
	a, b := w.zones["a"], w.zones["b"]
	w.protect("a", "b", "gold")
	a.start(0)
	b.start(0)
	id := a.volume("gold", 16)
	a.write(id, 4096, []byte("hello"))
	for range 3 {
		if err := a.sender.pass(a.proc.ctx); err != nil {
			t.Fatal(err)
		}
		for _, s := range a.sender.Status() {
			t.Logf("%+v", s)
		}
		w.advance(10 * time.Second)
	}
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
	all, err := b.receiver.Status(context.Background())
	if err != nil || len(all) != 1 || all[0].Newest.ID == "" {
		t.Fatal(all, err)
	}
	a.sender.stop()
	a.proc.end()
	b.proc.end()
}

// TestRemovedProtectionLetsGo takes a protection out of the configuration: what
// was kept for it alone goes, and what another one needs stays. When
// it comes back it begins anew.
func TestRemovedProtectionLetsGo(t *testing.T) {
	w := newWorld(t, 1, openCatalogs(t, "a", "b", "c"))
	a := w.zones["a"]
	dropped := w.protect("a", "b", "gold")
	kept := w.protect("a", "c", "gold")
	for _, z := range w.zones {
		z.start(0)
	}
	id := a.volume("gold", 16)
	a.write(id, 4096, []byte("hello"))
	round := func() {
		t.Helper()
		for range 3 {
			if err := a.sender.pass(a.proc.ctx); err != nil {
				t.Fatal(err)
			}
			w.advance(10 * time.Second)
		}
	}
	left := func() (links, snapshots int) {
		t.Helper()
		a.update(func(tx *catalog.Tx) error {
			all, err := tx.LinksOf(id)
			links = len(all)
			return err
		})
		all, err := a.store.Snapshots(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		return links, len(all)
	}
	round()
	if links, snapshots := left(); links != 2 || snapshots != 2 {
		t.Fatalf("%d links and %d snapshots of two protections", links, snapshots)
	}
	w.protections = []block.Protection{kept}
	round()
	if links, snapshots := left(); links != 1 || snapshots != 1 {
		t.Errorf("%d links and %d snapshots are left of one protection", links, snapshots)
	}
	a.write(id, 0, []byte("and more"))
	round()
	if err := w.zones["c"].check(); err != nil {
		t.Error(err)
	}
	w.protections = nil
	round()
	if links, snapshots := left(); links != 0 || snapshots != 0 {
		t.Errorf("%d links and %d snapshots are left of no protection", links, snapshots)
	}
	if all := a.sender.Status(); len(all) != 0 {
		t.Errorf("the sender still knows %+v", all)
	}
	w.protections = []block.Protection{dropped, kept}
	round()
	if links, snapshots := left(); links != 2 || snapshots != 2 {
		t.Errorf("%d links and %d snapshots of two protections that came back", links, snapshots)
	}
	for _, to := range []block.Zone{"b", "c"} {
		if err := w.zones[to].check(); err != nil {
			t.Error(err)
		}
	}
	a.sender.stop()
	for _, z := range w.zones {
		z.proc.end()
	}
}

// endless is a Target that takes no bytes until whoever sends them gives up.
type endless struct {
	Target
	begun chan<- struct{}
}

func (e endless) Write(ctx context.Context, _ Run) error {
	close(e.begun)
	<-ctx.Done()
	return ctx.Err()
}

// TestLeave has a visit let go of its volume in the middle of a copy.
func TestLeave(t *testing.T) {
	w := newWorld(t, 1, openCatalogs(t, "a", "b"))
	a, b := w.zones["a"], w.zones["b"]
	w.protect("a", "b", "gold")
	begun := make(chan struct{})
	a.wrap = func(t Target) Target { return endless{t, begun} }
	a.far = true // it refuses to delete what is read
	a.start(0)
	b.start(0)
	id := a.volume("gold", 16)
	a.write(id, 4096, []byte("hello"))
	ended := make(chan error)
	go func() { ended <- a.sender.pass(a.proc.ctx) }()
	<-begun
	a.sender.Leave(id)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if all := a.sender.Status(); len(all) != 1 || all[0].LastError != errLeft.Error() {
		t.Errorf("the volume's links are %+v", all)
	}
	store, err := a.sender.cfg.Backends.Of("main")
	if err == nil {
		err = store.DeleteVolume(t.Context(), id)
	}
	if err != nil {
		t.Errorf("nobody has the volume any more: %v", err)
	}
	a.sender.stop()
	a.proc.end()
	b.proc.end()
}
