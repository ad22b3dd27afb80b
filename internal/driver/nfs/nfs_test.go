package nfs_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/nfs"
	share "kvol/test/nfs"
)

const kib4 = driver.BlockSize

func TestMain(m *testing.M) {
	if dir := os.Getenv(workDir); dir != "" {
		work(dir)
	}
	goleak.VerifyTestMain(m)
}

// open opens a share until the test ends.
func open(t *testing.T, o nfs.Options) *nfs.Driver {
	t.Helper()
	d, err := nfs.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// fresh is a directory for a share of its own, below dir.
func fresh(t *testing.T, dir string) string {
	t.Helper()
	own, err := os.MkdirTemp(dir, "share-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(own) })
	return own
}

// needQemu skips, or fails where tools are required, without QEMU's programs.
func needQemu(t *testing.T) {
	t.Helper()
	for _, program := range []string{"qemu-img", "qemu-nbd"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatalf("%s is missing; test/setup.sh installs it", program)
		}
		t.Skipf("SKIPPED: %s is not installed", program)
	}
}

// form is one of the ways in which volumes lie in files.
type form struct {
	name   string
	format nfs.Format
	dir    string // for shares
}

// forms are all that this machine can do; without root there is no file system
// that shares blocks.
func forms(t *testing.T) []form {
	t.Helper()
	needQemu(t)
	return []form{{"xfs", nfs.Raw, share.XFS(t)}, {"qcow2", nfs.QCOW2, t.TempDir()}}
}

// TestRaw: volumes that are raw files of a file system that shares blocks.
func TestRaw(t *testing.T) {
	for _, fs := range []struct {
		name  string
		mount func(testing.TB) string
	}{{"xfs", share.XFS}, {"btrfs", share.Btrfs}} {
		t.Run(fs.name, func(t *testing.T) {
			dir := fs.mount(t)
			drivertest.RunCostly(t, func(t *testing.T) driver.Driver {
				d := open(t, nfs.Options{Dir: fresh(t, dir)})
				if d.Format() != nfs.Raw {
					t.Fatalf("on %s volumes are %s", fs.name, d.Format())
				}
				return d
			})
		})
	}
}

// TestRawReopened: the same, while the share is closed and opened again.
func TestRawReopened(t *testing.T) {
	dir := share.XFS(t)
	own := fresh(t, dir)
	drivertest.RunReopen(t, func(t *testing.T, _ string) driver.Driver { return opened(t, nfs.Options{Dir: own}) })
}

func opened(t *testing.T, o nfs.Options) *nfs.Driver {
	t.Helper()
	d, err := nfs.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestLayered: volumes that are qcow2 files on any file system. With each store
// that is closed, nothing is left of what was deleted.
func TestLayered(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	drivertest.RunCostly(t, func(t *testing.T) driver.Driver {
		return open(t, nfs.Options{Dir: fresh(t, dir), Format: nfs.QCOW2})
	})
}

func volume(t *testing.T, d driver.Driver, blocks int64) block.VolumeID {
	t.Helper()
	id := block.VolumeID(block.NewID())
	must(t, d.CreateVolume(t.Context(), id, blocks*kib4))
	return id
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func device(t *testing.T, d driver.Driver, id block.VolumeID) driver.Device {
	t.Helper()
	dev, err := d.OpenVolume(t.Context(), id)
	must(t, err)
	t.Cleanup(func() { dev.Close() })
	return dev
}

func write(t *testing.T, dev driver.Device, b byte, at int64) []byte {
	t.Helper()
	p := bytes.Repeat([]byte{b}, kib4)
	_, err := dev.WriteAt(p, at*kib4)
	must(t, err)
	return p
}

func holds(t *testing.T, dev interface {
	ReadAt([]byte, int64) (int, error)
}, b byte, at int64) {
	t.Helper()
	got := make([]byte, kib4)
	if _, err := dev.ReadAt(got, at*kib4); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{b}, kib4)) {
		t.Fatalf("block %d holds %x..., %v; want %x", at, got[:4], err, b)
	}
}

// left lists the files of a share that are there for volumes.
func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err == nil && !slices.Contains([]string{".", ".kvol", ".kvol/format", ".kvol/lock", ".kvol/volumes"}, name) {
			names = append(names, name)
		}
		return err
	}))
	return names
}

