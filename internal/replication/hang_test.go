package replication

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// hanging is a store that does not answer for as long as its requests may take.
type hanging struct {
	driver.Driver
	asked chan struct{} // gets something for each request
}

var errSilent = block.Errorf(block.Unavailable, "the store does not answer")

func (h hanging) CreateSnapshot(ctx context.Context, _ driver.SnapshotRef) error {
	h.asked <- struct{}{}
	select {
	case <-time.After(30 * time.Second):
		return errSilent
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestHangingStoreHoldsUpNoOther: of two stores one hangs, with many volumes on it. The
// volumes of the other are replicated as if it were not there, but for the first time.
func TestHangingStoreHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		silent := hanging{disk{a}, make(chan struct{}, 1000)}
		set, err := driver.NewSet(map[string]driver.Driver{"s": richDisk{disk{a}}, "h": silent},
			[]block.Backend{{Name: "main", Store: "s"}, {Name: "silent", Store: "h"}})
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			id := a.volume("gold", 8)
			a.update(func(tx *catalog.Tx) error {
				v, err := tx.Volume(id)
				if err != nil {
					return err
				}
				v.Backend = "silent"
				return tx.UpdateVolume(v)
			})
		}
		id := a.volume("gold", 8)
		w.protections[0].Interval = 5 * time.Second
		start := time.Now()
		a.sender = NewSender(SenderConfig{Catalog: a.catalog, Backends: set, Zone: "a", Dialer: a, Sessions: 2,
			Protections: func() []block.Protection { return w.protections },
			Now:         func() time.Time { return w.clock().Add(time.Since(start)) },
			Rand:        func() float64 { return 0.5 }})
		a.proc.serve.Go(func() {
			if err := a.sender.Run(a.proc.ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(2 * time.Minute) // of the bubble's time
		if asked := len(silent.asked); asked < 4 || asked > 40 {
			t.Fatalf("the store that hangs was asked %d times", asked)
		}
		for n := range 10 {
			a.write(id, 0, noise(driver.BlockSize)[n:n+1])
			before := a.link(id).Confirmed.ID
			time.Sleep(8 * time.Second)
			synctest.Wait()
			if now := a.link(id).Confirmed.ID; now == before || now == "" {
				t.Fatalf("write %d was not replicated in time", n)
			}
		}
	})
}
