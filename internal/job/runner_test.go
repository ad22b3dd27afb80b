package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// play is a handler made of functions.
type play struct {
	run     func(ctx context.Context, t *Task) error
	gaveUp  func(tx *catalog.Tx, j block.Job, cause error) error
	retries Retries
}

func (p play) Run(ctx context.Context, t *Task) error { return p.run(ctx, t) }

func (p play) GaveUp(tx *catalog.Tx, j block.Job, cause error) error {
	if p.gaveUp == nil {
		return nil
	}
	return p.gaveUp(tx, j, cause)
}

func (p play) Retries() Retries {
	if p.retries.Attempts == 0 {
		return DefaultRetries
	}
	return p.retries
}

// bench is a catalog in memory and a runner that runs until the test ends. It
// is used inside a synctest bubble, where time passes when all wait.
type bench struct {
	*testing.T
	catalog *catalog.Catalog
	log     bytes.Buffer

	mu       sync.Mutex // guards attempts
	attempts []Attempt
}

func newBench(t *testing.T) *bench {
	c, err := catalog.Open(t.Context(), catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, catalog: c}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) config(handlers map[string]Handler) Config {
	return Config{
		Catalog: b.catalog, Handlers: handlers, Owner: "me", Lease: 30 * time.Second,
		Log: slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Observe: func(a Attempt) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.attempts = append(b.attempts, a)
		},
	}
}

// start runs a runner; stop ends it and waits.
func (b *bench) start(c Config) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- New(c).Run(ctx) }()
	return func() {
		b.Helper()
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
}

func (b *bench) update(fn func(*catalog.Tx) error) {
	b.Helper()
	if err := b.catalog.Update(context.Background(), fn); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) enqueue(j block.Job) (id block.JobID) {
	b.Helper()
	b.update(func(tx *catalog.Tx) (err error) { id, err = tx.EnqueueJob(j); return err })
	return id
}

func (b *bench) job(id block.JobID) (j block.Job) {
	b.Helper()
	b.update(func(tx *catalog.Tx) (err error) { j, err = tx.Job(id); return err })
	return j
}

func (b *bench) outcomes() (all []Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.attempts {
		all = append(all, a.Outcome)
	}
	return all
}

func inBubble(t *testing.T, fn func(b *bench)) {
	synctest.Test(t, func(t *testing.T) { fn(newBench(t)) })
}

func TestDone(t *testing.T) {
	inBubble(t, func(b *bench) {
		stop := b.start(b.config(map[string]Handler{"k": play{run: func(_ context.Context, t *Task) error {
			var args struct{ N int }
			if err := t.Args(&args); err != nil {
				return err
			}
			t.Progress("counts", 5, 10)
			time.Sleep(time.Second)
			if j := b.job(t.Job.ID); j.Step != "counts" || j.Done != 5 || j.Total != 10 {
				b.Errorf("progress while it runs: %+v", j)
			}
			t.Evidence(map[string]int{"n": args.N})
			t.Progress("ends", 10, 10)
			return nil
		}}}))
		defer stop()
		synctest.Wait() // until the runner rests, so that it has to be told
		began := time.Now()
		later := b.enqueue(block.Job{Kind: "k", Args: json.RawMessage(`{"N":8}`), RunAt: time.Now().Add(time.Minute)})
		id := b.enqueue(block.Job{Kind: "k", Args: json.RawMessage(`{"N":7}`)})
		time.Sleep(2 * time.Second)
		j := b.job(id)
		if j.State != block.JobDone || string(j.Evidence) != `{"n":7}` || j.Step != "ends" || j.Done != 10 {
			b.Errorf("%+v", j)
		}
		if took := j.Ended.Sub(began); took != time.Second {
			b.Errorf("ended after %v", took)
		}
		time.Sleep(2 * time.Minute)
		if j := b.job(later); j.State != block.JobDone || j.Started.Sub(began) != time.Minute {
			b.Errorf("the later one: %+v, after %v", j, j.Started.Sub(began))
		}
	})
}