// TestNothingIsLeft deletes an ancestry from its root on.
func TestNothingIsLeft(t *testing.T) {
	for _, f := range forms(t) {
		t.Run(f.name, func(t *testing.T) {
			dir := fresh(t, f.dir)
			d := open(t, nfs.Options{Dir: dir, Format: f.format})
			ids := []block.VolumeID{volume(t, d, 4)}
			for i := range 3 {
				last := ids[len(ids)-1]
				dev := device(t, d, last)
				write(t, dev, byte(i+1), int64(i))
				ref := driver.SnapshotRef{Volume: last, Name: block.PointID(block.NewID())}
				must(t, d.CreateSnapshot(t.Context(), ref))
				must(t, dev.Close())
				clone := block.VolumeID(block.NewID())
				for range 2 { // it may be repeated
					must(t, d.CloneSnapshot(t.Context(), clone, ref, 8*kib4))
				}
				ids = append(ids, clone)
			}
			for i, id := range ids {
				if i == len(ids)-1 {
					dev := device(t, d, id)
					for b := range 3 {
						holds(t, dev, byte(b+1), int64(b))
					}
					must(t, dev.Close())
				}
				must(t, d.DeleteVolume(t.Context(), id))
			}
			if names := left(t, dir); len(names) > 0 {
				t.Errorf("there is %q", names)
			}
		})
	}
}

// TestChainStaysShort: points that come and go, as replication makes them, leave
// no more layers than there are points, though the volume is open all the time.
func TestChainStaysShort(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	d := open(t, nfs.Options{Dir: dir, Format: nfs.QCOW2})
	id := volume(t, d, 64)
	dev := device(t, d, id)
	var last driver.SnapshotRef
	for i := range int64(8) {
		write(t, dev, byte(i+1), i)
		ref := driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())}
		must(t, d.CreateSnapshot(t.Context(), ref))
		if i > 0 {
			must(t, d.DeleteSnapshot(t.Context(), last))
		}
		last = ref
	}
	for i := range int64(8) {
		holds(t, dev, byte(i+1), i)
	}
	layers, err := filepath.Glob(filepath.Join(dir, "layer-*"))
	if err != nil || len(layers) != 1 {
		t.Errorf("the layers are %q, %v", layers, err)
	}
}

// TestLinks: what somebody with access to the share puts in the place of a
// volume is not followed out of it, nor to another volume.
func TestLinks(t *testing.T) {
	for _, f := range forms(t) {
		t.Run(f.name, func(t *testing.T) {
			dir := fresh(t, f.dir)
			d := open(t, nfs.Options{Dir: dir, Format: f.format})
			outside := filepath.Join(t.TempDir(), "outside")
			must(t, os.WriteFile(outside, bytes.Repeat([]byte("secret  "), 1<<10), 0o600))
			other := volume(t, d, 2)
			for what, replace := range map[string]func(string) error{
				"a link outside":           func(at string) error { return os.Symlink(outside, at) },
				"a link to another volume": func(at string) error { return os.Symlink("volume-"+string(other), at) },
				"a directory":              func(at string) error { return os.Mkdir(at, 0o700) },
			} {
				id := volume(t, d, 2)
				at := filepath.Join(dir, "volume-"+string(id))
				must(t, os.Remove(at))
				must(t, replace(at))
				if _, err := d.OpenVolume(t.Context(), id); !block.Is(err, block.Corrupt) {
					t.Errorf("%s: opening: %v", what, err)
				}
				ref := driver.SnapshotRef{Volume: id, Name: "s"}
				if err := d.CreateSnapshot(t.Context(), ref); !block.Is(err, block.Corrupt) {
					t.Errorf("%s: a snapshot: %v", what, err)
				}
				if err := d.ExtendVolume(t.Context(), id, 4*kib4); !block.Is(err, block.Corrupt) {
					t.Errorf("%s: extending: %v", what, err)
				}
				must(t, os.Remove(at))
			}
			if text, err := os.ReadFile(outside); err != nil || len(text) != 8<<10 {
				t.Errorf("the file outside has %d bytes, %v", len(text), err)
			}
		})
	}
}

