package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/vfs"
)

// counts is what a store gives its disk to do: pages of files, each once
// between two syncs of its file however often it is written, as the kernel hands
// them on, and syncs of the log.
type counts struct {
	bytes, index, syncs atomic.Int64

	mu    sync.Mutex // guards dirty
	dirty map[string]map[int64]bool
}

const page = 4096

func (c *counts) note(e vfs.Event) {
	switch e.Op {
	case vfs.OpSync, vfs.OpRemove, vfs.OpRename:
		if e.Op == vfs.OpSync && strings.Contains(e.Name, "/segments/") {
			c.syncs.Add(1)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.dirty, e.Name)
	case vfs.OpWrite:
		if e.N == 1<<20 && e.Off%e.N == 0 {
			return // a new segment is filled with zeros
		}
		n := c.pages(e) * page
		c.bytes.Add(n)
		if strings.Contains(e.Name, "/index/") {
			c.index.Add(n)
		}
	}
}

// pages counts those that a write makes dirty.
func (c *counts) pages(e vfs.Event) (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.dirty[e.Name]
	if of == nil {
		of = map[int64]bool{}
		c.dirty[e.Name] = of
	}
	for i := e.Off / page; i*page < e.Off+e.N; i++ {
		if !of[i] {
			of[i] = true
			n++
		}
	}
	return n
}

// counted opens a store whose operations on files are counted.
func (b *bench) counted(ctx context.Context, name string, maxBytes int64) (*logstore.Store, *counts, error) {
	c := &counts{dirty: map[string]map[int64]bool{}}
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
