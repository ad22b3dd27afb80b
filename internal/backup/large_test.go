package backup_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/driver"
)

const tib = int64(1) << 40

// TestLarge: a volume of whatever size, up to the largest, is backed up whole, and
// read back from its first byte to its last.
func TestLarge(t *testing.T) {
	for length, chunk := range map[int64]int64{
		16 * tib:              64 << 10,
		16*tib + block.GiB:    128 << 10,
		100*tib + 4096:        512 << 10,
		backup.MaxSize - 4096: 4 << 20,
		backup.MaxSize:        4 << 20,
	} {
		r := newRig(t, backup.NewMemory())
		r.volume = block.VolumeID(block.NewID())
		must(t, r.driver.CreateVolume(t.Context(), r.volume, length))
		offsets := []int64{0, length/2 - 8192, length - 20_480}
		r.write(20_000, offsets...)
		full := r.backUpAt(nil, offsets...)
		if m, err := r.repo.Manifest(t.Context(), mine, full.Backup); err != nil || m.Root != full.Root {
			t.Fatalf("%d bytes are told to be backed up: %v", length, err)
		}
		quarter := length / 4 / 4096 * 4096
		r.write(4096, quarter)
		next := r.backUpAt(full, quarter)
		if next.Objects != 3 { // a chunk, its page and the manifest
			t.Errorf("%d bytes: an increment of a block added %d objects", length, next.Objects)
		}
		if c := r.collect(mine); c.Removed != 0 {
			t.Errorf("%d bytes: %+v", length, c)
		}
		r.wantSame(next.Backup, append(offsets, quarter, quarter-chunk, quarter+chunk)...)
	}
}

// backUpAt is backUp where changes of 20 KiB are known, so that no store has to look
// through its petabyte.
func (r *rig) backUpAt(base *backup.Manifest, offsets ...int64) *backup.Manifest {
	r.Helper()
	id := block.BackupID(block.NewID())
	ref := driver.SnapshotRef{Volume: r.volume, Name: block.PointID(id)}
	must(r, r.driver.CreateSnapshot(r.Context(), ref))
	source, err := r.driver.OpenSnapshot(r.Context(), ref)
	must(r, err)
	m, err := r.repo.Write(r.Context(), backup.Plan{Location: mine, Backup: id, Volume: r.volume, Base: base,
		Created: time.Unix(1, 0), Source: source, Changes: func(yield func(driver.Extent, error) bool) {
			for _, off := range offsets {
				if !yield(driver.Extent{Off: off, Len: 20_480}, nil) {
					return
				}
			}
		}})
	must(r, errors.Join(err, source.Close()))
	return m
}

// wantSame restores a backup to a new volume, and compares what is at some offsets
// with its moment.
func (r *rig) wantSame(id block.BackupID, offsets ...int64) {
	r.Helper()
	moment, err := r.driver.OpenSnapshot(r.Context(), driver.SnapshotRef{Volume: r.volume, Name: block.PointID(id)})
	must(r, err)
	v := block.VolumeID(block.NewID())
	must(r, r.driver.CreateVolume(r.Context(), v, moment.Size()))
	dev, err := r.driver.OpenVolume(r.Context(), v)
	must(r, err)
	_, err = r.repo.Restore(r.Context(), backup.Order{Location: mine, Backup: id, To: dev, Blank: true})
	must(r, err)
	for _, off := range offsets {
		n := min(64<<10, moment.Size()-off)
		got, want := make([]byte, n), make([]byte, n)
		_, err := dev.ReadAt(got, off)
		_, also := moment.ReadAt(want, off)
		must(r, errors.Join(err, also))
		if !bytes.Equal(got, want) {
			r.Errorf("of %d bytes those at %d differ", moment.Size(), off)
		}
	}
	must(r, errors.Join(dev.Close(), moment.Close()))
}

// endless is a moment of so many bytes, all zeros.
type endless int64

func (e endless) Size() int64                           { return int64(e) }
func (e endless) Close() error                          { return nil }
func (e endless) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// TestTooLarge: what a manifest has no room for is refused before anything is
// written.
func TestTooLarge(t *testing.T) {
	r := newRig(t, backup.NewMemory())
	for _, n := range []int64{0, backup.MaxSize + 1} {
		_, err := r.repo.Write(t.Context(), backup.Plan{Location: mine, Backup: block.BackupID(block.NewID()),
			Volume: r.volume, Source: endless(n), Changes: func(func(driver.Extent, error) bool) {}})
		if message, _ := block.UserMessage(err); !block.Is(err, block.Invalid) || !strings.Contains(message, "bytes") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if left := objectsOf(r, mine); len(left) != 0 {
		t.Errorf("written: %v", left)
	}
}

// TestUsableAcross: a volume that grew beyond what its chunks are for is compared
// with nothing.
func TestUsableAcross(t *testing.T) {
	r := newRig(t, backup.NewMemory())
	m := r.backUp(mine, nil)
	for grown, usable := range map[int64]bool{size: true, size + 1<<20: true, 16 * tib: true, 16*tib + 1<<20: false} {
		if m.Usable(grown) != usable {
			t.Errorf("as the base of %d bytes: %v", grown, !usable)
		}
	}
}
