package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
)

const (
	gib = int64(1) << 30
	tib = int64(1) << 40
)

// snapshots measures a snapshot of a volume that was just written to, and a
// clone of it until its first write, for 1 GiB and 1 TiB.
func (b *bench) snapshots(ctx context.Context) error {
	store, err := logstore.Open(ctx, logstore.Options{Dir: filepath.Join(b.dir, "snapshots")})
	if err != nil {
		return err
	}
	defer store.Close()
	for _, c := range []struct {
		name string
		size int64
	}{{"1 GiB", gib}, {"1 TiB", tib}} {
		took, cloned, err := b.snapshotRounds(ctx, store, block.VolumeID("of-"+c.name), c.size)
		if err != nil {
			return err
		}
		b.limit("snapshot of "+c.name, took, 10*time.Millisecond)
		b.limit("clone of "+c.name+", to its first write", cloned, 100*time.Millisecond)
	}
	return nil
}

func (b *bench) snapshotRounds(ctx context.Context, store driver.Driver, id block.VolumeID, size int64) (
	took, cloned []time.Duration, err error) {
	if err := store.CreateVolume(ctx, id, size); err != nil {
		return nil, nil, err
	}
	d, err := store.OpenVolume(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 4096)
	for round := range b.rounds {
		for range 5000 {
			p[0] = byte(round + 1)
			if _, err := d.WriteAt(p, rnd.Int64N(size/4096)*4096); err != nil {
				return nil, nil, err
			}
		}
		if err := d.Flush(); err != nil {
			return nil, nil, err
		}
		ref := driver.SnapshotRef{Volume: id, Name: block.PointID(fmt.Sprint("s", round))}
		began := time.Now()
		if err := store.CreateSnapshot(ctx, ref); err != nil {
			return nil, nil, err
		}
		took = append(took, time.Since(began))
		began = time.Now()
		if err := clone(ctx, store, ref, size, round); err != nil {
			return nil, nil, err
		}
		cloned = append(cloned, time.Since(began))
	}
	return took, cloned, nil
}

func clone(ctx context.Context, store driver.Driver, ref driver.SnapshotRef, size int64, round int) error {
	id := block.VolumeID(fmt.Sprintf("%s-clone-%d", ref.Volume, round))
	if err := store.CloneSnapshot(ctx, id, ref, size); err != nil {
		return err
	}
	d, err := store.OpenVolume(ctx, id)
	if err != nil {
		return err
	}
	if _, err := d.WriteAt(make([]byte, 4096), 0); err != nil {
		return err
	}
	return d.Close()
}
