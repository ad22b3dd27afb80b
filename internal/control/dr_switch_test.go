package control

import (
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// TestFailoverThatCannotDrainGoesBack: whatever fails while the last point is
// made, the volume is written to again after the deadline, and not before.
func TestFailoverThatCannotDrainGoesBack(t *testing.T) {
	for name, stored := range map[string]bool{"no protection": true, "no volume in the store": false} {
		t.Run(name, func(t *testing.T) {
			z, ctx := newAuditZone(t), t.Context()
			if stored {
				store, err := z.backends.Of("b")
				if err == nil {
					err = store.CreateVolume(ctx, ownVolume, block.GiB)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			v := block.Volume{ID: ownVolume, Project: "p", Backend: "b", Size: 1, Epoch: 1,
				Status: block.VolumeAvailable, Switching: "a"}
			f := block.Failover{ID: "f", Volume: v.ID, Protection: 7, Destination: "a", Project: "p", Epoch: 1, Last: "last",
				Phase: block.FailoverDraining, Started: z.clock.now(),
				Deadline: z.clock.now().Add(time.Minute)}
			z.update(func(tx *catalog.Tx) error {
				return first(tx.InsertVolume(v), tx.InsertCut(v.ID, f.Last), tx.Pin(v.ID, f.Last, failoverHolder(f)),
					tx.PutFailover(f))
			})
			z.clock.pass(time.Minute)
			if err := z.stepFailover(ctx, f, v); err == nil {
				t.Error("it goes on without a last point")
			}
			z.wantFailover(f.ID, block.FailoverDraining, "", "a")
			z.clock.pass(time.Second)
			if err := z.stepFailover(ctx, f, v); err != nil {
				t.Errorf("it does not go back: %v", err)
			}
			z.wantFailover(f.ID, block.FailoverBack, "The last point could not be made in time.", "")
		})
	}
}

func (z *auditZone) wantFailover(id string, phase block.FailoverPhase, says string, switching block.Zone) {
	z.t.Helper()
	var f block.Failover
	var v block.Volume
	err := z.catalog.View(z.t.Context(), func(tx *catalog.Tx) (err error) {
		if f, err = tx.Failover(id); err == nil {
			v, err = tx.Volume(f.Volume)
		}
		return err
	})
	if err != nil || f.Phase != phase || f.Message != says || v.Switching != switching {
		z.t.Errorf("failover %s is %s (%q), the volume goes to %q, %v", id, f.Phase, f.Message, v.Switching, err)
	}
}
