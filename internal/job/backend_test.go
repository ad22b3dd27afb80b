package job

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// TestHungStoreHoldsUpNoOther: of two stores in a zone one hangs, with far more jobs
// than may run at once, of volumes and of what belongs to them. Jobs of the other one,
// and of none, are done meanwhile.
func TestHungStoreHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(b *bench) {
		var now, most atomic.Int64
		makes := play{run: func(ctx context.Context, task *Task) error {
			var backend string
			err := b.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
				backend, err = tx.BackendOfJob(task.Job.ID)
				return err
			})
			if err != nil || backend != "hangs" {
				return err
			}
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); {
				m = most.Load()
			}
			defer now.Add(-1)
			<-ctx.Done()
			return ctx.Err()
		}}
		c := b.config(map[string]Handler{"k": makes})
		c.PerBackend = 3
		b.update(func(tx *catalog.Tx) error { return tx.UpsertType(block.VolumeType{ID: "t", Name: "t"}) })
		defer b.start(c)()
		var last []block.JobID
		for i := range 20 {
			for _, backend := range []string{"hangs", "works", ""} {
				id := block.VolumeID(block.NewID())
				snapshot := block.NewID()
				b.update(func(tx *catalog.Tx) error {
					if backend == "" {
						return nil
					}
					if err := tx.InsertVolume(block.Volume{ID: id, Project: "p", TypeID: "t", Size: 1, Backend: backend,
						Status: block.VolumeCreating}); err != nil {
						return err
					}
					return tx.InsertSnapshot(block.Snapshot{ID: block.SnapshotID(snapshot), VolumeID: id, Project: "p"})
				})
				for n, subject := range []string{string(id), string(id) + "/hosts", snapshot} {
					j := b.enqueue(block.Job{Kind: "k", Subject: subject})
					if i == 19 && backend != "hangs" {
						last = append(last, j)
					}
					if got := b.backendOf(j); got != backend {
						b.Errorf("subject %d of a volume on %q is on %q", n, backend, got)
					}
				}
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, id := range last {
			if j := b.job(id); j.State != block.JobDone {
				b.Errorf("a job that needs nothing of the store that hangs: %s", fmt.Sprint(j))
			}
		}
		if most.Load() != 3 {
			b.Errorf("%d jobs of the store that hangs at once", most.Load())
		}
	})
}

func (b *bench) backendOf(id block.JobID) (backend string) {
	b.Helper()
	b.update(func(tx *catalog.Tx) (err error) { backend, err = tx.BackendOfJob(id); return err })
	return backend
}
