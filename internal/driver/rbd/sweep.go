package rbd

import (
	"context"
	"strings"

	"kvol/internal/block"
)

// sweeper removes what deletions and crashes left, beside all requests: an image from
// the trash takes as long as it is large.
type sweeper struct {
	wanted chan struct{}
	end    context.CancelFunc
	ended  chan struct{}
}

// startSweeper starts to sweep; ctx gives values only.
func (d *Driver) startSweeper(ctx context.Context) {
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	d.sweeper = sweeper{wanted: make(chan struct{}, 1), end: end, ended: make(chan struct{})}
	d.sweeper.wake()
	go func() {
		defer close(d.sweeper.ended)
		d.runSweeper(ctx)
	}()
}

// wake has it sweep once more, after what it does now.
func (s *sweeper) wake() {
	select {
	case s.wanted <- struct{}{}:
	default: // it will
	}
}

// stop ends it. What it was removing is removed by the next one.
func (s *sweeper) stop() {
	s.end()
	<-s.ended
}

func (d *Driver) runSweeper(ctx context.Context) {
	finished := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.sweeper.wanted:
		}
		if !finished {
			err := d.sweepUnfinished(ctx)
			finished = err == nil
			d.notSwept(ctx, "what clones left that were cut short could not be removed", err)
		}
		d.notSwept(ctx, "the trash of a store could not be swept", d.sweepTrash(ctx))
	}
}

// notSwept tells of an error that nobody waits for.
func (d *Driver) notSwept(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		d.o.Log.Error(what, "err", err)
	}
}

// sweepUnfinished removes what clones left that were cut short, of this process or
// one before it; no clone of ours is under way meanwhile.
func (d *Driver) sweepUnfinished(ctx context.Context) error {
	names, err := d.calls.names(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, ok := strings.CutPrefix(name, unfinishedPrefix)
		if !ok {
			continue
		}
		err := d.o.InTurn(ctx, func() error {
			d.unfinished.Lock()
			defer d.unfinished.Unlock()
			return d.removeUnfinished(ctx, block.VolumeID(id))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// trashed is an image as `rbd trash ls` shows it.
type trashed struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (d *Driver) trash(ctx context.Context) (all []trashed, err error) {
	err = d.runJSON(ctx, &all, "trash", "ls", d.Pool())
	return all, err
}

// sweepTrash removes images from the trash on which no clone stands any more. A
// parent can go when its last child went, so it goes round until nothing does. One
// that can't go keeps no other from it. Whose turn it is doesn't matter: nobody
// wants any of them.
func (d *Driver) sweepTrash(ctx context.Context) error {
	for {
		all, err := d.trash(ctx)
		if err != nil {
			return err
		}
		removed := false
		for _, t := range all {
			if !strings.HasPrefix(t.Name, imagePrefix) {
				continue
			}
			_, err := d.runFor(ctx, d.rbd("trash", "rm", "--no-progress", d.Pool()+"/"+t.ID), longest)
			switch {
			case err == nil:
				removed = true
			case !block.Is(err, block.Conflict) && !block.Is(err, block.NotFound):
				d.notSwept(ctx, "an image could not be removed from the trash", err)
			}
		}
		if !removed || ctx.Err() != nil {
			return nil
		}
	}
}
