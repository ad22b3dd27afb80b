package catalog

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"kvol/internal/block"
)

// clocked is a catalog in memory with a clock that the test sets.
func clocked(t *testing.T) (c *Catalog, pass func(time.Duration)) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c, err := Open(t.Context(), optionsAt(t, func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		check(t, c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, func(d time.Duration) { now = now.Add(d) }
}

func enqueue(t *testing.T, c *Catalog, j block.Job) (id block.JobID) {
	t.Helper()
	commit(t, c, func(tx *Tx) (err error) { id, err = tx.EnqueueJob(j); return err })
	return id
}

// claim returns 0 if there is nothing to claim.
func claim(t *testing.T, c *Catalog, owner string, kinds ...string) (j block.Job) {
	t.Helper()
	commit(t, c, func(tx *Tx) error {
		got, ok, err := tx.ClaimJob(owner, time.Minute, kinds)
		if j = got; ok != (got.ID != 0) {
			t.Errorf("claimed %+v, %v", got, ok)
		}
		j.Token = 0 // TestHolding is about it
		return err
	})
	return j
}

func TestJobFields(t *testing.T) {
	c, pass := clocked(t)
	id := enqueue(t, c, block.Job{Kind: "k", Subject: "s", Args: json.RawMessage(`{"a":1}`), Step: "waits", Total: 9})
	want := block.Job{ID: id, Kind: "k", Subject: "s", Args: json.RawMessage(`{"a":1}`), Step: "waits", Total: 9,
		State: block.JobReady, RunAt: c.now(), Created: c.now()}
	wantJob := func() {
		t.Helper()
		look(t, c, func(tx *Tx) error {
			got, err := tx.Job(id)
			got.Token = 0 // TestHolding is about it
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			return err
		})
	}
	wantJob()
	pass(time.Second)
	want.State, want.Attempts, want.Started = block.JobRunning, 1, c.now()
	if diff := gocmp.Diff(want, claim(t, c, "o", "k")); diff != "" {
		t.Error(diff)
	}
	wantJob()
	commit(t, c, func(tx *Tx) error { return tx.JobProgress(id, "o", "copies", 3, 8) })
	want.Step, want.Done, want.Total = "copies", 3, 8
	wantJob()
	pass(time.Second)
	commit(t, c, func(tx *Tx) error { return tx.RetryJob(id, "o", tx.Now.Add(time.Second), "why") })
	want.State, want.Error, want.RunAt = block.JobReady, "why", c.now().Add(time.Second)
	wantJob()
	if j := claim(t, c, "o", "k"); j.ID != 0 {
		t.Error("claimed before it was due")
	}
	pass(time.Second)
	claim(t, c, "o", "k")
	commit(t, c, func(tx *Tx) error {
		return tx.FinishJob(id, "o", block.JobFailed, "no", json.RawMessage(`{"n":2}`))
	})
	want.State, want.Error, want.Attempts, want.Started, want.Ended = block.JobFailed, "no", 2, c.now(), c.now()
	want.Evidence = json.RawMessage(`{"n":2}`)
	wantJob()
	look(t, c, func(tx *Tx) error {
		_, err := tx.Job(99)
		wantError(t, err, block.NotFound, "Job 99 could not be found.")
		_, some, err := tx.NextJobAt()
		if some {
			t.Error("there is a next job")
		}
		return err
	})
}

func TestClaimOrderAndKinds(t *testing.T) {
	c, pass := clocked(t)
	late := enqueue(t, c, block.Job{Kind: "k", RunAt: c.now().Add(2 * time.Second)})
	first, second := enqueue(t, c, block.Job{Kind: "k"}), enqueue(t, c, block.Job{Kind: "k"})
	other := enqueue(t, c, block.Job{Kind: "other", RunAt: c.now().Add(-time.Hour)})
	for _, want := range []block.JobID{first, second, 0} {
		if got := claim(t, c, "o", "k", "none"); got.ID != want {
			t.Errorf("claimed %d, want %d", got.ID, want)
		}
	}
	if got := claim(t, c, "o"); got.ID != 0 {
		t.Error("claimed a job of no kind")
	}
	claimed := claim(t, c, "o", "other")
	if claimed.ID != other {
		t.Errorf("claimed %d, want %d", claimed.ID, other)
	}
	look(t, c, func(tx *Tx) error {
		if at, ok, err := tx.NextJobAt(); at != c.now().Add(2*time.Second) || !ok || err != nil {
			t.Errorf("the next job is due at %v, %v, %v", at, ok, err)
		}
		return nil
	})
	pass(2 * time.Second)
	if got := claim(t, c, "o", "k"); got.ID != late {
		t.Errorf("claimed %d, want %d", got.ID, late)
	}
}

// TestLease: whoever holds a job keeps others off until the lease is over, and
// can do nothing to it once somebody else holds it.
func TestLease(t *testing.T) {
	c, pass := clocked(t)
	id := enqueue(t, c, block.Job{Kind: "k"})
	claim(t, c, "a", "k")
	pass(59 * time.Second)
	commit(t, c, func(tx *Tx) error { return tx.RenewJob(id, "a", time.Minute) })
	pass(59 * time.Second)
	if claim(t, c, "b", "k").ID != 0 {
		t.Error("claimed while held")
	}
	pass(time.Second)
	if j := claim(t, c, "b", "k"); j.ID != id || j.Attempts != 2 {
		t.Errorf("not claimed after the lease: %+v", j)
	}
	for name, touch := range map[string]func(*Tx) error{
		"renew":    func(tx *Tx) error { return tx.RenewJob(id, "a", time.Minute) },
		"progress": func(tx *Tx) error { return tx.JobProgress(id, "a", "", 0, 0) },
		"finish":   func(tx *Tx) error { return tx.FinishJob(id, "a", block.JobDone, "", nil) },
		"snooze":   func(tx *Tx) error { return tx.SnoozeJob(id, "a", tx.Now, "") },
		"retry":    func(tx *Tx) error { return tx.RetryJob(id, "a", tx.Now, "") },
	} {
		err := c.Update(t.Context(), touch)
		if message, _ := block.UserMessage(err); !block.Is(err, block.Stale) || message != "Job 1 is not held by a." {
			t.Errorf("%s by the former owner: %v", name, err)
		}
	}
	commit(t, c, func(tx *Tx) error { return tx.FinishJob(id, "b", block.JobDone, "", nil) })
	err := c.Update(t.Context(), func(tx *Tx) error { return tx.FinishJob(id, "b", block.JobDone, "", nil) })
	wantError(t, err, block.Stale, "Job 1 is not held by b.")
}

func TestGivingBack(t *testing.T) {
	c, _ := clocked(t)
	id := enqueue(t, c, block.Job{Kind: "k"})
	claim(t, c, "a", "k")
	commit(t, c, func(tx *Tx) error { return tx.SnoozeJob(id, "a", tx.Now, "busy") })
	if j := claim(t, c, "a", "k"); j.Attempts != 1 || j.Error != "busy" {
		t.Errorf("after a snooze: %+v", j)
	}
	commit(t, c, func(tx *Tx) error { return tx.RetryJob(id, "a", tx.Now, "") })
	if j := claim(t, c, "a", "k"); j.Attempts != 2 {
		t.Errorf("after a retry: %+v", j)
	}
	commit(t, c, func(tx *Tx) error { return tx.ReclaimJobs("b") })
	if claim(t, c, "a", "k").ID != 0 {
		t.Error("another owner's jobs were reclaimed")
	}
	commit(t, c, func(tx *Tx) error { return tx.ReclaimJobs("a") })
	if j := claim(t, c, "c", "k"); j.Attempts != 3 {
		t.Errorf("after a restart: %+v", j)
	}
}

func TestJobsChanged(t *testing.T) {
	c, _ := clocked(t)
	told := func() bool {
		select {
		case <-c.JobsChanged():
			return true
		default:
			return false
		}
	}
	boom := errors.New("boom")
	err := c.Update(t.Context(), func(tx *Tx) error {
		_, err := tx.EnqueueJob(block.Job{Kind: "k", Subject: "s"})
		return errors.Join(err, boom)
	})
	if !errors.Is(err, boom) || told() {
		t.Errorf("%v; or told of a job that was not committed", err)
	}
	look(t, c, func(tx *Tx) error {
		if jobs, err := tx.JobsOf("s"); len(jobs) != 0 || err != nil {
			t.Errorf("jobs %v, %v", jobs, err)
		}
		return nil
	})
	enqueue(t, c, block.Job{Kind: "k", Subject: "s"})
	enqueue(t, c, block.Job{Kind: "k", Subject: "s"})
	if !told() || told() {
		t.Error("not told once")
	}
	look(t, c, func(tx *Tx) error {
		if jobs, err := tx.JobsOf("s"); len(jobs) != 2 || jobs[0].ID != 1 || err != nil {
			t.Errorf("jobs %v, %v", jobs, err)
		}
		return nil
	})
}

func TestPruneJobs(t *testing.T) {
	c, pass := clocked(t)
	for range 4 {
		id := enqueue(t, c, block.Job{Kind: "k", Subject: "s"})
		claim(t, c, "a", "k")
		commit(t, c, func(tx *Tx) error { return tx.FinishJob(id, "a", block.JobDone, "", nil) })
		pass(time.Second)
	}
	enqueue(t, c, block.Job{Kind: "k", Subject: "s"})
	for _, want := range []int64{2, 1, 0} {
		commit(t, c, func(tx *Tx) error {
			if n, err := tx.PruneJobs(c.now().Add(-time.Second), 2); n != want || err != nil {
				t.Errorf("forgot %d, %v, want %d", n, err, want)
			}
			return nil
		})
	}
	look(t, c, func(tx *Tx) error {
		if jobs, err := tx.JobsOf("s"); len(jobs) != 2 || jobs[0].ID != 4 || err != nil {
			t.Errorf("left: %v, %v", jobs, err)
		}
		return nil
	})
}
