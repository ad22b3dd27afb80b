package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

const owner = "scale"

// nothing is a handler that has nothing to do.
type nothing struct{}

func (nothing) Run(context.Context, *job.Task) error       { return nil }
func (nothing) GaveUp(*catalog.Tx, block.Job, error) error { return nil }

// jobs fills the queue with what has ended and with what is due, claims some by
// hand, and has the runner do the rest.
func (l *lab) jobs(ctx context.Context) error {
	before, err := bytesOf(ctx, l.path)
	if err != nil {
		return err
	}
	if err := l.enqueue(ctx, l.ended, true); err != nil {
		return err
	}
	after, err := bytesOf(ctx, l.path)
	if err != nil {
		return err
	}
	l.paper.note("an ended job's row", (after-before)/int64(max(1, l.ended)), "bytes")
	if err := l.enqueue(ctx, l.waiting, false); err != nil {
		return err
	}
	kinds := []string{"nothing"}
	if l.waiting < 2*l.rounds {
		return errors.New("too few jobs wait")
	}
	err = l.times("claiming a job, one at a time", l.rounds, func(int) error {
		return l.catalog.Update(ctx, func(tx *catalog.Tx) error {
			_, ok, err := tx.ClaimJob(owner, time.Minute, kinds)
			if err == nil && !ok {
				err = errors.New("no job is due")
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	var done atomic.Int64
	running, stop := context.WithCancel(ctx)
	defer stop()
	all := int64(l.waiting)
	r := job.New(job.Config{Catalog: l.catalog, Handlers: map[string]job.Handler{"nothing": nothing{}}, Owner: owner,
		Log: slog.New(slog.DiscardHandler), Observe: func(job.Attempt) {
			if done.Add(1) == all {
				stop()
			}
		}})
	began, used, asked := time.Now(), processor(), l.seen.count()
	if err := r.Run(running); err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	n := float64(max(1, done.Load()))
	l.paper.note(
		"jobs that the runner does, claimed and ended durably",
		fmt.Sprintf("%.0f", n/time.Since(began).Seconds()),
		"/s",
	)
	l.paper.note("processor for a job", fmt.Sprintf("%.3f", 1000*(processor()-used).Seconds()/n), "ms")
	l.paper.note("statements for a job", fmt.Sprintf("%.1f", float64(l.seen.count()-asked)/n), "")
	return nil
}

func (l *lab) enqueue(ctx context.Context, n int, ended bool) error {
	for from := 0; from < n; from += batch {
		err := l.catalog.Update(ctx, func(tx *catalog.Tx) error {
			for i := from; i < min(from+batch, n); i++ {
				_, err := tx.EnqueueJob(block.Job{Kind: "nothing", Subject: string(l.ids[i%len(l.ids)])})
				if err != nil || !ended {
					if err != nil {
						return err
					}
					continue
				}
				j, _, err := tx.ClaimJob(owner, time.Minute, []string{"nothing"})
				if err == nil {
					err = tx.FinishJob(j.ID, owner, block.JobDone, "", nil)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
