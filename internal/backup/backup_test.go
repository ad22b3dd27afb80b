package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/backup"
	"kvol/internal/backup/storetest"
	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

const (
	mine   = backup.Location("mitaka1/aaaa")
	theirs = backup.Location("mitaka1/bbbb")
	size   = 130 << 20 // three pages, the last one short
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a volume in a store, and a repository.
type rig struct {
	testing.TB
	driver driver.Driver
	volume block.VolumeID
	store  backup.Store
	repo   *backup.Repository
	random *rand.Rand
}

func newRig(t testing.TB, store backup.Store) *rig {
	r := &rig{TB: t, driver: mem.New(mem.Options{}), volume: block.VolumeID(block.NewID()), store: store,
		random: rand.New(rand.NewPCG(1, 2))}
	must(t, r.driver.CreateVolume(t.Context(), r.volume, size))
	r.restart()
	return r
}

// restart forgets what the process knew.
func (r *rig) restart() {
	r.Helper()
	repo, err := backup.New(r.store, backup.Options{Zone: "mitaka1", Uploads: 4})
	must(r, err)
	r.repo = repo
}

// write fills ranges with random bytes.
func (r *rig) write(length int64, offsets ...int64) {
	r.Helper()
	dev, err := r.driver.OpenVolume(r.Context(), r.volume)
	must(r, err)
	for _, off := range offsets {
		p := make([]byte, length)
		for i := range p {
			p[i] = byte(r.random.Uint32())
		}
		_, err := dev.WriteAt(p, off)
		must(r, err)
	}
	must(r, dev.Close())
}

// backUp takes a backup of the volume as it is now; of what changed since the
// snapshot of base if there is one.
func (r *rig) backUp(l backup.Location, base *backup.Manifest) *backup.Manifest {
	r.Helper()
	id := block.BackupID(block.NewID())
	must(r, r.driver.CreateSnapshot(r.Context(), driver.SnapshotRef{Volume: r.volume, Name: block.PointID(id)}))
	m, err := r.again(r.Context(), l, id, base)
	must(r, err)
	return m
}

// again backs up the snapshot of a backup that was begun.
func (r *rig) again(ctx context.Context, l backup.Location, id block.BackupID,
	base *backup.Manifest) (*backup.Manifest, error) {
	ref := driver.SnapshotRef{Volume: r.volume, Name: block.PointID(id)}
	reader, err := r.driver.OpenSnapshot(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	p := backup.Plan{Location: l, Backup: id, Volume: r.volume, Created: time.Unix(1, 0), Source: reader, Base: base}
	var from driver.SnapshotRef
	if base != nil {
		p.Parent = base.Backup
		from = driver.SnapshotRef{Volume: r.volume, Name: block.PointID(base.Backup)}
	}
	p.Changes = driver.Diff(ctx, r.driver, from, ref)
	return r.repo.Write(ctx, p)
}

// restored reads a backup into a new volume whose bytes were something else.
func (r *rig) restored(l backup.Location, id block.BackupID) ([]byte, error) {
	r.Helper()
	v := block.VolumeID(block.NewID())
	must(r, r.driver.CreateVolume(r.Context(), v, size+(1<<20)))
	dev, err := r.driver.OpenVolume(r.Context(), v)
	must(r, err)
	defer func() { must(r, dev.Close()) }()
	junk := bytes.Repeat([]byte("junk"), 1024)
	for off := int64(0); off < dev.Size(); off += 1 << 20 {
		_, err := dev.WriteAt(junk, off)
		must(r, err)
	}
	if _, err := r.repo.Restore(r.Context(), backup.Order{Location: l, Backup: id, To: dev}); err != nil {
		return nil, err
	}
	p := make([]byte, size+len(junk))
	_, err = dev.ReadAt(p, 0)
	must(r, err)
	if !bytes.Equal(p[size:], junk) {
		r.Error("what lies behind the backup's end was changed")
	}
	return p[:size], nil
}

// wantRestored compares a backup with its moment.
func (r *rig) wantRestored(l backup.Location, id block.BackupID) {
	r.Helper()
	got, err := r.restored(l, id)
	must(r, err)
	if !bytes.Equal(got, r.moment(id)) {
		r.Errorf("backup %s has another content than its volume had", id)
	}
}

func (r *rig) moment(id block.BackupID) []byte {
	r.Helper()
	reader, err := r.driver.OpenSnapshot(r.Context(), driver.SnapshotRef{Volume: r.volume, Name: block.PointID(id)})
	must(r, err)
	p := make([]byte, size)
	_, err = reader.ReadAt(p, 0)
	must(r, errors.Join(err, reader.Close()))
	return p
}

func (r *rig) collect(l backup.Location) backup.Collected {
	r.Helper()
	c, err := r.repo.Collect(r.Context(), l)
	must(r, err)
	return c
}

// both runs a test on a directory and on S3.
func both(t *testing.T, test func(*rig)) {
	t.Run("directory", func(t *testing.T) { test(newRig(t, directory(t))) })
	t.Run("s3", func(t *testing.T) {
		s, err := backup.NewS3(storetest.S3(t))
		must(t, err)
		test(newRig(t, s))
	})
}

// offsets of the first, the middle and the last page.
var spread = []int64{0, 5<<20 + 4096, 63 << 20, 64<<20 - 8192, 70 << 20, size - 20_000}

func TestBackups(t *testing.T) {
	both(t, func(r *rig) {
		r.write(20_000, spread...)
		full := r.backUp(mine, nil)
		r.wantRestored(mine, full.Backup)
		r.write(4096, 64<<10, 129<<20)
		dev, err := r.driver.OpenVolume(r.Context(), r.volume)
		must(r, err)
		must(r, errors.Join(dev.Zero(63<<20, 1<<20), dev.Close()))
		next := r.backUp(mine, full)
		r.wantRestored(mine, next.Backup)
		// Two chunks with data, their two pages (the zeroed chunks are in the first) and the manifest.
		if next.Objects != 5 {
			r.Errorf("an increment of two blocks added %d objects", next.Objects)
		}
		compared := r.backUp(mine, nil)
		if compared.Objects != 1 || compared.Root != next.Root {
			r.Errorf("the same content, compared by hashes, added %d objects; roots %s and %s",
				compared.Objects, compared.Root, next.Root)
		}
		r.wantRestored(mine, compared.Backup)
		if empty := r.backUp(mine, compared); empty.Objects != 1 || empty.Root != next.Root {
			r.Errorf("no change added %d objects", empty.Objects)
		}

		must(r, r.repo.Remove(r.Context(), mine, full.Backup))
		before := r.collect(mine)
		if before.Removed == 0 || before.Kept == 0 {
			r.Errorf("after a deletion %+v", before)
		}
		for _, id := range []block.BackupID{next.Backup, compared.Backup} {
			r.wantRestored(mine, id)
		}
		if _, err := r.restored(mine, full.Backup); !block.Is(err, block.NotFound) {
			r.Errorf("a deleted backup: %v", err)
		}
	})
}

// TestGrown: a volume that grew between two backups.
func TestGrown(t *testing.T) {
	r := newRig(t, directory(t))
	r.write(20_000, spread...)
	full := r.backUp(mine, nil)
	must(t, r.driver.ExtendVolume(t.Context(), r.volume, size+100<<20))
	r.write(5000, size+10, size+90<<20)
	next := r.backUp(mine, full)
	if again := r.backUp(mine, nil); again.Root != next.Root || again.Objects != 1 {
		t.Errorf("the increment differs from what hashes say: %d objects", again.Objects)
	}
	if next.Objects != 5 { // two chunks, their two pages, the manifest
		t.Errorf("it added %d objects", next.Objects)
	}
}

// TestTenantsShareNothing: one project's backup adds as many objects whatever
// another one has stored.
func TestTenantsShareNothing(t *testing.T) {
	r := newRig(t, directory(t))
	r.write(20_000, spread...)
	a, b := r.backUp(mine, nil), r.backUp(theirs, nil)
	if a.Objects != b.Objects || a.Stored != b.Stored {
		t.Errorf("%d objects with %d bytes, then %d with %d", a.Objects, a.Stored, b.Objects, b.Stored)
	}
	if twin := r.backUp(mine, nil); twin.Objects != 1 || twin.Stored != 0 {
		t.Errorf("a twin in the same project: %d objects, %d bytes", twin.Objects, twin.Stored)
	}
	must(t, r.repo.Remove(t.Context(), theirs, b.Backup))
	if c := r.collect(theirs); c.Kept != 0 {
		t.Errorf("the last backup is gone, but %+v", c)
	}
	r.wantRestored(mine, a.Backup)
}

// TestDamage changes each object of a backup in turn: the restore says which
// one is wrong, and so does the collection where it would have to guess.
func TestDamage(t *testing.T) {
	root := filepath.Join(t.TempDir(), "repository")
	store, err := backup.NewDirectory(root, time.Now())
	must(t, err)
	r := newRig(t, store)
	r.write(20_000, spread...)
	m := r.backUp(mine, nil)
	var files []string
	must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	if int64(len(files)) != m.Objects {
		t.Fatalf("%d files, %d objects", len(files), m.Objects)
	}
	damages := map[string]func([]byte) []byte{
		"a bit":   func(p []byte) []byte { p[len(p)-1] ^= 1; return p },
		"head":    func(p []byte) []byte { p[4] ^= 1; return p },
		"shorter": func(p []byte) []byte { return p[:len(p)-1] },
		"longer":  func(p []byte) []byte { return append(p, 0) },
		"empty":   func([]byte) []byte { return nil },
		"gone":    nil,
	}
	for _, path := range files {
		good, err := os.ReadFile(path)
		must(t, err)
		name, err := filepath.Rel(root, path)
		must(t, err)
		for what, change := range damages {
			if change == nil {
				must(t, os.Remove(path))
			} else {
				must(t, os.WriteFile(path, change(bytes.Clone(good)), 0o600))
			}
			_, err := r.restored(mine, m.Backup)
			message, _ := block.UserMessage(err)
			if !strings.Contains(message, name) || !block.Is(err, block.Corrupt) &&
				(what != "gone" || !strings.Contains(name, "manifests")) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			must(t, os.WriteFile(path, good, 0o600))
		}
	}
	r.wantRestored(mine, m.Backup)
}

// TestWrongRoot: the catalog knows the root, so that a manifest can't be taken
// for another one.
func TestWrongRoot(t *testing.T) {
	r := newRig(t, directory(t))
	r.write(20_000, spread...)
	m := r.backUp(mine, nil)
	dev, err := r.driver.OpenVolume(t.Context(), r.volume)
	must(t, err)
	defer dev.Close()
	root := m.Root
	root[0] ^= 1
	_, err = r.repo.Restore(t.Context(), backup.Order{Location: mine, Backup: m.Backup, Root: &root, To: dev})
	if message, _ := block.UserMessage(err); !block.Is(err, block.Corrupt) || !strings.Contains(message, "manifests/") {
		t.Errorf("%v", err)
	}
}

// TestKilledAtEveryCall ends the process at each call of a backup to its store,
// before it is carried out and with its answer lost; what is left is collected
// or not; the next process ends the backup. Nothing is left over, and nothing
// is missing.
func TestKilledAtEveryCall(t *testing.T) {
	calls := int64(1 << 30)
	for n := int64(1); n <= calls; n++ {
		faults := storetest.NewFaults(directory(t))
		r := newRig(t, faults)
		r.write(20_000, spread...)
		full := r.backUp(mine, nil)
		r.write(9_000, 1<<20, 65<<20, 129<<20)
		id := block.BackupID(block.NewID())
		must(t, r.driver.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: r.volume, Name: block.PointID(id)}))
		ctx, kill := context.WithCancel(t.Context())
		var count atomic.Int64
		faults.SetRule(func(string, string) error {
			if count.Add(1) >= n {
				kill()
				return context.Canceled
			}
			return nil
		})
		_, err := r.again(ctx, mine, id, full)
		kill()
		faults.SetRule(nil)
		if err == nil {
			break // n is beyond the last call
		}
		r.restart()
		if n%2 == 0 {
			r.collect(mine)
		}
		m, err := r.again(t.Context(), mine, id, full)
		must(t, err)
		if n%8 == 1 {
			r.wantRestored(mine, m.Backup)
			r.wantRestored(mine, full.Backup)
		}
		if again := r.backUp(mine, nil); again.Root != m.Root || again.Objects != 1 {
			t.Errorf("call %d: it is not whole: another backup adds %d objects", n, again.Objects)
		} else {
			must(t, r.repo.Remove(t.Context(), mine, again.Backup))
		}
		must(t, r.repo.Remove(t.Context(), mine, id))
		must(t, r.repo.Remove(t.Context(), mine, full.Backup))
		if c := r.collect(mine); c.Kept != 0 {
			t.Errorf("call %d: left %+v", n, c)
		}
	}
}

