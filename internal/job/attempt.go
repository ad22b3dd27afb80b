package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

const (
	settlePause  = 200 * time.Millisecond
	settleTime   = 10 * time.Second // to write how a job ended, even when the process is to stop
	maxErrorText = 2000             // bytes of an error that are kept with its job
)

// errLost ends a handler whose job is no longer held.
var errLost = errors.New("the lease of the job was lost")

// attempt runs a claimed job once and writes how it ended.
func (r *Runner) attempt(ctx context.Context, j block.Job) {
	log := r.Log.With("job", j.ID, "kind", j.Kind, "subject", j.Subject)
	h := r.Handlers[j.Kind]
	// What the attempt writes is written only while the job is held by this claim.
	ctx = catalog.Holding(ctx, catalog.Hold{Job: j.ID, Holder: r.Owner, Token: j.Token})
	began := r.Now()
	t := newTask(j)
	var err error
	if limit := retriesOf(h).Attempts; j.Attempts > limit {
		err = GiveUp(spent(j, limit))
	} else {
		err = r.handle(ctx, log, h, t)
	}
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	outcome, err := r.settle(settling, ctx.Err() != nil, h, t, err)
	report(log, outcome, j, err)
	r.Observe(Attempt{Kind: j.Kind, Outcome: outcome, Took: r.Now().Sub(began)})
}

// spent is why a job is given up that was claimed once more than it may: its
// process ended while it ran, or giving it up failed before.
func spent(j block.Job, limit int) error {
	if j.Error != "" {
		return errors.New(j.Error)
	}
	return fmt.Errorf("the process ended during each of %d attempts", limit)
}

// handle calls the handler and keeps the job while it works.
func (r *Runner) handle(ctx context.Context, log *slog.Logger, h Handler, t *Task) error {
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var keeper sync.WaitGroup
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	keeper.Go(func() { r.keep(keeping, log, t, cancel) })
	err := guard(log, func() error { return h.Run(working, t) })
	stop()
	keeper.Wait()
	if errors.Is(context.Cause(working), errLost) {
		return errLost
	}
	return err
}

// guard makes an error of a panic.
func guard(log *slog.Logger, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("a job handler panicked", "err", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

// keep renews the lease of a job and writes its progress until ctx ends. It
// calls lost if somebody else may hold the job.
func (r *Runner) keep(ctx context.Context, log *slog.Logger, t *Task, lost context.CancelCauseFunc) {
	renew := time.NewTicker(r.Lease / 3)
	defer renew.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	until := r.Now().Add(r.Lease)
	var changed <-chan struct{} // nil while we pause
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
			changed = t.changed
			continue
		case <-changed:
			changed = nil
			pause.Reset(progressPause)
		case <-renew.C:
		}
		err := r.sign(ctx, t)
		switch {
		case err == nil:
			until = r.Now().Add(r.Lease)
		case ctx.Err() != nil:
			return
		case block.Is(err, block.Stale) || r.Now().After(until):
			lost(errLost)
			return
		default:
			log.Warn("the lease of a job can't be renewed", "err", err)
		}
	}
}

// sign shows that the job is alive, and how far it is.
func (r *Runner) sign(ctx context.Context, t *Task) error {
	p, number, ok := t.pending()
	err := r.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if ok {
			if err := r.note(tx, t.Job.ID, p); err != nil {
				return err
			}
		}
		return tx.RenewJob(t.Job.ID, r.Owner, r.Lease)
	})
	if err == nil {
		t.wrote(number)
	}
	return err
}

func (r *Runner) note(tx *catalog.Tx, id block.JobID, p progress) error {
	return tx.JobProgress(id, r.Owner, p.step, p.done, p.total)
}

// settle writes how an attempt ended. The error it returns is what there is to
// report: the handler's, or why the end could not be written.
func (r *Runner) settle(ctx context.Context, stopping bool, h Handler, t *Task, err error) (Outcome, error) {
	if errors.Is(err, errLost) {
		return Abandoned, err
	}
	evidence, bad := t.proof()
	if bad != nil {
		err = errors.Join(err, fmt.Errorf("evidence: %w", bad))
	}
	var outcome Outcome
	end := func(tx *catalog.Tx) error {
		if p, _, ok := t.pending(); ok {
			if err := r.note(tx, t.Job.ID, p); err != nil {
				return err
			}
		}
		var failed error
		outcome, failed = r.conclude(tx, stopping, h, t.Job, evidence, err)
		return failed
	}
	failed := r.Catalog.Update(ctx, end)
	for block.Is(failed, block.Unavailable) && outcome != Failed && pause(ctx, settlePause) {
		failed = r.Catalog.Update(ctx, end) // else the job stands still until its lease is over
	}
	if failed != nil && outcome == Failed && !block.Is(failed, block.Stale) {
		cause := err
		err = errors.Join(cause, fmt.Errorf("give up: %w", failed))
		failed = r.Catalog.Update(ctx, func(tx *catalog.Tx) error { return r.retry(tx, h, t.Job, cause) })
		outcome = Retried
	}
	if failed != nil {
		return Abandoned, errors.Join(err, failed)
	}
	return outcome, err
}

// pause waits, and reports whether ctx lives still.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// conclude decides what an attempt comes to.
func (r *Runner) conclude(
	tx *catalog.Tx, stopping bool, h Handler, j block.Job, evidence json.RawMessage, err error,
) (Outcome, error) {
	s, snoozed := asSnooze(err)
	switch {
	case err == nil:
		return Succeeded, tx.FinishJob(j.ID, r.Owner, block.JobDone, "", evidence)
	case isGiveUp(err):
	case snoozed:
		return Snoozed, tx.SnoozeJob(j.ID, r.Owner, tx.Now.Add(s.wait), errorText(err))
	case stopping:
		return Stopped, tx.SnoozeJob(j.ID, r.Owner, tx.Now, j.Error)
	case j.Attempts < retriesOf(h).Attempts:
		return Retried, r.retry(tx, h, j, err)
	}
	if failed := guard(r.Log, func() error { return h.GaveUp(tx, j, err) }); failed != nil {
		return Failed, failed
	}
	return Failed, tx.FinishJob(j.ID, r.Owner, block.JobFailed, errorText(err), evidence)
}

func (r *Runner) retry(tx *catalog.Tx, h Handler, j block.Job, err error) error {
	return tx.RetryJob(j.ID, r.Owner, tx.Now.Add(retriesOf(h).wait(j.Attempts)), errorText(err))
}

// errorText is an error as it is kept with its job.
func errorText(err error) string {
	text := err.Error()
	return text[:min(len(text), maxErrorText)]
}

func report(log *slog.Logger, o Outcome, j block.Job, err error) {
	switch o {
	case Succeeded, Stopped:
		log.Debug("a job ended", "outcome", o, "attempt", j.Attempts)
	case Snoozed:
		log.Debug("a job waits", "err", err)
	case Retried, Abandoned:
		log.Warn("an attempt at a job failed", "outcome", o, "attempt", j.Attempts, "err", err)
	case Failed:
		log.Error("a job failed", "attempt", j.Attempts, "err", err)
	}
}
