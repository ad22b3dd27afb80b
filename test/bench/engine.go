package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/vfs"
)

// counts is what a store did to its disk.
type counts struct{ bytes, index, syncs atomic.Int64 }

func (c *counts) note(e vfs.Event) {
	switch {
	case e.Op == vfs.OpSync && strings.Contains(e.Name, "/segments/"):
		c.syncs.Add(1)
	case e.Op == vfs.OpWrite && e.N == 1<<20: // a new segment is filled with zeros
	case e.Op == vfs.OpWrite:
		c.bytes.Add(e.N)
		if strings.Contains(e.Name, "/index/") {
			c.index.Add(e.N)
		}
	}
}

// counted opens a store whose operations on files are counted.
func (b *bench) counted(ctx context.Context, name string, maxBytes int64) (*logstore.Store, *counts, error) {
	c := &counts{}
	s, err := logstore.Open(ctx, logstore.Options{FS: vfs.Watched{FS: vfs.System{}, Note: c.note},
		Dir: filepath.Join(b.dir, name), MaxBytes: maxBytes})
	return s, c, err
}

// engine compares the store, without NBD, with the raw file underneath: random
// writes with flushes, before and after a snapshot, and what reaches the disk.
func (b *bench) engine(ctx context.Context) error {
	raw := filepath.Join(b.dir, "limit.img")
	if err := fill(raw); err != nil {
		return err
	}
	f, err := os.OpenFile(raw, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	s, c, err := b.counted(ctx, "engine", 0)
	if err != nil {
		return err
	}
	d, err := fullVolume(ctx, s)
	if err != nil {
		return err
	}
	syncRaw := func() error { return unix.Fdatasync(int(f.Fd())) }
	var limit, before, after []float64
	var perByte, perFlush []float64
	for round := range b.rounds {
		rate, err := flushedWrites(f.WriteAt, syncRaw)
		if err != nil {
			return err
		}
		limit = append(limit, rate)
		bytes, syncs := c.bytes.Load(), c.syncs.Load()
		if rate, err = flushedWrites(d.WriteAt, d.Flush); err != nil {
			return err
		}
		before = append(before, rate)
		perByte = append(perByte, float64(c.bytes.Load()-bytes)/(writeCount*4096))
		perFlush = append(perFlush, float64(c.syncs.Load()-syncs)/(writeCount/flushEvery))
		ref := driver.SnapshotRef{Volume: "vol", Name: snapshotName(round)}
		if err := s.CreateSnapshot(ctx, ref); err != nil {
			return err
		}
		if rate, err = flushedWrites(d.WriteAt, d.Flush); err != nil {
			return err
		}
		after = append(after, rate)
		if err := s.DeleteSnapshot(ctx, ref); err != nil {
			return err
		}
	}
	b.speed("store: 4-KiB random writes, flush every 16", before, limit, "the raw file", 3)
	b.speed("store: the same, just after a snapshot", after, limit, "the raw file", 3)
	b.atMost("store: bytes to files per byte written", median(perByte), 1.3)
	b.atMost("store: syncs of the log per flush", median(perFlush), 1.1)
	return errors.Join(d.Close(), s.Close())
}

// atMost notes a figure that has a limit.
func (b *bench) atMost(work string, got, limit float64) {
	b.note(work, fmt.Sprintf("%.2f", got), fmt.Sprintf("limit %.2f", limit), fmt.Sprintf("%.2f", got/limit), "<= 1",
		got <= limit)
}

func flushedWrites(write func([]byte, int64) (int, error), flush func() error) (float64, error) {
	rnd := rand.New(rand.NewPCG(4, 5))
	p := make([]byte, 4096)
	began := time.Now()
	for i := range writeCount {
		p[0], p[1] = byte(i), 1
		if _, err := write(p, rnd.Int64N(region/4096)*4096); err != nil {
			return 0, err
		}
		if i%flushEvery == flushEvery-1 {
			if err := flush(); err != nil {
				return 0, err
			}
		}
	}
	return writeCount / time.Since(began).Seconds(), nil
}

// steady overwrites a volume at random in a store that is full to some part,
// for a while: what reaches the disk with compaction, the slowest writes, and
// the same with a snapshot each second.
func (b *bench) steady(ctx context.Context) error {
	for _, percent := range []int64{50, 70, 85} {
		err := b.steadyAt(ctx, percent, false)
		if block.Is(err, block.NoSpace) {
			b.note(fmt.Sprintf("steady overwrites, store %d %% full", percent), "refused: the store is full", "", "", "", false)
		} else if err != nil {
			return fmt.Errorf("%d %% full: %w", percent, err)
		}
	}
	return b.steadyAt(ctx, 50, true)
}

func (b *bench) steadyAt(ctx context.Context, percent int64, snapshots bool) error {
	name := fmt.Sprintf("steady-%d-%v", percent, snapshots)
	s, c, err := b.counted(ctx, name, region*100/percent)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Join(b.dir, name))
	d, err := fullVolume(ctx, s)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(6, 7))
	p := make([]byte, 4096)
	var took []time.Duration
	bytes, began, shot := c.bytes.Load(), time.Now(), 0
	for last := began; last.Sub(began) < b.duration; {
		p[0], p[1] = byte(len(took)), 1
		if _, err := d.WriteAt(p, rnd.Int64N(region/4096)*4096); err != nil {
			return err
		}
		now := time.Now()
		took, last = append(took, now.Sub(last)), now
		if snapshots && int(now.Sub(began)/time.Second) > shot {
			if shot, err = nextSnapshot(ctx, s, shot); err != nil {
				return err
			}
			last = time.Now()
		}
	}
	seconds := time.Since(began).Seconds()
	slices.Sort(took)
	work := fmt.Sprintf("steady overwrites for %v, store %d %% full", b.duration, percent)
	if snapshots {
		work += ", a snapshot each second"
	}
	b.note(
		work,
		fmt.Sprintf("%.0f/s", float64(len(took))/seconds),
		fmt.Sprintf(
			"p99.9 %v, longest %v",
			took[len(took)*999/1000],
			took[len(took)-1].Round(time.Microsecond),
		),
		"",
		"",
		true,
	)
	b.atMost("  bytes to files per byte written, with compaction",
		float64(c.bytes.Load()-bytes)/float64(len(took)*4096), 2.5)
	return errors.Join(d.Close(), s.Close())
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
