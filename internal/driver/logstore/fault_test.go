package logstore

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// TestFaults lets each single operation on files fail, in turn, reading and
// opening too, and sees that what was acknowledged stays, after a kill and
// after a power cut. The histories are longer with KVOL_POWER_CUTS.
func TestFaults(t *testing.T) {
	steps := 8
	if os.Getenv(powerCuts) != "" {
		steps = 60
	}
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				reached, err := runFault(7, steps, at, errno)
				if err != nil {
					t.Fatalf("operation %d: %v", at, err)
				}
				if !reached {
					t.Logf("%d operations", at-1)
					return
				}
			}
		})
	}
}

func runFault(seed uint64, steps, at int, errno error) (reached bool, err error) {
	h := newHistory(seed, plot{}, nil)
	h.failAt, h.failBy = at, &fs.PathError{Op: "test", Path: "test", Err: errno}
	err = h.reopen(0)
	for i := 0; err == nil && i < steps; i++ {
		err = h.step()
	}
	if err == nil {
		err = h.finish()
	}
	// To a check an index that it can't read is damaged.
	found := block.Is(err, block.Corrupt) && h.failIn == "check"
	if err != nil && !found && !block.Is(err, block.Unavailable) && !block.Is(err, block.NoSpace) {
		return true, fmt.Errorf("an error of kind %q: %w", block.KindOf(err), err)
	}
	if h.store != nil && !h.store.closed.Load() {
		h.store.release()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	kill, crash := h.fs.Kill(), h.fs.Crash(h.dice)
	if err := verifyImage(kill, h.states[h.acked:], 0, nil, h.dice, 1); err != nil {
		return true, fmt.Errorf("after a kill: %w", err)
	}
	if err := verifyImage(crash, h.states[h.synced:], 0, nil, h.dice, 1); err != nil {
		return true, fmt.Errorf("after a power cut: %w", err)
	}
	return h.ops >= at, nil
}

// TestFailedSyncStopsTheStore: what can't be synced is never acknowledged
// again, since the kernel may have dropped it.
func TestFailedSyncStopsTheStore(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	var fails atomic.Bool
	mem.Hook = func(op vfs.Op, _ string) error {
		if op == vfs.OpSync && fails.CompareAndSwap(true, false) {
			return syscall.EIO
		}
		return nil
	}
	s, err := Open(ctx, crashOptions(mem, nil))
	must(t, err)
	defer endChecked(t, s)
	must(t, s.CreateVolume(ctx, "v", 64*blockSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	must(t, s.pool.wait(readyTarget))
	fails.Store(true)
	p := make([]byte, blockSize)
	_, err = d.WriteAt(p, 0)
	must(t, err)
	for range 2 {
		if err := d.Flush(); !block.Is(err, block.Unavailable) {
			t.Fatalf("flush: %v", err)
		}
	}
	if _, err := d.WriteAt(p, 0); !block.Is(err, block.Unavailable) {
		t.Errorf("write: %v", err)
	}
	if err := s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "s"}); !block.Is(err, block.Unavailable) {
		t.Errorf("snapshot: %v", err)
	}
	if _, err := d.ReadAt(p, 0); err != nil {
		t.Errorf("read: %v", err)
	}
	if s.Status().Err == nil {
		t.Error("the status says nothing")
	}
}

// TestFullStore fills a store, sees that it refuses writes and loses nothing,
// and that deletion makes room again.
func TestFullStore(t *testing.T) {
	ctx := context.Background()
	o := crashOptions(vfs.NewMem(1<<30, nil), nil)
	o.MaxBytes = 16 * crashSegment
	s := openTest(t, o)
	p := randomBytes(rand.New(rand.NewPCG(1, 1)), blockSize)
	for round := range 4 {
		id := block.VolumeID(fmt.Sprint("v", round))
		must(t, s.CreateVolume(ctx, id, o.MaxBytes))
		d, err := s.OpenVolume(ctx, id)
		must(t, err)
		n := int64(0)
		for ; n < o.MaxBytes/blockSize; n++ {
			if _, err = d.WriteAt(p, n*blockSize); err != nil {
				break
			}
		}
		if !block.Is(err, block.NoSpace) || n < 100 {
			t.Fatalf("round %d: %d blocks written, then %v", round, n, err)
		}
		if c, err := s.Capacity(ctx); err != nil || c.Free > 2*crashSegment || c.Total != o.MaxBytes {
			t.Errorf("capacity of a full store: %+v, %v", c, err)
		}
		got := make([]byte, blockSize)
		for i := range n {
			_, err := d.ReadAt(got, i*blockSize)
			must(t, err)
			if got[8] != p[8] {
				t.Fatal("wrong bytes")
			}
		}
		must(t, d.Close())
		must(t, s.DeleteVolume(ctx, id))
		must(t, s.pool.wait(readyTarget))
	}
}

// TestOverwritingForEver writes many times a store's size into a volume that
// takes half of it: old data has to be got rid of, and what is live between it
// moved.
func TestOverwritingForEver(t *testing.T) {
	ctx := context.Background()
	o := crashOptions(vfs.NewMem(1<<30, nil), nil)
	o.MaxBytes = 32 * crashSegment
	s := openTest(t, o)
	const blocks = 16 * crashSegment / blockSize
	must(t, s.CreateVolume(ctx, "v", blocks*blockSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	defer d.Close()
	rng := rand.New(rand.NewPCG(9, 9))
	last := make([][]byte, blocks)
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for i := range rounds * blocks {
		b := rng.IntN(blocks)
		last[b] = randomBytes(rng, blockSize)
		if _, err := d.WriteAt(last[b], int64(b)*blockSize); err != nil {
			t.Fatalf("write %d: %v; %+v", i, err, s.Status())
		}
	}
	got := make([]byte, blockSize)
	for b, want := range last {
		if want == nil {
			continue
		}
		_, err := d.ReadAt(got, int64(b)*blockSize)
		must(t, err)
		if string(got) != string(want) {
			t.Fatalf("block %d is wrong", b)
		}
	}
	must(t, s.Check(ctx))
}