// TestRetries: the waits double up to a cap; then the job is given up, in one
// transaction with what GaveUp does.
func TestRetries(t *testing.T) {
	inBubble(t, func(b *bench) {
		began := time.Now()
		var at []time.Duration
		var refuse atomic.Bool
		refuse.Store(true)
		stop := b.start(b.config(map[string]Handler{"k": play{
			retries: Retries{Attempts: 5, First: time.Second, Max: 3 * time.Second},
			run: func(context.Context, *Task) error {
				at = append(at, time.Since(began))
				return fmt.Errorf("attempt %d", len(at))
			},
			gaveUp: func(tx *catalog.Tx, j block.Job, cause error) error {
				err := tx.SetSetting("subject", []byte(j.Subject+" "+cause.Error()))
				if refuse.Load() {
					return errors.Join(err, errors.New("the subject can't be written"))
				}
				return err
			},
		}}))
		defer stop()
		id := b.enqueue(block.Job{Kind: "k", Subject: "s"})
		time.Sleep(10 * time.Second) // the fifth attempt was at 1+2+3+3 s
		synctest.Wait()
		want := []time.Duration{0, time.Second, 3 * time.Second, 6 * time.Second, 9 * time.Second}
		if !slices.Equal(at, want) {
			b.Errorf("attempts at %v, want %v", at, want)
		}
		b.update(func(tx *catalog.Tx) error {
			if _, ok, err := tx.Setting("subject"); ok || err != nil {
				b.Errorf("what a GaveUp that failed wrote was kept: %v %v", ok, err)
			}
			return nil
		})
		if j := b.job(id); j.State != block.JobReady || j.Error != "attempt 5" {
			b.Errorf("after a GaveUp that failed: %+v", j)
		}
		refuse.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		b.update(func(tx *catalog.Tx) error {
			if text, _, err := tx.Setting("subject"); string(text) != "s attempt 5" || err != nil {
				b.Errorf("GaveUp wrote %q, %v", text, err)
			}
			return nil
		})
		if j := b.job(id); j.State != block.JobFailed || j.Error != "attempt 5" || len(at) != 5 {
			b.Errorf("%+v after %d runs", j, len(at))
		}
	})
}

func TestSteeringErrors(t *testing.T) {
	notFound := block.Errorf(block.NotFound, "gone")
	for name, test := range map[string]struct {
		errs  []error // of the runs, in turn; nil from then on
		want  []Outcome
		took  time.Duration
		state block.JobState
		text  string
	}{
		"done":    {nil, []Outcome{Succeeded}, 0, block.JobDone, ""},
		"retry":   {[]error{notFound}, []Outcome{Retried, Succeeded}, time.Second, block.JobDone, ""},
		"give up": {[]error{GiveUp(notFound)}, []Outcome{Failed}, 0, block.JobFailed, "gone"},
		"wrapped": {[]error{fmt.Errorf("x: %w", GiveUp(notFound))}, []Outcome{Failed}, 0, block.JobFailed, "x: gone"},
		"snooze": {[]error{Snooze(7*time.Second, nil)}, []Outcome{Snoozed, Succeeded}, 7 * time.Second,
			block.JobDone, ""},
		"snooze for why": {[]error{Snooze(time.Hour, notFound)}, []Outcome{Snoozed}, 0, block.JobReady, "gone"},
		"long": {[]error{GiveUp(errors.New(strings.Repeat("x", 9999)))}, []Outcome{Failed}, 0, block.JobFailed,
			strings.Repeat("x", maxErrorText)},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				runs := 0
				stop := b.start(b.config(map[string]Handler{"k": play{run: func(context.Context, *Task) error {
					if runs++; runs <= len(test.errs) {
						return test.errs[runs-1]
					}
					return nil
				}}}))
				defer stop()
				id := b.enqueue(block.Job{Kind: "k"})
				time.Sleep(time.Minute)
				j := b.job(id)
				if j.State != test.state || j.Error != test.text || !slices.Equal(b.outcomes(), test.want) {
					b.Errorf("%+v after %v", j, b.outcomes())
				}
				if took := j.Ended.Sub(j.Created); j.State == block.JobDone && took != test.took {
					b.Errorf("took %v", took)
				}
			})
		})
	}
	if !block.Is(GiveUp(notFound), block.NotFound) || !block.Is(Snooze(0, notFound), block.NotFound) {
		t.Error("the kind of the cause is lost")
	}
}

