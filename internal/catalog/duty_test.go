package catalog

import (
	"context"
	"slices"
	"testing"
	"time"

	"kvol/internal/block"
)

// TestDuties: a duty has one holder at a time; whoever lost it can't keep it, give
// it back or answer for it.
func TestDuties(t *testing.T) {
	c := open(t, "")
	take := func(holder string, lease time.Duration) (h Hold, ok bool) {
		update(t, c, func(tx *Tx) (err error) { h, ok, err = tx.TakeDuty("lead", holder, lease); return err })
		return h, ok
	}
	a, ok := take("a", -time.Second) // its time is over at once
	if !ok || a.Token != 1 {
		t.Fatalf("%+v, %v", a, ok)
	}
	b, ok := take("b", time.Hour)
	if !ok || b.Token != 2 {
		t.Fatalf("%+v, %v", b, ok)
	}
	if _, ok := take("c", time.Hour); ok {
		t.Error("a duty was taken that another holds")
	}
	for what, do := range map[string]func(*Tx) error{
		"renewed":  func(tx *Tx) error { return tx.RenewDuty(a, time.Hour, "") },
		"released": func(tx *Tx) error { return tx.ReleaseDuty(a) },
		"answered": func(tx *Tx) error { return tx.AnswerDuty(a, "", 1) },
	} {
		if err := c.Update(t.Context(), do); !block.Is(err, block.Stale) {
			t.Errorf("a duty was %s by who lost it: %v", what, err)
		}
	}
	update(t, c, func(tx *Tx) error {
		d, err := tx.AskDuty("lead")
		if !d.Live || d.Holder != "b" || d.Asked != 1 || d.Done != 0 {
			t.Errorf("%+v", d)
		}
		return err
	})
	update(t, c, func(tx *Tx) error { return tx.AnswerDuty(b, "", 1) })
	update(t, c, func(tx *Tx) error { return tx.ReleaseDuty(b) })
	if h, ok := take("c", time.Hour); !ok || h.Token != 3 {
		t.Errorf("%+v, %v", h, ok)
	}
}

// TestDutyAnswers: each subject is answered for by itself, up to the number that was
// looked at, also while others are not and while it is asked again.
func TestDutyAnswers(t *testing.T) {
	c := open(t, "")
	var h Hold
	update(t, c, func(tx *Tx) (err error) { h, _, err = tx.TakeDuty("lead", "a", time.Hour); return err })
	ask := func(about ...string) (d Duty) {
		update(t, c, func(tx *Tx) (err error) { d, err = tx.AskDuty("lead", about...); return err })
		return d
	}
	answer := func(about string, asked int64) {
		update(t, c, func(tx *Tx) error { return tx.AnswerDuty(h, about, asked) })
	}
	answered := func(d Duty, want bool, about ...string) {
		t.Helper()
		update(t, c, func(tx *Tx) error {
			got, err := tx.DutyAnswered(d, about...)
			if got != want {
				t.Errorf("%q, asked with number %d, is answered: %v", about, d.Asked, got)
			}
			return err
		})
	}
	asks := func(done int64, want ...DutyAsk) {
		t.Helper()
		update(t, c, func(tx *Tx) error {
			d, err := tx.Duty("lead")
			if err != nil {
				return err
			}
			got, err := tx.DutyAsks("lead")
			if d.Done != done || !slices.Equal(got, want) {
				t.Errorf("all is answered up to %d, and it is asked about %+v", d.Done, got)
			}
			return err
		})
	}
	hung, all := ask("v"), ask()
	both := ask("v", "w")
	asks(0, DutyAsk{"", 2, 1}, DutyAsk{"v", 3, 0}, DutyAsk{"w", 3, 2})
	answer("w", 3)
	answered(both, false, "v", "w")
	answered(both, true, "w")
	answered(hung, false, "v")
	answered(all, false)
	other := ask("w")
	answered(both, true, "w")
	answered(other, false, "w")
	answer("w", 3) // a late one, of an earlier look
	answered(other, false, "w")
	answer("w", 4)
	answered(other, true, "w")
	asks(0, DutyAsk{"", 2, 1}, DutyAsk{"v", 3, 0})
	answer("v", 1)
	answered(hung, true, "v")
	answered(both, false, "v", "w")
	asks(1, DutyAsk{"", 2, 1}, DutyAsk{"v", 3, 1})
	answer("v", 3)
	answered(both, true, "v", "w")
	answered(all, false)
	asks(1, DutyAsk{"", 2, 1})
	answer("", 2)
	answered(all, true)
	asks(4)

	last := ask("v") // of who then loses the duty
	answered(last, false, "v")
	update(t, c, func(tx *Tx) error { return tx.ReleaseDuty(h) })
	answered(last, true, "v")
	update(t, c, func(tx *Tx) error { _, _, err := tx.TakeDuty("lead", "b", time.Hour); return err })
	again := ask("v")
	answered(last, true, "v")
	asks(5, DutyAsk{"v", 6, 5})
	if err := c.Update(t.Context(), func(tx *Tx) error { return tx.AnswerDuty(h, "v", 6) }); !block.Is(err, block.Stale) {
		t.Errorf("who lost the duty answers: %v", err)
	}
	answered(again, false, "v")
}

