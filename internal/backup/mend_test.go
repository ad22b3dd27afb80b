package backup_test

import (
	"bytes"
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/driver"
)

// damages are what may have become of an object; nil for one that is gone.
var damages = map[string]func([]byte) []byte{
	"a bit":   func(p []byte) []byte { p[len(p)-1] ^= 1; return p },
	"head":    func(p []byte) []byte { p[4] ^= 1; return p },
	"shorter": func(p []byte) []byte { return p[:len(p)-1] },
	"longer":  func(p []byte) []byte { return append(p, make([]byte, 70_000)...) },
	"empty":   func([]byte) []byte { return nil },
	"gone":    nil,
}

// damage changes an object, and returns what it is now.
func (r *rig) damage(name, how string) (now []byte) {
	r.Helper()
	if damages[how] == nil {
		must(r, r.store.Delete(r.Context(), name))
		return nil
	}
	p, err := r.store.Get(r.Context(), name, 1<<20)
	must(r, err)
	now = damages[how](p)
	must(r, r.store.Put(r.Context(), name, now))
	return now
}

// added are the chunks of a location that are there and were not before: those of
// data, and the pages.
func (r *rig) added(before map[string]bool) (data, pages []string) {
	r.Helper()
	for name := range objectsOf(r, mine) {
		if before[name] || !strings.Contains(name, "/chunks/") {
			continue
		}
		p, err := r.store.Get(r.Context(), name, 1<<20)
		must(r, err)
		if isPage(p) {
			pages = append(pages, name)
		} else {
			data = append(data, name)
		}
	}
	slices.Sort(data)
	return data, pages
}

// TestMended: a backup reads what it finds in the repository, and writes anew what is
// damaged of that. All backups that need it are whole again.
func TestMended(t *testing.T) {
	for how := range damages {
		for _, incremental := range []bool{false, true} {
			r := newRig(t, backup.NewMemory())
			r.write(20_000, 0, 65<<20)
			first := r.backUp(mine, nil)
			data, pages := r.added(nil)
			changed := append(slices.Clone(data[:1]), pages...)
			if incremental {
				changed = data[:1] // of which the volume gets a twin
			}
			for _, name := range changed {
				r.damage(name, how)
			}
			var base *backup.Manifest
			if incremental {
				r.twin(0, 128<<20)
				r.twin(65<<20, 129<<20)
				base = first
			}
			next := r.backUp(mine, base)
			want := int64(len(changed))
			if how == "gone" {
				want = 0 // nothing was found
			}
			if next.Mended != want {
				t.Errorf("%s, incremental %v: %d objects were mended of %d", how, incremental, next.Mended, want)
			}
			r.wantRestored(mine, next.Backup)
			r.wantRestored(mine, first.Backup)
		}
	}
}

// twin copies a chunk of the volume to where it has another.
func (r *rig) twin(from, to int64) {
	r.Helper()
	dev, err := r.driver.OpenVolume(r.Context(), r.volume)
	must(r, err)
	p := make([]byte, backup.ChunkSize)
	_, err = dev.ReadAt(p, from)
	must(r, err)
	_, err = dev.WriteAt(p, to)
	must(r, err)
	must(r, dev.Close())
}

// TestPutAway: a restore that meets a damaged chunk puts it where an operator may look
// at it. Nothing begins with a backup that needs it, the collection tells which those
// are and removes what nobody needs all the same, and a full backup mends them.
func TestPutAway(t *testing.T) {
	for how := range damages {
		r := newRig(t, backup.NewMemory())
		r.write(20_000, 0, 65<<20)
		good := r.backUp(mine, nil)
		before := objectsOf(r, mine)
		r.write(20_000, 5<<20)
		bad := r.backUp(mine, good)
		also := r.backUp(mine, bad)
		data, _ := r.added(before)
		now := r.damage(data[0], how)
		junk := string(mine) + "/chunks/00/" + strings.Repeat("0", 64)
		must(t, r.store.Put(t.Context(), junk, []byte("nobody's")))

		if _, err := r.restored(mine, bad.Backup); !block.Is(err, block.Corrupt) {
			t.Errorf("%s: %v", how, err)
		}
		if has, err := r.store.Has(t.Context(), data[0]); has || err != nil {
			t.Errorf("%s: it is still there, %v", how, err)
		}
		aside := string(mine) + "/damaged/" + path.Base(data[0])
		kept, err := r.store.Get(t.Context(), aside, 1<<20)
		if how == "longer" {
			now = nil // it is nothing of ours
		}
		if how == "gone" != block.Is(err, block.NotFound) || !bytes.Equal(kept, now) {
			t.Errorf("%s: %d bytes were put away of %d, %v", how, len(kept), len(now), err)
		}
		for m, usable := range map[*backup.Manifest]bool{good: true, bad: how == "gone", also: how == "gone"} {
			err := r.repo.CheckBase(t.Context(), mine, m)
			if usable != (err == nil) || !usable && !block.Is(err, block.Corrupt) {
				t.Errorf("%s: as a base: %v", how, err)
			}
		}
		c := r.collect(mine)
		var lacking []block.BackupID
		for _, d := range c.Lacking {
			lacking = append(lacking, d.Backup)
			if message, _ := block.UserMessage(d.Cause); message != "The backup's object "+data[0]+" is missing." {
				t.Errorf("%s: it says %q", how, message)
			}
		}
		slices.Sort(lacking)
		if want := slices.Sorted(slices.Values([]block.BackupID{bad.Backup, also.Backup})); !slices.Equal(lacking, want) ||
			c.Removed != 1 || len(c.Damaged) != 0 {
			t.Errorf("%s: %+v, want %v", how, c, want)
		}
		r.wantRestored(mine, good.Backup)

		full := r.backUp(mine, nil)
		for _, m := range []*backup.Manifest{full, also} {
			must(t, r.repo.CheckBase(t.Context(), mine, m))
			r.wantRestored(mine, m.Backup)
		}
		if c := r.collect(mine); len(c.Lacking) != 0 || c.Removed != 0 {
			t.Errorf("%s: mended: %+v", how, c)
		}
	}
}

