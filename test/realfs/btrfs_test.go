package realfs

import (
	"bytes"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kvol/internal/driver/logstore"
)

// copiesNot is FS_NOCOW_FL.
const copiesNot = 0x00800000

// TestStoreOnBtrfs makes a store on btrfs: all of its files are overwritten in
// place, whatever the file system does elsewhere, nothing is complained about,
// and the file system is well afterwards.
func TestStoreOnBtrfs(t *testing.T) {
	needRoot(t)
	need(t, "mkfs.btrfs", "losetup", "mount", "btrfs")
	image := filepath.Join(t.TempDir(), "btrfs.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 512<<20); err != nil {
		t.Fatal(err)
	}
	sh(t, "mkfs.btrfs", "-q", image)
	dev := loop(t, image)
	dir, unmount := mount(t, dev)
	var said bytes.Buffer
	s, err := logstore.Open(t.Context(), logstore.Options{Dir: filepath.Join(dir, "store"), SegmentSize: 1 << 20,
		Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	write(t, s)
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if said.Len() > 0 {
		t.Errorf("the store said: %s", said.String())
	}
	seen := map[string]int{}
	err = filepath.WalkDir(filepath.Join(dir, "store"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() == "lock" { // taken before it is known that the store is new
			return err
		}
		seen[filepath.Base(filepath.Dir(path))]++
		if flags := flagsOf(t, path); flags&copiesNot == 0 {
			t.Errorf("%s is copied on write (flags %#x)", strings.TrimPrefix(path, dir), flags)
		}
		return nil
	})
	if err != nil || seen["segments"] < 4 || seen["index"] < 2 {
		t.Errorf("files seen: %v, %v", seen, err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if flagsOf(t, other)&copiesNot != 0 {
		t.Error("files beside the store are not copied on write either: the test shows nothing")
	}
	unmount()
	sh(t, "btrfs", "check", "--readonly", dev)
}

// write writes a few segments, over and over.
func write(t *testing.T, s *logstore.Store) {
	t.Helper()
	if err := s.CreateVolume(t.Context(), "vol", 16<<20); err != nil {
		t.Fatal(err)
	}
	d, err := s.OpenVolume(t.Context(), "vol")
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 64<<10)
	rand.NewChaCha8([32]byte{3}).Read(p)
	for i := range int64(200) {
		if _, err := d.WriteAt(p, i%100*int64(len(p))); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Flush(); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func flagsOf(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Fatal(err)
	}
	return flags
}
