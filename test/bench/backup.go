package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
)

// backedUp is how large the volume is of which backups are made: all of it is
// noise, which does not compress.
const backedUp = 256 << 20

// backups are made of a volume in an embedded store, to a directory on the same
// disk: a full one, an incremental one after 4-KiB writes to 1 % of the volume,
// one of a twin; then the first is restored.
func (b *bench) backups(ctx context.Context) (err error) {
	s, _, err := b.counted(ctx, "backup", 8*backedUp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(), os.RemoveAll(filepath.Join(b.dir, "backup"))) }()
	to, err := backup.NewDirectory(filepath.Join(b.dir, "repository"), time.Now())
	if err != nil {
		return err
	}
	r, err := backup.New(to, backup.Options{})
	if err != nil {
		return err
	}
	k := &keeping{bench: b, ctx: ctx, s: s, r: r, volume: blockID(block.NewID())}
	if k.device, err = newVolume(ctx, s, string(k.volume), backedUp); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.device.Close()) }()
	p := make([]byte, 1<<20)
	noise := rand.NewChaCha8([32]byte{1})
	for off := int64(0); off < backedUp; off += 1 << 20 {
		_, _ = noise.Read(p) // never fails
		if _, err := k.device.WriteAt(p, off); err != nil {
			return err
		}
	}
	return k.measure()
}

// keeping is a volume, its store and a repository.
type keeping struct {
	*bench
	ctx    context.Context
	s      *logstore.Store
	r      *backup.Repository
	volume block.VolumeID
	device driver.Device
}

// made is a backup, how long it took and how many bytes it read of the volume.
type made struct {
	*backup.Manifest
	took time.Duration
	read int64
}

func (k *keeping) measure() error {
	full, err := k.backUp(nil)
	if err != nil {
		return err
	}
	const writes = backedUp / 100 / 4096
	rnd, p := rand.New(rand.NewPCG(1, 2)), make([]byte, 4096)
	noise := rand.NewChaCha8([32]byte{2})
	for range writes {
		_, _ = noise.Read(p) // never fails
		if _, err := k.device.WriteAt(p, rnd.Int64N(backedUp/4096)*4096); err != nil {
			return err
		}
	}
	next, err := k.backUp(full.Manifest)
	if err != nil {
		return err
	}
	twin, err := k.backUp(nil)
	if err != nil {
		return err
	}
	began := time.Now()
	dev, err := newVolume(k.ctx, k.s, block.NewID(), backedUp)
	if err != nil {
		return err
	}
	_, err = k.r.Restore(k.ctx, backup.Order{Location: "zone/project", Backup: full.Backup, To: dev, Blank: true})
	restored := time.Since(began)
	if err := errors.Join(err, dev.Close()); err != nil {
		return err
	}
	changed := float64(writes * 4096)
	rate := func(d time.Duration) string { return fmt.Sprintf("%.0f MiB/s", (backedUp>>20)/d.Seconds()) }
	k.note(
		"full backup of 256 MiB of noise to a directory",
		rate(full.took),
		full.took.Round(time.Millisecond).String(),
		"",
		"",
		full.read == backedUp,
	)
	k.note("incremental one, 1 % written in blocks of 4 KiB", next.took.Round(time.Millisecond).String(), "the full one",
		fmt.Sprintf("%.2f", next.took.Seconds()/full.took.Seconds()), "<= 1", next.took < full.took)
	k.note("  bytes read per byte changed", fmt.Sprintf("%.1f", float64(next.read)/changed), "a chunk of 64 KiB for 4 KiB",
		fmt.Sprintf("%.2f", float64(next.read)/changed/16), "<= 1", float64(next.read) <= 16*changed)
	k.note("  bytes stored per byte changed", fmt.Sprintf("%.1f", float64(next.Stored)/changed), "the same and pages",
		fmt.Sprintf("%.2f", float64(next.Stored)/changed/16), "<= 1.1", float64(next.Stored) <= 17.6*changed)
	k.note("full backup of a twin: bytes stored", fmt.Sprint(twin.Stored), fmt.Sprintf("the first %d", full.Stored), "",
		"0", twin.Stored == 0)
	k.note("restore to a new volume", rate(restored), rate(full.took)+" of the full backup",
		fmt.Sprintf("%.2f", full.took.Seconds()/restored.Seconds()), ">= 1", restored <= full.took)
	return nil
}

// backUp makes a backup of the volume as it is, of what changed since base if
// there is one, by the store's own difference.
func (k *keeping) backUp(base *backup.Manifest) (m made, err error) {
	if err := k.device.Flush(); err != nil {
		return m, err
	}
	began := time.Now()
	id := block.NewID()
	ref := driver.SnapshotRef{Volume: k.volume, Name: block.PointID(id)}
	if err := k.s.CreateSnapshot(k.ctx, ref); err != nil {
		return m, err
	}
	reader, err := k.s.OpenSnapshot(k.ctx, ref)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	counted := &countedReader{Reader: reader}
	p := backup.Plan{Location: "zone/project", Backup: block.BackupID(id), Volume: k.volume, Created: began,
		Source: counted, Base: base}
	var from driver.SnapshotRef
	if base != nil {
		p.Parent, from = base.Backup, driver.SnapshotRef{Volume: k.volume, Name: block.PointID(base.Backup)}
	}
	p.Changes = driver.Diff(k.ctx, k.s, from, ref)
	m.Manifest, err = k.r.Write(k.ctx, p)
	m.took, m.read = time.Since(began), counted.n.Load()
	return m, err
}

// countedReader counts the bytes that are read of a moment.
type countedReader struct {
	driver.Reader
	n atomic.Int64
}

func (r *countedReader) ReadAt(p []byte, off int64) (int, error) {
	r.n.Add(int64(len(p)))
	return r.Reader.ReadAt(p, off)
}
