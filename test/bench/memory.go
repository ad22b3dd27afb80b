package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"kvol/internal/block"
	"kvol/internal/driver/logstore"
)

// memoryCase is a store whose memory is measured in a process of its own.
type memoryCase struct {
	Volumes int   // 16 MiB each, 64 blocks written in each
	Writes  int64 // 4 KiB each, all over one volume of 16 TiB
}

// memoryUse is what a process holds with the store open, after a collection of
// garbage, in bytes.
type memoryUse struct {
	Resident, Peak, Heap int64
	Store                logstore.Memory
}

// memory measures what stores keep in memory with the default setting.
func (b *bench) memory(ctx context.Context) error {
	for _, c := range []memoryCase{{Volumes: 1}, {Volumes: 100}, {Volumes: 10000}, {Writes: b.sparse}} {
		u, err := b.memoryOf(ctx, c)
		if err != nil {
			return err
		}
		work := fmt.Sprintf("memory with %d volumes", c.Volumes)
		if c.Writes > 0 {
			work = fmt.Sprintf("memory with 16 TiB, %d random writes all over", c.Writes)
		}
		bounded := u.Store.Index + u.Store.Leaves + u.Store.Places
		b.note(work, fmt.Sprintf("resident %d MiB, at most %d MiB, heap %d MiB", u.Resident>>20, u.Peak>>20, u.Heap>>20),
			fmt.Sprintf("index %d, leaves %d, places %d, nouns %d MiB; limit %d MiB", u.Store.Index>>20, u.Store.Leaves>>20,
				u.Store.Places>>20, u.Store.Nouns>>20, u.Store.Bound>>20),
			fmt.Sprintf("%.2f", float64(bounded)/float64(u.Store.Bound)), "<= 1", bounded <= u.Store.Bound)
	}
	return nil
}

// memoryOf runs this program again to measure one case.
func (b *bench) memoryOf(ctx context.Context, c memoryCase) (u memoryUse, err error) {
	dir := filepath.Join(b.dir, "memory")
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return u, err
	}
	cmd := exec.CommandContext(ctx, self, "-dir", dir, "-memory-of", fmt.Sprintf("%d,%d", c.Volumes, c.Writes))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return u, err
	}
	return u, json.Unmarshal(out, &u)
}

// reportMemory is the other process.
func reportMemory(ctx context.Context, dir, of string) error {
	var c memoryCase
	if _, err := fmt.Sscanf(of, "%d,%d", &c.Volumes, &c.Writes); err != nil {
		return err
	}
	s, err := logstore.Open(ctx, logstore.Options{Dir: dir})
	if err != nil {
		return err
	}
	err = c.fill(ctx, s)
	if err == nil {
		err = printMemory(s)
	}
	return errors.Join(err, s.Close())
}

func (c memoryCase) fill(ctx context.Context, s *logstore.Store) error {
	p := make([]byte, 4096)
	for i := range c.Volumes {
		d, err := newVolume(ctx, s, "v"+strconv.Itoa(i), 16<<20)
		if err != nil {
			return err
		}
		for n := range int64(64) {
			if _, err := d.WriteAt(p, n*64*4096); err != nil {
				return err
			}
		}
		if err := d.Close(); err != nil {
			return err
		}
	}
	if c.Writes == 0 {
		return nil
	}
	const size = 16 << 40
	d, err := newVolume(ctx, s, "sparse", size)
	if err != nil {
		return err
	}
	defer d.Close()
	rnd := rand.New(rand.NewPCG(12, 13))
	for i := range c.Writes {
		if _, err := d.WriteAt(p, rnd.Int64N(size/4096)*4096); err != nil {
			return err
		}
		if i%16 == 0 {
			if _, err := d.ReadAt(p, rnd.Int64N(size/4096)*4096); err != nil {
				return err
			}
		}
	}
	return nil
}

func printMemory(s *logstore.Store) error {
	peak, err := memoryLine(os.Getpid(), "VmHWM:")
	if err != nil {
		return err
	}
	runtime.GC()
	now, err := resident(os.Getpid())
	if err != nil {
		return err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return json.NewEncoder(os.Stdout).Encode(memoryUse{now << 10, peak << 10, int64(m.HeapInuse), s.Status().Memory})
}

func blockID(s string) block.VolumeID { return block.VolumeID(s) }