func TestSnoozesAreNotAttempts(t *testing.T) {
	inBubble(t, func(b *bench) {
		runs := 0
		stop := b.start(b.config(map[string]Handler{"k": play{run: func(_ context.Context, t *Task) error {
			if runs++; runs < 100 {
				return Snooze(time.Second, nil)
			}
			return nil
		}}}))
		defer stop()
		id := b.enqueue(block.Job{Kind: "k"})
		time.Sleep(5 * time.Minute)
		if j := b.job(id); j.State != block.JobDone || j.Attempts != 1 {
			b.Errorf("%+v", j)
		}
	})
}

func TestPanicIsAFailure(t *testing.T) {
	inBubble(t, func(b *bench) {
		stop := b.start(b.config(map[string]Handler{"k": play{
			retries: Retries{Attempts: 2, First: time.Second, Max: time.Second},
			run:     func(context.Context, *Task) error { panic("ouch") },
		}, "evidence": play{
			retries: Retries{Attempts: 1},
			run:     func(_ context.Context, t *Task) error { t.Evidence(func() {}); return nil },
		}}))
		id, other := b.enqueue(block.Job{Kind: "k"}), b.enqueue(block.Job{Kind: "evidence"})
		time.Sleep(time.Minute)
		stop()
		if j := b.job(id); j.State != block.JobFailed || j.Error != "panic: ouch" || j.Attempts != 2 {
			b.Errorf("%+v", j)
		}
		if !strings.Contains(b.log.String(), "runner_test.go") {
			b.Errorf("no stack in the log:\n%s", b.log.String())
		}
		if j := b.job(other); j.State != block.JobFailed || !strings.HasPrefix(j.Error, "evidence: ") {
			b.Errorf("%+v", j)
		}
	})
}

// TestLongJobKeepsItsLease: a job that takes many leases runs once, though
// another process looks for jobs too.
func TestLongJobKeepsItsLease(t *testing.T) {
	inBubble(t, func(b *bench) {
		runs := 0
		c := b.config(map[string]Handler{"k": play{run: func(ctx context.Context, _ *Task) error {
			runs++
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Minute):
			}
			return ctx.Err()
		}}})
		defer b.start(c)()
		c.Owner = "another"
		defer b.start(c)()
		id := b.enqueue(block.Job{Kind: "k"})
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if j := b.job(id); runs != 1 || j.State != block.JobDone || j.Attempts != 1 {
			b.Errorf("%d runs, %+v", runs, j)
		}
	})
}

// TestLostLease takes a job away from its runner, whose handler is told so and
// whose result is not written.
func TestLostLease(t *testing.T) {
	inBubble(t, func(b *bench) {
		told := false
		stop := b.start(b.config(map[string]Handler{"k": play{run: func(ctx context.Context, _ *Task) error {
			<-ctx.Done()
			told = true
			return nil
		}}}))
		defer stop()
		id := b.enqueue(block.Job{Kind: "k"})
		synctest.Wait()
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
		time.Sleep(20 * time.Second) // more than a third of the lease
		synctest.Wait()
		if j := b.job(id); !told || j.State != block.JobRunning || !slices.Equal(b.outcomes(), []Outcome{Abandoned}) {
			b.Errorf("told %v, %+v, %v", told, j, b.outcomes())
		}
	})
}