// TestPageAway: a page is put away as well, and whoever begins with it is told.
func TestPageAway(t *testing.T) {
	r := newRig(t, backup.NewMemory())
	r.write(20_000, 0)
	bad := r.backUp(mine, nil)
	_, pages := r.added(nil)
	r.damage(pages[0], "a bit")
	if _, err := r.restored(mine, bad.Backup); !block.Is(err, block.Corrupt) {
		t.Errorf("%v", err)
	}
	if err := r.repo.CheckBase(t.Context(), mine, bad); !block.Is(err, block.Corrupt) {
		t.Errorf("as a base: %v", err)
	}
	r.backUp(mine, nil)
	r.wantRestored(mine, bad.Backup)
}

// TestNotPutAway: what is another zone's is left as it is, and so is what a backup
// mended between the restore's look and its hand.
func TestNotPutAway(t *testing.T) {
	const others = backup.Location("ocata1/aaaa")
	r := newRig(t, backup.NewMemory())
	r.write(20_000, 0)
	m := r.backUp(mine, nil)
	data, _ := r.added(nil)
	good, err := r.store.Get(t.Context(), data[0], 1<<20)
	must(t, err)
	for name := range objectsOf(r, mine) {
		p, err := r.store.Get(t.Context(), name, 1<<20)
		must(t, err)
		must(t, r.store.Put(t.Context(), string(others)+strings.TrimPrefix(name, string(mine)), p))
	}
	theirs := string(others) + strings.TrimPrefix(data[0], string(mine))
	bad := r.damage(theirs, "a bit")
	if _, err := r.restored(others, m.Backup); !block.Is(err, block.Corrupt) {
		t.Errorf("%v", err)
	}
	if p, err := r.store.Get(t.Context(), theirs, 1<<20); err != nil || !bytes.Equal(p, bad) {
		t.Errorf("another zone's object is %d bytes, %v", len(p), err)
	}

	r.damage(data[0], "a bit")
	inner := r.store
	r.store = mending{inner, data[0], good}
	r.restart()
	if _, err := r.restored(mine, m.Backup); !block.Is(err, block.Corrupt) {
		t.Errorf("%v", err)
	}
	r.wantRestored(mine, m.Backup)
}

// mending is a store in which an object is mended as soon as it was read.
type mending struct {
	backup.Store
	name string
	good []byte
}

func (m mending) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	p, err := m.Store.Get(ctx, name, limit)
	if name == m.name && err == nil {
		err = m.Put(ctx, name, m.good)
	}
	return p, err
}

// TestBegunOnDamage: a backup that was begun does not go on from pages of which a chunk
// was put away.
func TestBegunOnDamage(t *testing.T) {
	for _, collected := range []bool{false, true} {
		r := newRig(t, backup.NewMemory())
		r.write(20_000, 0)
		first := r.backUp(mine, nil)
		data, _ := r.added(nil)
		id := r.begin(first)
		r.damage(data[0], "a bit")
		if _, err := r.restored(mine, first.Backup); !block.Is(err, block.Corrupt) {
			t.Fatal(err)
		}
		if collected {
			r.collect(mine)
			for name, err := range r.store.List(t.Context(), string(mine)+"/unfinished") {
				t.Errorf("left: %s, %v", name, err)
			}
		}
		m, err := r.again(t.Context(), mine, id, nil)
		must(t, err)
		r.wantRestored(mine, m.Backup)
		r.wantRestored(mine, first.Backup)
	}
}

// begin leaves the beginning of a backup that has all that another one has.
func (r *rig) begin(like *backup.Manifest) block.BackupID {
	r.Helper()
	id := block.BackupID(block.NewID())
	must(r, r.driver.CreateSnapshot(r.Context(), driver.SnapshotRef{Volume: r.volume, Name: block.PointID(id)}))
	must(r, r.store.Put(r.Context(), string(mine)+"/unfinished/"+string(id), backup.Beginning(like, id)))
	return id
}

// TestLateManifest: a manifest that a process wrote after another one had collected
// what it names is not taken for a backup: it is written again, whole.
func TestLateManifest(t *testing.T) {
	for _, what := range []string{"data", "pages"} {
		r := newRig(t, backup.NewMemory())
		r.write(20_000, spread...)
		m := r.backUp(mine, nil)
		data, pages := r.added(nil)
		for _, name := range map[string][]string{"data": data[:1], "pages": pages[:1]}[what] {
			must(t, r.store.Delete(t.Context(), name))
		}
		before := maps.Clone(objectsOf(r, mine))
		again, err := r.again(t.Context(), mine, m.Backup, nil)
		must(t, err)
		if again.Root != m.Root || len(objectsOf(r, mine)) != len(before)+1 {
			t.Errorf("%s: %d objects, then %d", what, len(before), len(objectsOf(r, mine)))
		}
		r.wantRestored(mine, m.Backup)
	}
}