// TestHolding: Updates with a right that is another's by now change nothing.
func TestHolding(t *testing.T) {
	c := open(t, "")
	var duty, next Hold
	update(t, c, func(tx *Tx) (err error) { duty, _, err = tx.TakeDuty("lead", "a", -time.Second); return err })
	ctx := Holding(t.Context(), duty)
	write := func(ctx context.Context, value string) error {
		return c.Update(ctx, func(tx *Tx) error { return tx.SetSetting("x", []byte(value)) })
	}
	if err := write(ctx, "held"); err != nil {
		t.Fatal(err)
	}
	update(t, c, func(tx *Tx) (err error) { next, _, err = tx.TakeDuty("lead", "a", time.Hour); return err })
	if err := write(ctx, "lost"); !block.Is(err, block.Stale) {
		t.Errorf("a write without the right: %v", err)
	}

	// A job that the same process claims again is another claim.
	var first, second block.Job
	claim := func(into *block.Job) {
		update(t, c, func(tx *Tx) (err error) {
			if err := tx.ReclaimJobs("a"); err != nil {
				return err
			}
			*into, _, err = tx.ClaimJob("a", time.Hour, []string{"k"})
			return err
		})
	}
	update(t, c, func(tx *Tx) error { _, err := tx.EnqueueJob(block.Job{Kind: "k"}); return err })
	claim(&first)
	claim(&second)
	held := Holding(Holding(t.Context(), next), Hold{Job: second.ID, Holder: "a", Token: second.Token})
	if err := write(held, "both"); err != nil {
		t.Error(err)
	}
	for name, ctx := range map[string]context.Context{
		"an earlier claim":   Holding(t.Context(), Hold{Job: first.ID, Holder: "a", Token: first.Token}),
		"another's job":      Holding(t.Context(), Hold{Job: second.ID, Holder: "b", Token: second.Token}),
		"a job without duty": Holding(ctx, Hold{Job: second.ID, Holder: "a", Token: second.Token}),
	} {
		if err := write(context.WithoutCancel(ctx), "not"); !block.Is(err, block.Stale) {
			t.Errorf("a write with %s: %v", name, err)
		}
	}
	update(t, c, func(tx *Tx) error {
		if value, _, err := tx.Setting("x"); string(value) != "both" || err != nil {
			t.Errorf("what is written is %q, %v", value, err)
		}
		return nil
	})
	update(t, c, func(tx *Tx) error { return tx.FinishJob(second.ID, "a", block.JobDone, "", nil) })
	if err := write(held, "after its end"); !block.Is(err, block.Stale) {
		t.Errorf("a write after the job's end: %v", err)
	}
}

// TestProcesses: jobs of processes that are silent or gone can be claimed at once,
// those of others not.
func TestProcesses(t *testing.T) {
	c := open(t, "")
	update(t, c, func(tx *Tx) error {
		for name, lease := range map[string]time.Duration{"a": time.Hour, "b": -time.Second, "c": time.Hour} {
			if err := tx.EnterProcess(Process{ID: "id-" + name, Name: name}, lease); err != nil {
				return err
			}
			if _, err := tx.EnqueueJob(block.Job{Kind: "k"}); err != nil {
				return err
			}
			if _, _, err := tx.ClaimJob("id-"+name, time.Hour, []string{"k"}); err != nil {
				return err
			}
		}
		return nil
	})
	free := func() (n int) {
		update(t, c, func(tx *Tx) error {
			for {
				_, ok, err := tx.ClaimJob("id-a", time.Hour, []string{"k"})
				if !ok || err != nil {
					return err
				}
				n++
			}
		})
		return n
	}
	if n := free(); n != 0 {
		t.Errorf("%d jobs are free before anybody looked", n)
	}
	show := func(tx *Tx) error { return tx.ShowProcess("id-a", "a", ProcessServing, time.Hour) }
	update(t, c, show)
	if n := free(); n != 1 {
		t.Errorf("%d jobs are free after one process died", n)
	}
	update(t, c, func(tx *Tx) error { return tx.EnterProcess(Process{ID: "id-c2", Name: "c"}, time.Hour) })
	if err := c.Update(t.Context(), func(tx *Tx) error {
		return tx.ShowProcess("id-c", "c", ProcessServing, time.Hour)
	}); !block.Is(err, block.Stale) {
		t.Errorf("a process in whose place another one is: %v", err)
	}
	update(t, c, show)
	if n := free(); n != 1 {
		t.Errorf("%d jobs are free after a process was started again", n)
	}
	update(t, c, func(tx *Tx) error { return tx.LeaveProcess("id-c2") })
	update(t, c, func(tx *Tx) error {
		all, err := tx.Processes()
		if len(all) != 2 || !all[0].Live || all[1].Live {
			t.Errorf("%+v", all)
		}
		return err
	})
}
