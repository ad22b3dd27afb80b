package main

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
)

// steadyFlush is how many blocks a steady load writes between two flushes: 1 MiB.
const steadyFlush = 256

// steady overwrites a volume at random in a store that is full to some part,
// for a while: what reaches the disk with compaction, the slowest writes, and
// the same with a snapshot each second.
func (b *bench) steady(ctx context.Context) error {
	for _, load := range []steadyLoad{{percent: 50}, {percent: 70}, {percent: 85}, {percent: 50, snapshots: true}} {
		if b.level != 0 && (b.level != load.percent || load.snapshots) {
			continue
		}
		if err := b.steadyAt(ctx, load); err != nil {
			return fmt.Errorf("%s: %w", load, err)
		}
	}
	return nil
}

// steadyLoad is one of them.
type steadyLoad struct {
	percent   int64 // of the store's room that the volume takes
	snapshots bool  // one each second; the last two are kept
}

func (l steadyLoad) String() string {
	if l.snapshots {
		return fmt.Sprintf("%d %% full, a snapshot each second", l.percent)
	}
	return fmt.Sprintf("%d %% full", l.percent)
}

func (b *bench) steadyAt(ctx context.Context, load steadyLoad) (err error) {
	dir := fmt.Sprintf("steady-%d-%v", load.percent, load.snapshots)
	s, c, err := b.counted(ctx, dir, region*100/load.percent)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Join(b.dir, dir))
	defer func() { err = errors.Join(err, s.Close()) }()
	d, err := fullVolume(ctx, s)
	if err != nil {
		return err
	}
	defer d.Close()
	r := overwriting{store: s, device: d, snapshots: load.snapshots}
	bytes, index, syncs := c.bytes.Load(), c.index.Load(), c.syncs.Load()
	err = r.run(ctx, b.duration)
	work := fmt.Sprintf("steady overwrites for %v, store %s", b.duration, load)
	if block.Is(err, block.NoSpace) {
		b.note(work, fmt.Sprintf("refused after %d writes: the store is full", r.writes.count), "", "", "", false)
		return nil
	} else if err != nil {
		return err
	}
	b.note(
		work,
		fmt.Sprintf("%.0f/s", float64(r.writes.count)/r.took.Seconds()),
		"writes: "+r.writes.String(),
		"",
		"",
		true,
	)
	b.note("  flushes, one for each MiB", fmt.Sprintf("%.0f/s", float64(r.flushes.count)/r.took.Seconds()),
		"flushes: "+r.flushes.String(), "", "", true)
	written := float64(r.writes.count * 4096)
	b.atMost("  bytes to files per byte written, with compaction", float64(c.bytes.Load()-bytes)/written, 2.5)
	b.atMost("  of these to the index", float64(c.index.Load()-index)/written, 0.5)
	b.atMost("  syncs of the log per flush", float64(c.syncs.Load()-syncs)/float64(r.flushes.count), 2)
	return nil
}

// overwriting is a load of random writes over a whole volume, and what it saw.
type overwriting struct {
	store           *logstore.Store
	device          driver.Device
	snapshots       bool
	took            time.Duration
	writes, flushes times
}

func (r *overwriting) run(ctx context.Context, length time.Duration) error {
	rnd := rand.New(rand.NewPCG(6, 7))
	p := make([]byte, 4096)
	shot, began := 0, time.Now()
	defer func() { r.took = time.Since(began) }()
	for last := began; last.Sub(began) < length; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p[0], p[1] = byte(r.writes.count), 1
		if _, err := r.device.WriteAt(p, rnd.Int64N(region/4096)*4096); err != nil {
			return err
		}
		last = r.writes.since(last)
		if r.writes.count%steadyFlush == 0 {
			if err := r.device.Flush(); err != nil {
				return err
			}
			last = r.flushes.since(last)
		}
		if r.snapshots && int(last.Sub(began)/time.Second) > shot {
			var err error
			if shot, err = nextSnapshot(ctx, r.store, shot); err != nil {
				return err
			}
			last = time.Now()
		}
	}
	return nil
}

// nextSnapshot takes a snapshot and drops the one before the last.
func nextSnapshot(ctx context.Context, s *logstore.Store, n int) (int, error) {
	if n > 1 {
		if err := s.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: "vol", Name: snapshotName(n - 2)}); err != nil {
			return 0, err
		}
	}
	return n + 1, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "vol", Name: snapshotName(n)})
}

// times counts how long things took, in a bounded number of classes: each is a
// sixteenth of a power of two wide.
type times struct {
	classes [64 * 16]int64
	count   int64
	longest time.Duration
}

// since notes the time from a moment until now, and returns now.
func (t *times) since(from time.Time) time.Time {
	now := time.Now()
	d := now.Sub(from)
	t.count++
	t.longest = max(t.longest, d)
	t.classes[timeClass(uint64(max(d, 1)))]++
	return now
}

func timeClass(n uint64) int {
	top := bits.Len64(n) - 1
	if top < 4 {
		return int(n)
	}
	return top*16 + int(n>>(top-4)&15)
}

// share is a time that a share of all kept, in steps of their classes.
func (t *times) share(part float64) time.Duration {
	left := int64(part * float64(t.count))
	for i, n := range t.classes {
		if left -= n; left < 0 {
			if i < 64 {
				return time.Duration(i)
			}
			top := i / 16
			return time.Duration(1<<top + (i%16+1)<<(top-4))
		}
	}
	return t.longest
}

func (t *times) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(max(time.Microsecond, d/1000)) }
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, longest %v", round(t.share(.5)), round(t.share(.99)),
		round(t.share(.999)), t.longest.Round(10*time.Microsecond))
}
