package nfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/nfs"
	share "kvol/test/nfs"
)

// TestHalfDone makes by hand what a crash may leave at each step of a cut and of
// a merge. The next opening puts it right, and the volume has what it had.
func TestHalfDone(t *testing.T) {
	needQemu(t)
	const id = block.VolumeID("half")
	for what, interrupt := range map[string]func(t *testing.T, dir string){
		"prepared": func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, ".kvol/new-x"), []byte("x"), 0o600))
			must(t, os.MkdirAll(filepath.Join(dir, ".kvol/new-y/z"), 0o700))
			forget(t, dir)
		},
		"cut, before the file has another name only": func(t *testing.T, dir string) {
			forget(t, dir)
			must(t, os.Link(filepath.Join(dir, "volume-half"), filepath.Join(dir, "layer-"+block.NewID())))
		},
		"cut, before it has an entry": forget,
		"merged, before the rename": func(t *testing.T, dir string) {
			forget(t, dir)
			share.Run(t, "qemu-img", "commit", "-q", "-d", "-f", "qcow2", filepath.Join(dir, "volume-half"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			d := opened(t, nfs.Options{Dir: dir, Format: nfs.QCOW2})
			must(t, d.CreateVolume(t.Context(), id, 8*kib4))
			dev, err := d.OpenVolume(t.Context(), id)
			must(t, err)
			write(t, dev, 1, 0)
			must(t, d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: "s"}))
			write(t, dev, 2, 1)
			must(t, dev.Close())
			must(t, d.Close())
			interrupt(t, dir)
			d = open(t, nfs.Options{Dir: dir})
			dev = device(t, d, id)
			holds(t, dev, 1, 0)
			holds(t, dev, 2, 1)
			must(t, dev.Close())
			all, err := d.Snapshots(t.Context(), id)
			if err != nil || len(all) > 0 {
				t.Errorf("the snapshots are %v, %v", all, err)
			}
			must(t, d.DeleteVolume(t.Context(), id))
			if names := left(t, dir); len(names) > 0 {
				t.Errorf("there is %q", names)
			}
		})
	}
}

// forget removes the entries of all snapshots.
func forget(t *testing.T, dir string) {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(dir, ".kvol/volumes/*/*"))
	if err != nil || len(entries) == 0 {
		t.Fatalf("the entries are %q, %v", entries, err)
	}
	for _, e := range entries {
		must(t, os.Remove(e))
	}
}

// TestLostVolume: where somebody removed a volume's file, its snapshots stay.
func TestLostVolume(t *testing.T) {
	for _, f := range forms(t) {
		t.Run(f.name, func(t *testing.T) {
			dir := fresh(t, f.dir)
			d := opened(t, nfs.Options{Dir: dir, Format: f.format})
			id := volume(t, d, 4)
			must(t, d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: "s"}))
			must(t, d.Close())
			must(t, os.Remove(filepath.Join(dir, "volume-"+string(id))))
			open(t, nfs.Options{Dir: dir})
			if entries, err := filepath.Glob(filepath.Join(dir, ".kvol/volumes/*/*")); err != nil || len(entries) != 1 {
				t.Errorf("the entries are %q, %v", entries, err)
			}
		})
	}
}
