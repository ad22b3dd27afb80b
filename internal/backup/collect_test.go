package backup_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"kvol/internal/backup"
	"kvol/internal/block"
)

// TestCollectBesideDamage: while a manifest or a page can't be read, nothing is
// removed and the collection says of which backups that is so; it goes on once
// they are removed. A beginning that can't be read holds up nothing, and its
// backup is whole all the same.
func TestCollectBesideDamage(t *testing.T) {
	for _, what := range []string{"manifest", "page", "beginning"} {
		t.Run(what, func(t *testing.T) {
			store := backup.NewMemory()
			r := newRig(t, store)
			r.write(20_000, spread...)
			good := r.backUp(mine, nil)
			before := objectsOf(r, mine)
			r.write(20_000, spread...)
			bad := r.backUp(mine, nil)
			junk := string(mine) + "/chunks/00/" + strings.Repeat("0", 64)
			must(t, store.Put(t.Context(), junk, []byte("nobody's")))
			must(t, store.Put(t.Context(), string(mine)+"/manifests/README", []byte("nothing of ours")))
			name := string(mine) + "/manifests/" + string(bad.Backup)
			begun := block.BackupID(block.NewID())
			switch what {
			case "page":
				name = ""
				for object := range objectsOf(r, mine) {
					p, err := store.Get(t.Context(), object, 1<<20)
					must(t, err)
					if !before[object] && strings.Contains(object, "/chunks/") && isPage(p) {
						name = object
					}
				}
			case "beginning":
				name = string(mine) + "/unfinished/" + string(begun)
			}
			must(t, store.Put(t.Context(), name, []byte("x")))
			c, err := r.repo.Collect(t.Context(), mine)
			if what == "beginning" {
				if err != nil || c.Removed != 1 || len(c.Damaged) != 0 {
					t.Fatalf("%+v, %v", c, err)
				}
				if has, err := store.Has(t.Context(), name); has || err != nil {
					t.Errorf("it is still there: %v", err)
				}
				return
			}
			if !block.Is(err, block.Corrupt) || c.Removed != 0 || len(c.Damaged) != 1 || c.Damaged[0].Backup != bad.Backup {
				t.Fatalf("%+v, %v", c, err)
			}
			if message, _ := block.UserMessage(c.Damaged[0].Cause); !strings.Contains(message, name) {
				t.Errorf("it says %q of %s", message, name)
			}
			must(t, r.repo.Remove(t.Context(), mine, bad.Backup))
			if c := r.collect(mine); c.Removed < 2 || len(c.Damaged) != 0 {
				t.Errorf("without it: %+v", c)
			}
			r.wantRestored(mine, good.Backup)
		})
	}
}

// isPage reports whether an object can only be a page of the test's volume: a
// full one holds 32 KiB, the last one less.
func isPage(object []byte) bool {
	return len(object) >= 12 && binary.LittleEndian.Uint32(object[8:]) == 32<<10
}

// objectsOf are the names of all objects of a location.
func objectsOf(r *rig, l backup.Location) map[string]bool {
	all := map[string]bool{}
	dirs := []string{"manifests", "unfinished"}
	for i := range 256 {
		dirs = append(dirs, fmt.Sprintf("chunks/%02x", i))
	}
	for _, dir := range dirs {
		for name, err := range r.store.List(r.Context(), string(l)+"/"+dir) {
			must(r, err)
			all[name] = true
		}
	}
	return all
}