// TestForeignBacking: a qcow2 file that names a file of the machine is not
// opened with it.
func TestForeignBacking(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	d := open(t, nfs.Options{Dir: dir, Format: nfs.QCOW2})
	id := volume(t, d, 4)
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, bytes.Repeat([]byte("secret  "), 2<<10), 0o600))
	at := filepath.Join(dir, "volume-"+string(id))
	for _, name := range []string{outside, "../outside", "layer-x", "layer-" + strings.ToUpper(block.NewID())} {
		share.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", name, "-F", "raw", at, "16k")
		if _, err := d.OpenVolume(t.Context(), id); !block.Is(err, block.Corrupt) {
			t.Errorf("it stands on %q: %v", name, err)
		}
	}
}

// TestLinkedLayer: nor is what somebody put in the place of a layer.
func TestLinkedLayer(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	d := open(t, nfs.Options{Dir: dir, Format: nfs.QCOW2})
	id, other := volume(t, d, 4), volume(t, d, 4)
	must(t, d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: "s"}))
	layers, err := filepath.Glob(filepath.Join(dir, "layer-*"))
	if err != nil || len(layers) != 1 {
		t.Fatalf("the layers are %q, %v", layers, err)
	}
	must(t, os.Remove(layers[0]))
	must(t, os.Symlink("volume-"+string(other), layers[0]))
	if _, err := d.OpenVolume(t.Context(), id); !block.Is(err, block.Corrupt) {
		t.Errorf("opening: %v", err)
	}
}

// TestOneProcess: a share that is open is not opened again.
func TestOneProcess(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	open(t, nfs.Options{Dir: dir, Format: nfs.QCOW2})
	if _, err := nfs.Open(t.Context(), nfs.Options{Dir: dir, LockWait: 1}); !block.Is(err, block.Conflict) {
		t.Errorf("opened twice: %v", err)
	}
}

// TestFormatStays: what a share is was decided when it was made.
func TestFormatStays(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	d := opened(t, nfs.Options{Dir: dir, Format: nfs.QCOW2})
	id := volume(t, d, 1)
	must(t, d.Close())
	if _, err := nfs.Open(t.Context(), nfs.Options{Dir: dir, Format: nfs.Raw}); !block.Is(err, block.Invalid) {
		t.Errorf("made raw: %v", err)
	}
	d = open(t, nfs.Options{Dir: dir})
	if d.Format() != nfs.QCOW2 {
		t.Errorf("the format is %s", d.Format())
	}
	device(t, d, id)
	if _, err := nfs.Open(t.Context(), nfs.Options{Dir: t.TempDir(), Mounted: true}); !block.Is(err, block.Unavailable) {
		t.Errorf("a share that is not mounted: %v", err)
	}
}

// TestOvercommit: a share promises as much as it may, and no more.
func TestOvercommit(t *testing.T) {
	for _, f := range forms(t) {
		t.Run(f.name, func(t *testing.T) {
			d := open(t, nfs.Options{Dir: fresh(t, f.dir), Format: f.format, Overcommit: 1.5})
			c, err := d.Capacity(t.Context())
			must(t, err)
			size := c.Total / kib4 * kib4
			id := block.VolumeID(block.NewID())
			must(t, d.CreateVolume(t.Context(), id, size))
			must(t, d.CreateVolume(t.Context(), id, size))
			if err := d.CreateVolume(t.Context(), "b", size); !block.Is(err, block.NoSpace) {
				t.Errorf("a volume too much: %v", err)
			}
			if err := d.ExtendVolume(t.Context(), id, 2*size); !block.Is(err, block.NoSpace) {
				t.Errorf("growing too much: %v", err)
			}
			must(t, d.CreateVolume(t.Context(), "c", size/4/kib4*kib4))
		})
	}
}

// TestFull: a full share answers NoSpace, keeps what it has, and goes on when
// there is room again.
func TestFull(t *testing.T) {
	dir := share.XFS(t)
	d := open(t, nfs.Options{Dir: dir})
	id, big := volume(t, d, 64), volume(t, d, 1<<20)
	dev, filler := device(t, d, id), device(t, d, big)
	write(t, dev, 1, 0)
	must(t, d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: "s"}))
	p := bytes.Repeat([]byte{1}, 8<<20)
	var err error
	for off := int64(0); err == nil; off += int64(len(p)) {
		_, err = filler.WriteAt(p, off)
	}
	if !block.Is(err, block.NoSpace) {
		t.Fatalf("writing to a full share: %v", err)
	}
	holds(t, dev, 1, 0)
	must(t, filler.Zero(0, 1<<20*kib4))
	must(t, filler.Flush())
	write(t, dev, 2, 0)
	must(t, dev.Flush())
	holds(t, dev, 2, 0)
}
