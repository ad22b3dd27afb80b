package job

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// TestClaimedWhileItEnds has a job that is to go on at once claimed again before the
// attempt at it is over: it goes on, and not when the lease of that claim ends.
func TestClaimedWhileItEnds(t *testing.T) {
	inBubble(t, func(b *bench) {
		runs := 0
		c := b.config(map[string]Handler{"k": play{run: func(context.Context, *Task) error {
			if runs++; runs < 5 {
				return Snooze(0, nil)
			}
			return nil
		}}})
		c.Observe = func(Attempt) { synctest.Wait() } // until the runner has looked for jobs
		defer b.start(c)()
		began := time.Now()
		id := b.enqueue(block.Job{Kind: "k"})
		time.Sleep(time.Second)
		synctest.Wait()
		if j := b.job(id); j.State != block.JobDone || runs != 5 {
			b.Errorf("after %s and %d runs: %+v", time.Since(began), runs, j)
		}
	})
}

// TestStoppedWhileItIsClaimedAgain: the claim that waited for the attempt before to leave
// is given back, so that another process need not wait for the end of its lease.
func TestStoppedWhileItIsClaimedAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		ctx, stop := context.WithCancel(b.Context())
		c := b.config(map[string]Handler{"k": play{run: func(ctx context.Context, _ *Task) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return Snooze(0, nil)
		}}})
		c.Observe = func(Attempt) {
			synctest.Wait() // until it is claimed again
			stop()
		}
		id := b.enqueue(block.Job{Kind: "k"})
		if err := New(c).Run(ctx); err != nil {
			b.Error(err)
		}
		if j := b.job(id); j.State != block.JobReady {
			b.Errorf("%+v", j)
		}
	})
}

// TestStolenWhileItEnds: a claim of which the attempt before could not get out of the way
// in time is not followed where somebody else has the job by then.
func TestStolenWhileItEnds(t *testing.T) {
	inBubble(t, func(b *bench) {
		runs := 0
		c := b.config(map[string]Handler{"k": play{run: func(context.Context, *Task) error {
			runs++
			return Snooze(0, nil)
		}}})
		c.Observe = func(Attempt) {
			synctest.Wait() // until it is claimed again
			b.update(func(tx *catalog.Tx) error {
				if err := tx.ReclaimJobs("me"); err != nil {
					return err
				}
				_, ok, err := tx.ClaimJob("thief", time.Hour, []string{"k"})
				if !ok {
					b.Error("not claimed")
				}
				return err
			})
		}
		defer b.start(c)()
		b.enqueue(block.Job{Kind: "k"})
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs != 1 {
			b.Errorf("it ran %d times", runs)
		}
	})
}

// TestClaimWaitsForWhoHangs: a job's lease is lost while its handler hangs, and the job is
// claimed again. That claim is held, is one attempt, and is run when the handler is back.
func TestClaimWaitsForWhoHangs(t *testing.T) {
	inBubble(t, func(b *bench) {
		runs, back := 0, make(chan struct{})
		defer b.start(b.config(map[string]Handler{"k": play{run: func(context.Context, *Task) error {
			if runs++; runs == 1 {
				<-back // and heeds no context, as a store that hangs
			}
			return nil
		}}}))()
		id := b.enqueue(block.Job{Kind: "k"})
		synctest.Wait()
		b.update(func(tx *catalog.Tx) error { return tx.ReclaimJobs("me") })
		time.Sleep(10 * time.Minute)
		if j := b.job(id); j.Attempts != 2 || j.State != block.JobRunning {
			b.Errorf("while it hangs: %+v", j)
		}
		close(back)
		time.Sleep(time.Second)
		synctest.Wait()
		if j := b.job(id); j.State != block.JobDone || runs != 2 {
			b.Errorf("after %d runs: %+v", runs, j)
		}
	})
}

// TestEndIsWrittenAgain: the catalog is away for a moment when a job ends. The job does
// not stand still until its lease is over.
func TestEndIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := false
		c, err := catalog.Open(t.Context(), catalog.Options{Commit: func(commit func() error) error {
			if away {
				away = false
				return block.Errorf(block.Unavailable, "the connection broke")
			}
			return commit()
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		b, runs := &bench{T: t, catalog: c}, 0
		defer b.start(b.config(map[string]Handler{"k": play{run: func(context.Context, *Task) error {
			runs, away = runs+1, true
			return nil
		}}}))()
		id := b.enqueue(block.Job{Kind: "k"})
		time.Sleep(2 * settlePause)
		synctest.Wait()
		if j := b.job(id); j.State != block.JobDone || runs != 1 {
			b.Errorf("after %d runs: %+v", runs, j)
		}
	})
}