// TestResumes: after a kill a backup goes on from its last checkpoint. It
// neither reads nor sends again what was finished, and a collection in between
// leaves that alone.
func TestResumes(t *testing.T) {
	faults := storetest.NewFaults(directory(t))
	r := newRig(t, faults)
	const pages = 12
	must(t, r.driver.ExtendVolume(t.Context(), r.volume, pages*64<<20))
	var offsets []int64
	for i := range int64(pages) {
		offsets = append(offsets, i*64<<20)
	}
	r.write(10_000, offsets...)
	id := block.BackupID(block.NewID())
	must(t, r.driver.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: r.volume, Name: block.PointID(id)}))
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	var before, after []string
	faults.SetRule(func(op, name string) error {
		if op == "put!" && strings.Contains(name, "/chunks/") {
			before = append(before, name)
		}
		if op == "put!" && strings.Contains(name, "/unfinished/") {
			kill()
			return context.Canceled
		}
		return nil
	})
	if _, err := r.again(ctx, mine, id, nil); err == nil {
		t.Fatal("there was no checkpoint")
	}
	faults.SetRule(nil)
	r.restart()
	if c := r.collect(mine); c.Removed != 0 || c.Kept != int64(len(before)) {
		t.Errorf("a collection found %+v, %d chunks were finished", c, len(before))
	}
	faults.SetRule(func(op, name string) error {
		if op == "get" && slices.Contains(before, name) {
			t.Errorf("%s is dealt with again", name)
		}
		if op == "put" {
			after = append(after, name)
		}
		return nil
	})
	m, err := r.again(t.Context(), mine, id, nil)
	must(t, err)
	if len(before) != 16 || len(after) != 9 || m.Objects != 25 {
		t.Errorf("%d chunks, then %d objects, in all %d", len(before), len(after), m.Objects)
	}
	for name, err := range r.store.List(t.Context(), string(mine)+"/unfinished") {
		t.Errorf("left: %s, %v", name, err)
	}
}

