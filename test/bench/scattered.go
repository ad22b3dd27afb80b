package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
)

// scattered reads a volume from end to end that was written in order, then
// after half of it was written over at random with other writes in between, and
// then after compaction had to move it; each against the raw file on the same
// disk, which stays in order whatever happens.
func (b *bench) scattered(ctx context.Context) error {
	raw := filepath.Join(b.dir, "scattered.img")
	if err := fill(raw); err != nil {
		return err
	}
	defer os.Remove(raw)
	f, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer f.Close()
	s, _, err := b.counted(ctx, "scattered", 3*region)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Join(b.dir, "scattered"))
	return errors.Join(b.scatteredIn(ctx, s, f), s.Close())
}

func (b *bench) scatteredIn(ctx context.Context, s *logstore.Store, raw *os.File) error {
	d, err := fullVolume(ctx, s)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := b.endToEnd("sequential read of 1 GiB written in order, no NBD", d, raw); err != nil {
		return err
	}
	hot, err := newVolume(ctx, s, "hot", region/16)
	if err != nil {
		return err
	}
	defer hot.Close()
	if err := scatter(d, hot); err != nil {
		return err
	}
	if err := b.endToEnd("  after 131,072 random overwrites, before compaction", d, raw); err != nil {
		return err
	}
	// More data than there is room for without what compaction gets back.
	more, err := newVolume(ctx, s, "more", region*3/2)
	if err != nil {
		return err
	}
	defer more.Close()
	p := make([]byte, 1<<20)
	for off := int64(0); off < more.Size(); off += int64(len(p)) {
		p[0], p[1] = byte(off>>20), 1
		if _, err := more.WriteAt(p, off); err != nil {
			return err
		}
	}
	return b.endToEnd("  after compaction", d, raw)
}

func newVolume(ctx context.Context, s driver.Driver, id string, size int64) (driver.Device, error) {
	if err := s.CreateVolume(ctx, blockID(id), size); err != nil {
		return nil, err
	}
	return s.OpenVolume(ctx, blockID(id))
}

// scatter overwrites half of a volume's blocks at random; between them others
// are written that die soon.
func scatter(d, hot driver.Device) error {
	rnd := rand.New(rand.NewPCG(10, 11))
	p := make([]byte, 4096)
	for i := range region / 4096 / 2 {
		p[0], p[1] = byte(i), 1
		if _, err := d.WriteAt(p, rnd.Int64N(region/4096)*4096); err != nil {
			return err
		}
		if _, err := hot.WriteAt(p, rnd.Int64N(hot.Size()/4096)*4096); err != nil {
			return err
		}
	}
	return d.Flush()
}

// endToEnd reads a volume and the raw file in turn, a MiB at a time.
func (b *bench) endToEnd(work string, d driver.Device, raw *os.File) error {
	var ours, limit []float64
	for range b.rounds {
		for _, side := range []struct {
			read func([]byte, int64) (int, error)
			to   *[]float64
		}{{d.ReadAt, &ours}, {raw.ReadAt, &limit}} {
			p, began := make([]byte, 1<<20), time.Now()
			for off := int64(0); off < region; off += int64(len(p)) {
				if _, err := side.read(p, off); err != nil {
					return err
				}
			}
			*side.to = append(*side.to, float64(region>>20)/time.Since(began).Seconds())
		}
	}
	b.speed(work, ours, limit, "the raw file", 0.5)
	return nil
}
