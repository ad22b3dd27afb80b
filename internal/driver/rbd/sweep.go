package rbd

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kvol/internal/block"
)

// sweeper removes what deletions and crashes left, beside all requests: an image from
// the trash takes as long as it is large. What is in the trash is all that it goes by.
type sweeper struct {
	wanted chan struct{}
	end    context.CancelFunc
	ended  chan struct{}
	slots  chan struct{} // taken by each image that is being removed

	mu     sync.Mutex        // guards below
	causes int               // of looking once more: deletions, and removals that ended well
	under  map[string]int    // the ids of images that are being removed, and how many causes there were
	held   map[string]holder // those that could not go when that was tried last
}

// holder is what keeps an image in the trash. The zero value is nothing.
type holder int

const (
	heldByClone  holder = iota + 1 // which stands on it: its removal is a cause
	heldByClient                   // which has it open, of its end nobody tells
)

// removals are how many images are removed from the trash at once.
const removals = 4

// startSweeper starts to sweep; ctx gives values only.
func (d *Driver) startSweeper(ctx context.Context) {
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	s := &d.sweeper
	s.wanted, s.end, s.ended = make(chan struct{}, 1), end, make(chan struct{})
	s.slots, s.under, s.held = make(chan struct{}, removals), map[string]int{}, map[string]holder{}
	s.wake()
	go func() {
		defer close(s.ended)
		d.runSweeper(ctx)
	}()
}

// wake has it look once more, after what it does now.
func (s *sweeper) wake() {
	select {
	case s.wanted <- struct{}{}:
	default: // it will
	}
}

// changed has it look once more, since what could not go may be able to now.
func (s *sweeper) changed() {
	s.mu.Lock()
	s.causes++
	s.mu.Unlock()
	s.wake()
}

// stop ends it. What it was removing is removed by the next one.
func (s *sweeper) stop() {
	s.end()
	<-s.ended
}

func (d *Driver) runSweeper(ctx context.Context) {
	var removing sync.WaitGroup
	defer removing.Wait()
	rest := min(d.o.Sweep, openRest)
	again := time.NewTicker(rest)
	defer again.Stop()
	finished, listed := false, false
	for rested := time.Duration(0); ; {
		all := true
		select {
		case <-ctx.Done():
			return
		case <-d.sweeper.wanted:
		case <-again.C:
			rested += rest
			all = rested >= d.o.Sweep
		}
		if !all && !d.sweeper.waits() {
			continue
		}
		if all {
			rested = 0
		}
		if !finished {
			err := d.sweepUnfinished(ctx)
			finished = err == nil
			d.notSwept(ctx, "what clones left that were cut short could not be removed", err)
		}
		if !listed {
			err := d.keepTrash(ctx)
			listed = err == nil
			d.notSwept(ctx, "the list of a store's trash could not be made", err)
		}
		d.notSwept(ctx, trashNotSwept, d.sweepTrash(ctx, all, &removing))
	}
}

// openRest is how long the sweeper rests where a client has an image open, as one has
// that was killed until the cluster gives it up.
const openRest = 30 * time.Second

const trashNotSwept = "the trash of a store could not be swept"

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

// sweepTrash begins to remove the images in the trash, some at once, those first that
// may go: on the others a clone stood. A parent can go when its last child went, so each
// removal has the sweeper look again. One that can't go keeps no other from it; unless
// all is set, those that clones stood on are not tried. Whose turn it is doesn't matter:
// nobody wants any of them.
func (d *Driver) sweepTrash(ctx context.Context, all bool, removing *sync.WaitGroup) error {
	there, err := d.trash(ctx)
	if err != nil {
		return err
	}
	var silent atomic.Bool // the cluster, since this list: what is left has no better chance
	for _, t := range d.sweeper.order(there, all) {
		select {
		case <-ctx.Done():
			return nil
		case d.sweeper.slots <- struct{}{}:
		}
		if silent.Load() || !d.sweeper.begin(t.ID) {
			<-d.sweeper.slots
			continue
		}
		removing.Go(func() {
			by := d.removeTrashed(ctx, t.ID, &silent)
			if d.sweeper.done(t.ID, by) && by == heldByClient {
				d.o.Log.Warn("a deleted image's bytes stay until the client ends that has it open", "image", t.Name, "id", t.ID)
			}
			<-d.sweeper.slots
		})
	}
	return nil
}

// removeTrashed removes one image from the trash, and tells what keeps it there. An
// attempt that is cut short has removed a part, and the next goes on.
func (d *Driver) removeTrashed(ctx context.Context, id string, silent *atomic.Bool) holder {
	_, err := d.runFor(ctx, d.rbd("trash", "rm", "--no-progress", d.Pool()+"/"+id), longest)
	switch {
	case err == nil:
		d.sweeper.changed()
	case errors.Is(err, syscall.EBUSY):
		return heldByClient
	case block.Is(err, block.Conflict):
		return heldByClone
	case block.Is(err, block.NotFound):
	default:
		if _, unheard := d.trash(ctx); unheard == nil {
			d.notSwept(ctx, "an image could not be removed from the trash", err)
		} else if !silent.Swap(true) {
			d.notSwept(ctx, trashNotSwept, unheard)
		}
	}
	return 0
}

// order returns those of the images that were volumes, those last that can't have gone
// by themselves, and of these only what clients had open unless all is set.
func (s *sweeper) order(there []trashed, all bool) (images []trashed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last []trashed
	held := map[string]holder{}
	for _, t := range there {
		if !strings.HasPrefix(t.Name, imagePrefix) {
			continue
		}
		by := s.held[t.ID]
		if by == 0 {
			images = append(images, t)
			continue
		}
		if held[t.ID] = by; all || by == heldByClient {
			last = append(last, t)
		}
	}
	s.held = held // without those that are gone
	return append(images, last...)
}

// waits reports whether a client had an image open when that was tried last.
func (s *sweeper) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, by := range s.held {
		if by == heldByClient {
			return true
		}
	}
	return false
}

// begin notes that an image is being removed; false if it is already.
func (s *sweeper) begin(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, under := s.under[id]; under {
		return false
	}
	s.under[id] = s.causes
	return true
}

// done notes how that ended, and tells whether what keeps the image is news. What stood
// on it may have gone since it began: then it is tried again. Nothing else is a reason
// for that: images that can't go would have each other tried for ever.
func (s *sweeper) done(id string, by holder) (news bool) {
	s.mu.Lock()
	again := by != 0 && s.causes > s.under[id]
	delete(s.under, id)
	news = s.held[id] != by
	if delete(s.held, id); by != 0 {
		s.held[id] = by
	}
	s.mu.Unlock()
	if again {
		s.wake()
	}
	return news
}
