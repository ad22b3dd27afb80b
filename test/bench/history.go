package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
)

func snapshotName(n int) block.PointID { return block.PointID(fmt.Sprint("s", n)) }

// delta times the list of what changed between two snapshots of 100 GiB, of
// which a hundredth was written; against the time that reading as much takes.
func (b *bench) delta(ctx context.Context) error {
	const size, changed = 100 * gib, gib / 4096
	store, err := logstore.Open(ctx, logstore.Options{Dir: filepath.Join(b.dir, "delta")})
	if err != nil {
		return err
	}
	if err := store.CreateVolume(ctx, "vol", size); err != nil {
		return err
	}
	d, err := store.OpenVolume(ctx, "vol")
	if err != nil {
		return err
	}
	from := driver.SnapshotRef{Volume: "vol", Name: "from"}
	to := driver.SnapshotRef{Volume: "vol", Name: "to"}
	if err := store.CreateSnapshot(ctx, from); err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(8, 9))
	p := make([]byte, 4096)
	for i := range changed {
		p[0], p[1] = byte(i), 1
		if _, err := d.WriteAt(p, rnd.Int64N(size/4096)*4096); err != nil {
			return err
		}
	}
	if err := store.CreateSnapshot(ctx, to); err != nil {
		return err
	}
	var took []time.Duration
	for range b.rounds {
		began, found := time.Now(), int64(0)
		for e, err := range store.Diff(ctx, from, to) {
			if err != nil {
				return err
			}
			found += e.Len
		}
		took = append(took, time.Since(began))
		if found > gib || found < gib*9/10 { // some were written twice
			return fmt.Errorf("the difference has %d bytes", found)
		}
	}
	b.limit("what changed, 1 % of 100 GiB (262,144 blocks all over)", took, 2*time.Second)
	return errors.Join(d.Close(), store.Close())
}

// reopen kills a serving process with log that the index lacks, and times the
// next opening.
func (b *bench) reopen(ctx context.Context) error {
	dir, socket := filepath.Join(b.dir, "killed"), filepath.Join(b.dir, "killed.sock")
	p, err := startServing(dir, socket)
	if err != nil {
		return err
	}
	w := work{write: true, size: 4096, depth: 32, count: 40000}
	_, _, err = w.run(ctx, server{"kvol", "nbd+unix:///vol?socket=" + socket, p})
	_ = p.cmd.Process.Kill() // kill -9
	_ = p.cmd.Wait()
	if err != nil {
		return err
	}
	began := time.Now()
	store, err := logstore.Open(ctx, logstore.Options{Dir: dir})
	if err != nil {
		return err
	}
	took := time.Since(began)
	// At most 256 MiB of log are not in the index: that is how often it is
	// flushed. 2 s per GiB are half a second.
	b.limit("open after kill -9, up to 256 MiB of log not in the index", []time.Duration{took}, time.Second/2)
	return store.Close()
}
