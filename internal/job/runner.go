package job

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

const (
	defaultPerBackend = 8
	defaultLease      = 30 * time.Second
	defaultKeep       = 30 * 24 * time.Hour
	poll              = 5 * time.Second        // how long to sleep at most: other processes enqueue jobs too
	prunePause        = time.Hour              // between two looks for jobs to forget
	pruneBatch        = 1000                   // jobs that are forgotten in one transaction
	progressPause     = 200 * time.Millisecond // between two writes of a job's progress
)

// Config is what a Runner needs. Catalog, Handlers, Log and Owner must be set.
type Config struct {
	Catalog  *catalog.Catalog
	Handlers map[string]Handler // by kind of job; jobs of other kinds are left alone
	Log      *slog.Logger
	// Owner names this process among those that share the catalog. It is the
	// same after a restart: what it held when it was killed is run again at once.
	Owner   string
	Workers int // jobs that run at once in all; 0 for as many as the backends may have
	// PerBackend is how many jobs run at once that need one backend, how many that need
	// the same two, and how many that need none; 0 for a default. So a store that
	// hangs, which holds its jobs, takes no other one's.
	PerBackend int
	Lease      time.Duration    // how long a job is held without a sign of life; 0 for a default
	Keep       time.Duration    // how long ended jobs are remembered; 0 for a default
	Now        func() time.Time // nil for the system's clock
	// Observe, if set, is told of every attempt that ended. It must be quick.
	Observe func(Attempt)
}

// Attempt says how an attempt at a job ended, for metrics.
type Attempt struct {
	Kind    string
	Outcome Outcome
	Took    time.Duration
}

// Outcome is how an attempt ended.
type Outcome string

// The outcomes of an attempt.
const (
	Succeeded Outcome = "done"
	Retried   Outcome = "retried"
	Snoozed   Outcome = "snoozed"
	Failed    Outcome = "failed"    // given up
	Stopped   Outcome = "stopped"   // the process stops; run again after its start
	Abandoned Outcome = "abandoned" // the lease was lost, or the catalog could not be written
)

// Runner runs jobs.
type Runner struct {
	Config
	kinds []string
	freed chan struct{} // gets a token when a worker is free again

	mu      sync.Mutex // guards running and again
	running map[block.JobID]block.Job
	again   map[block.JobID]block.Job // newer claims of those that run
}

// New makes a Runner. Nothing runs before Run.
func New(c Config) *Runner {
	if c.Workers == 0 {
		c.Workers = math.MaxInt
	}
	if c.PerBackend == 0 {
		c.PerBackend = defaultPerBackend
	}
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	if c.Keep == 0 {
		c.Keep = defaultKeep
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Observe == nil {
		c.Observe = func(Attempt) {}
	}
	return &Runner{
		Config: c, kinds: slices.Sorted(maps.Keys(c.Handlers)),
		freed: make(chan struct{}, 1), running: map[block.JobID]block.Job{}, again: map[block.JobID]block.Job{},
	}
}

// Run runs jobs until ctx ends, and then waits for the handlers that are at
// work; their jobs can be claimed at once. It is called once.
func (r *Runner) Run(ctx context.Context) error {
	err := r.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.ReclaimJobs(r.Owner) })
	if err != nil && ctx.Err() != nil {
		return nil // stopped before it began
	}
	if err != nil {
		return fmt.Errorf("reclaim jobs: %w", err)
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	workers.Go(func() { r.forget(ctx) })
	workers.Go(func() { r.hold(ctx) })
	for ctx.Err() == nil {
		if r.busy() == r.Workers {
			r.rest(ctx, poll)
			continue
		}
		claimed, wait, err := r.claim(ctx, r.Workers-r.busy())
		if err != nil && ctx.Err() == nil {
			r.Log.Warn("jobs can't be claimed", "err", err)
		}
		for _, j := range claimed {
			if r.begin(j) {
				workers.Go(func() { r.work(ctx, j) })
			}
		}
		if wait > 0 {
			r.rest(ctx, wait)
		}
	}
	return nil
}