// TestCollectWaits: chunks are not collected while a backup is written, and no
// backup begins while they are.
func TestCollectWaits(t *testing.T) {
	faults := storetest.NewFaults(directory(t))
	r := newRig(t, faults)
	r.write(20_000, spread...)
	var tried atomic.Int64
	faults.SetRule(func(op, _ string) error {
		if op == "put" {
			if _, err := r.repo.Collect(t.Context(), mine); !backup.IsBusy(err) {
				t.Errorf("collected beside a backup: %v", err)
			}
			if tried.Add(1) == 1 {
				if _, err := r.repo.Collect(t.Context(), theirs); err != nil {
					t.Errorf("another tenant's: %v", err)
				}
			}
		}
		return nil
	})
	m := r.backUp(mine, nil)
	must(t, r.repo.Remove(t.Context(), mine, m.Backup))
	faults.SetRule(func(op, _ string) error {
		if op == "delete" {
			if _, err := r.again(t.Context(), mine, m.Backup, nil); !backup.IsBusy(err) {
				t.Errorf("a backup began beside a collection: %v", err)
			}
			tried.Add(1)
		}
		return nil
	})
	if c := r.collect(mine); c.Removed == 0 || tried.Load() != m.Objects+c.Removed {
		t.Errorf("%+v, %d tries", c, tried.Load())
	}
}

func TestLocations(t *testing.T) {
	seen := map[backup.Location]bool{}
	for _, project := range []block.ProjectID{"a", "A", "", ".", "..", "a/b", "a b", "-a",
		block.ProjectID(strings.Repeat("p", 99)), "45e060f1523b4a54ae2a9c5e21944494"} {
		l := backup.LocationOf("mitaka1", project)
		if seen[l] {
			t.Errorf("%q has another one's place %s", project, l)
		}
		seen[l] = true
		if parsed, err := backup.ParseLocation(string(l)); err != nil || parsed != l || !l.Of("mitaka1") || l.Of("mitaka") {
			t.Errorf("%q: %s, %v", project, l, err)
		}
	}
	for _, bad := range []string{"", "a", "a/b/c", "../b", "a/..", "/b", "a/", "a/b\n"} {
		if l, err := backup.ParseLocation(bad); err == nil {
			t.Errorf("%q is taken as %s", bad, l)
		}
	}
}
