package replication

import (
	"context"
	"slices"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// hung is a store that answers nothing until it is let go.
type hung struct {
	driver.Driver
	asked chan struct{} // gets one for each call that hangs
	free  chan struct{} // closed when calls go on
}

func newHung() *hung {
	return &hung{mem.New(mem.Options{}), make(chan struct{}, 100), make(chan struct{})}
}

func (h *hung) wait() {
	h.asked <- struct{}{}
	<-h.free
}

func (h *hung) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	h.wait()
	return h.Driver.CreateSnapshot(ctx, ref)
}

func (h *hung) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	h.wait()
	return h.Driver.OpenVolume(ctx, id)
}

// TestHungStore has a store hang, at the source or at the target, while more volumes
// wait for it than are sent at a time: those of other stores are sent meanwhile.
func TestHungStore(t *testing.T) {
	for _, at := range []block.Zone{"a", "b"} {
		t.Run("at "+string(at), func(t *testing.T) {
			w := newWorld(t, 1, openCatalogs(t, "a", "b"))
			a, b := w.zones["a"], w.zones["b"]
			h := newHung()
			w.zones[at].second = h
			w.protect("a", "b", "gold")
			w.protect("a", "b", "silver")
			source, backend := driver.Driver(a.store), "main"
			if at == "a" {
				source, backend = h.Driver, "second"
			} else {
				w.protections[1].Backup.Name = "second"
			}
			b.start(0)
			a.start(0)
			ctx, s := a.proc.ctx, a.sender
			look := func() {
				t.Helper()
				if err := s.scan(ctx); err != nil {
					t.Fatal(err)
				}
				s.dispatch(ctx)
			}
			for range 3 * s.cfg.Sessions {
				a.volumeOn(source, backend, "silver", 4)
			}
			look()
			for range s.cfg.Sessions { // of first copies, and there are no others
				<-h.asked
			}
			id := a.volume("gold", 4)
			a.write(id, 0, []byte("hello"))
			w.advance(s.cfg.ScanEvery)
			look()
			all := s.Status()
			i := slices.IndexFunc(all, func(l LinkStatus) bool { return l.Volume == id })
			if i < 0 || !all[i].Sending && all[i].State != catalog.LinkCurrent {
				t.Errorf("a volume on another store waits: %+v", all)
			}
			if n := len(h.asked); n != 0 {
				t.Errorf("%d more volumes wait for the store than may", n)
			}
			close(h.free)
			s.visits.Wait()
			if err := s.pass(ctx); err != nil {
				t.Fatal(err)
			}
			for _, l := range s.Status() {
				if l.State != catalog.LinkCurrent {
					t.Errorf("volume %s was not sent: %s", l.Volume, l.LastError)
				}
			}
			s.stop()
			a.proc.end()
			b.proc.end()
		})
	}
}

// TestVisitThatCouldNotLoad does not know where its volume is. What was known before
// stays so: the next visit takes a place of the same ends.
func TestVisitThatCouldNotLoad(t *testing.T) {
	w := newWorld(t, 1, openCatalogs(t, "a", "b"))
	a := w.zones["a"]
	w.protect("a", "b", "gold")
	a.start(0)
	id := a.volume("gold", 4)
	if err := a.sender.scan(a.proc.ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.catalog.Close(); err != nil {
		t.Fatal(err)
	}
	k := trackKey{id, w.protections[0].Seq}
	before := a.sender.tracks[k].ends
	if before.store != "s" {
		t.Fatalf("its ends are %v", before)
	}
	a.sender.dispatch(a.proc.ctx)
	a.sender.visits.Wait()
	if after := a.sender.tracks[k]; after.ends != before || after.failures == 0 { // it was visited, and failed
		t.Errorf("its ends are %v after %d failures, %v before", after.ends, after.failures, before)
	}
	a.sender.stop()
	a.proc.end()
}