// claim takes jobs that are due, as many as there are workers free for them, in
// one transaction. Where there are fewer, wait is how long to rest before looking
// again; 0 for not at all.
func (r *Runner) claim(ctx context.Context, free int) (claimed []block.Job, wait time.Duration, err error) {
	err = r.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		claimed, wait = nil, 0
		used := r.used()
		for len(claimed) < free {
			j, ok, err := tx.ClaimJob(r.Owner, r.Lease, r.kinds, r.full(used)...)
			if err != nil {
				return err
			}
			if ok {
				used[j.Needs()]++
				claimed = append(claimed, j)
				continue
			}
			wait = poll
			// What is due and not claimed is for another process, or its backend is full.
			at, some, err := tx.NextJobAfter(tx.Now)
			if some {
				wait = min(at.Sub(tx.Now), poll)
			}
			return err
		}
		return nil
	})
	if err != nil {
		return nil, poll, err
	}
	return claimed, wait, nil
}

// rest waits until there may be something to claim.
func (r *Runner) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-r.freed:
	case <-r.Catalog.JobsChanged():
	}
}

func (r *Runner) busy() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.running)
}

// used counts the jobs that run by what they need.
func (r *Runner) used() map[block.Needs]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	used := map[block.Needs]int{}
	for _, j := range r.running {
		used[j.Needs()]++
	}
	return used
}

// full is what as many jobs need as may.
func (r *Runner) full(used map[block.Needs]int) (full []block.Needs) {
	for needs, n := range used {
		if n >= r.PerBackend {
			full = append(full, needs)
		}
	}
	return full
}

// begin notes that a job runs here. It is false if it does already: then the attempt that
// is on its way out (it wrote how it ended, or its lease is over) is followed by the one
// that j was claimed for.
func (r *Runner) begin(j block.Job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, runs := r.running[j.ID]; runs {
		r.again[j.ID] = j
		return false
	}
	r.running[j.ID] = j
	return true
}

// work makes an attempt at a job, and those for which it is claimed meanwhile.
func (r *Runner) work(ctx context.Context, j block.Job) {
	r.attempt(ctx, j)
	for next, more := r.end(j.ID); more; next, more = r.end(j.ID) {
		if err := r.renew(ctx, next); err == nil {
			r.attempt(ctx, next) // which gives it back where the process is to stop
		} else {
			r.Log.Warn("a job that was claimed is not held any more", "job", j.ID, "kind", j.Kind, "err", err)
		}
	}
	select {
	case r.freed <- struct{}{}:
	default: // a token is waiting already
	}
}

// end notes that an attempt at a job ended, unless there is another one to make.
func (r *Runner) end(id block.JobID) (next block.Job, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if next, more = r.again[id]; more {
		delete(r.again, id)
		r.running[id] = next
	} else {
		delete(r.running, id)
	}
	return next, more
}

// hold renews the claims of jobs whose attempts before have not left, until ctx ends: who
// hangs in one may do so for long, and each claim anew would count as an attempt.
func (r *Runner) hold(ctx context.Context) {
	tick := time.NewTicker(r.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.mu.Lock()
		waiting := slices.Collect(maps.Values(r.again))
		r.mu.Unlock()
		for _, j := range waiting {
			if err := r.renew(ctx, j); err != nil && ctx.Err() == nil {
				r.Log.Warn("a job that was claimed can't be held", "job", j.ID, "kind", j.Kind, "err", err)
			}
		}
	}
}

// renew makes sure that a job is still held by the claim that it comes of, also while the
// process is to stop.
func (r *Runner) renew(ctx context.Context, j block.Job) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	ctx = catalog.Holding(ctx, catalog.Hold{Job: j.ID, Holder: r.Owner, Token: j.Token})
	return r.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.RenewJob(j.ID, r.Owner, r.Lease) })
}

// forget removes jobs that ended long ago, now and then, until ctx ends.
func (r *Runner) forget(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		var n int64
		err := r.Catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
			n, err = tx.PruneJobs(tx.Now.Add(-r.Keep), pruneBatch)
			return err
		})
		if err != nil && ctx.Err() == nil {
			r.Log.Warn("old jobs can't be forgotten", "err", err)
		}
		if n < pruneBatch {
			pause.Reset(prunePause)
		} else {
			pause.Reset(0)
		}
	}
}