// TestStop: a job that is cut by a clean stop can be claimed at once, and the
// attempt isn't counted.
func TestStop(t *testing.T) {
	inBubble(t, func(b *bench) {
		cut := 0
		c := b.config(map[string]Handler{"k": play{run: func(ctx context.Context, _ *Task) error {
			select {
			case <-ctx.Done():
				cut++
				time.Sleep(time.Second) // it takes a while to stop
				return ctx.Err()
			case <-time.After(time.Minute):
				return nil
			}
		}}})
		id := b.enqueue(block.Job{Kind: "k"})
		for range 3 {
			stop := b.start(c)
			time.Sleep(time.Second)
			stop()
			if j := b.job(id); j.State != block.JobReady || j.Attempts != 0 || j.RunAt.After(time.Now()) {
				b.Errorf("after the stop: %+v", j)
			}
		}
		c.Owner = "another"
		stop := b.start(c)
		time.Sleep(time.Minute + time.Second)
		stop()
		if j := b.job(id); j.State != block.JobDone || j.Attempts != 1 || cut != 3 {
			b.Errorf("%+v, cut %d times", j, cut)
		}
	})
}

// TestRestartUnderTheSameName: what a process held when it was killed is run
// again at once by the next of its name, not after the lease.
func TestRestartUnderTheSameName(t *testing.T) {
	inBubble(t, func(b *bench) {
		ids := []block.JobID{b.enqueue(block.Job{Kind: "k"}), b.enqueue(block.Job{Kind: "killer"})}
		for range 3 {
			b.update(func(tx *catalog.Tx) error { return tx.ReclaimJobs("me") })
			b.update(func(tx *catalog.Tx) error { // killed while it held the killer
				_, ok, err := tx.ClaimJob("me", time.Hour, []string{"killer"})
				if !ok {
					b.Error("not claimed")
				}
				return err
			})
		}
		b.update(func(tx *catalog.Tx) error { _, _, err := tx.ClaimJob("me", time.Hour, []string{"k"}); return err })
		none := func(context.Context, *Task) error { return nil }
		stop := b.start(b.config(map[string]Handler{
			"k":      play{run: none},
			"killer": play{run: none, retries: Retries{Attempts: 3}},
		}))
		defer stop()
		time.Sleep(time.Millisecond)
		if j := b.job(ids[0]); j.State != block.JobDone {
			b.Errorf("%+v", j)
		}
		if j := b.job(ids[1]); j.State != block.JobFailed || j.Error != "the process ended during each of 3 attempts" {
			b.Errorf("%+v", j)
		}
	})
}

func TestOldJobsAreForgotten(t *testing.T) {
	inBubble(t, func(b *bench) {
		c := b.config(map[string]Handler{"k": play{run: func(context.Context, *Task) error { return nil }}})
		c.Keep = 90 * time.Minute
		defer b.start(c)()
		old := b.enqueue(block.Job{Kind: "k", Subject: "s"})
		time.Sleep(114 * time.Minute)
		young := b.enqueue(block.Job{Kind: "k", Subject: "s"})
		b.job(old)
		time.Sleep(time.Hour)
		b.update(func(tx *catalog.Tx) error {
			jobs, err := tx.JobsOf("s")
			if len(jobs) != 1 || jobs[0].ID != young {
				b.Errorf("left: %+v", jobs)
			}
			return err
		})
	})
}

func TestWorkersAreLimited(t *testing.T) {
	inBubble(t, func(b *bench) {
		var mu sync.Mutex
		now, most := 0, 0
		c := b.config(map[string]Handler{"k": play{run: func(context.Context, *Task) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		}}})
		c.Workers = 3
		defer b.start(c)()
		foreign := b.enqueue(block.Job{Kind: "foreign"})
		var last block.JobID
		for range 9 {
			last = b.enqueue(block.Job{Kind: "k"})
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if j := b.job(last); most != 3 || j.State != block.JobDone || j.Ended.Sub(j.Created) != 3*time.Second {
			b.Errorf("%d at once; the last %+v", most, j)
		}
		if j := b.job(foreign); j.State != block.JobReady {
			b.Errorf("a job without a handler: %+v", j)
		}
	})
}

// TestStoppedBeforeItBegan shows that a runner whose context has ended does
// nothing, which is no error.
func TestStoppedBeforeItBegan(t *testing.T) {
	c, err := catalog.Open(t.Context(), catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := New(Config{Catalog: c, Owner: "test"}).Run(ctx); err != nil {
		t.Error(err)
	}
}
