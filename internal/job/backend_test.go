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
			if task.Job.Backend != "hangs" {
				return nil
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
					if got := b.job(j).Backend; got != backend {
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

// TestManyJobsOfAHungStore: thousands of jobs that are due and wait for a store that
// hangs, or for two stores of which one hangs, hold up none of another store, which come
// after them.
func TestManyJobsOfAHungStore(t *testing.T) {
	inBubble(t, func(b *bench) {
		var now, most atomic.Int64
		c := b.config(map[string]Handler{"k": play{run: func(ctx context.Context, task *Task) error {
			if task.Job.Backend != "hangs" && task.Job.Beside != "hangs" {
				return nil
			}
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); {
				m = most.Load()
			}
			defer now.Add(-1)
			<-ctx.Done()
			return ctx.Err()
		}}})
		c.PerBackend = 3
		var last []block.JobID
		b.update(func(tx *catalog.Tx) error {
			for i := range 5000 {
				j := block.Job{Kind: "k", Backend: "hangs"}
				switch i % 10 {
				case 0:
					j.Beside = "works"
				case 1:
					j.Backend, j.Beside = "works", "hangs"
				}
				if _, err := tx.EnqueueJob(j); err != nil {
					return err
				}
			}
			for range 10 {
				for _, need := range [][2]string{{"works", "hangs"}, {"works", ""}, {"works", "too"}, {}} {
					id, err := tx.EnqueueJob(block.Job{Kind: "k", Backend: need[0], Beside: need[1]})
					if err != nil {
						return err
					}
					if need[0] != "hangs" && need[1] != "hangs" {
						last = append(last, id)
					}
				}
			}
			return nil
		})
		defer b.start(c)()
		synctest.Wait()
		for _, id := range last {
			if j := b.job(id); j.State != block.JobDone {
				b.Errorf("a job that needs nothing of the store that hangs: %s", fmt.Sprint(j))
			}
		}
		later := b.enqueue(block.Job{Kind: "k", Backend: "works", RunAt: time.Now().Add(time.Second)})
		time.Sleep(time.Second) // and not when the queue is looked at the next time
		synctest.Wait()
		if j := b.job(later); j.State != block.JobDone {
			b.Errorf("a job that was due later: %s", fmt.Sprint(j))
		}
		if most.Load() != 9 {
			b.Errorf("%d jobs that need the store that hangs at once", most.Load())
		}
	})
}
