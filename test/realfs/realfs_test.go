package realfs

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/vfs"
)

const (
	volumeSize = int64(320) << 20 // xfs wants 300 MiB
	fileBlocks = 1024
	rounds     = 120
	cuts       = 4 // for each file system
	pageSize   = 4096
)

// TestFileSystemsAndPowerCuts: a file system on a loop device on nbdfuse on our
// server, on a store whose disk forgets: the power goes in the middle of
// writing, the store is opened from what is left of its disk, and the file
// system must mount, have every synced write, and please its own checker.
func TestFileSystemsAndPowerCuts(t *testing.T) {
	needRoot(t, "/dev/fuse")
	need(t, "nbdfuse", "losetup", "mount")
	for _, c := range []kind{
		{"ext4", []string{"mkfs.ext4", "-q"}, nil, []string{"e2fsck", "-fn"}},
		{"xfs", []string{"mkfs.xfs", "-q"}, []string{"-o", "nouuid"}, []string{"xfs_repair", "-n"}},
		{"btrfs", []string{"mkfs.btrfs", "-q"}, nil, []string{"btrfs", "check", "--readonly"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			need(t, c.mkfs[0], c.check[0])
			testFileSystem(t, c)
		})
	}
}

type kind struct {
	name               string
	mkfs, mount, check []string
}

// cut is a power cut: what the disk may hold, and the round that was synced.
type cut struct {
	disk   *vfs.Mem
	synced int
}

func testFileSystem(t *testing.T, c kind) {
	mem := vfs.NewMem(1<<30, rand.New(rand.NewPCG(1, 2)))
	s, d := open(t, mem)
	defer s.Close()
	defer d.Close()
	var images []cut
	var history []map[int64]uint64
	t.Run("write", func(t *testing.T) {
		dev := blockDevice(t, serve(t, d, filepath.Join(t.TempDir(), "s")))
		sh(t, c.mkfs[0], append(c.mkfs[1:], dev)...)
		dir, unmount := mount(t, dev, c.mount...)
		images, history = work(t, mem, dir)
		sh(t, "fstrim", dir)
		unmount()
		sh(t, c.check[0], append(c.check[1:], dev)...)
	})
	if t.Failed() {
		return
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	for _, image := range images {
		t.Run("cut", func(t *testing.T) { image.verify(t, c, history) })
	}
	t.Logf("%d power cuts, at rounds %d to %d", len(images), images[0].synced, images[len(images)-1].synced)
}

func open(t *testing.T, mem *vfs.Mem) (*logstore.Store, driver.Device) {
	t.Helper()
	s, err := logstore.Open(t.Context(), logstore.Options{FS: mem, Dir: "s", SegmentSize: 4 << 20,
		MaxBytes: 600 << 20, CacheBytes: 16 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateVolume(t.Context(), "vol", volumeSize); err != nil {
		t.Fatal(err)
	}
	d, err := s.OpenVolume(t.Context(), "vol")
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// work writes round after round into a file, syncs it, and notes the round in
// another, synced as well. The power is cut while it does. history says for
// each round which block was last written in which.
func work(t *testing.T, mem *vfs.Mem, dir string) (images []cut, history []map[int64]uint64) {
	t.Helper()
	data, note := create(t, dir, "data"), create(t, dir, "note")
	defer data.Close()
	defer note.Close()
	must(t, data.Truncate(fileBlocks*pageSize))
	must(t, data.Sync())
	must(t, note.Sync())
	must(t, vfs.System{}.SyncDir(dir))
	rng, dice := rand.New(rand.NewPCG(3, 4)), rand.New(rand.NewPCG(5, 6))
	last := map[int64]uint64{}
	history = append(history, maps.Clone(last))
	p := make([]byte, pageSize)
	for round := uint64(1); round <= rounds; round++ {
		for range 4 {
			b := rng.Int64N(fileBlocks)
			binary.LittleEndian.PutUint64(p, round)
			_, err := data.WriteAt(p, b*pageSize)
			must(t, err)
			last[b] = round
		}
		var cutting chan *vfs.Mem
		if round%(rounds/cuts) == 0 {
			cutting = make(chan *vfs.Mem, 1)
			go func() { cutting <- mem.Crash(dice) }() // somewhere in the syncs that follow
		}
		must(t, unix.Fdatasync(int(data.Fd())))
		_, err := note.WriteAt(binary.LittleEndian.AppendUint64(nil, round), 0)
		must(t, err)
		must(t, note.Sync())
		if cutting != nil {
			images = append(images, cut{<-cutting, int(round) - 1})
		}
		history = append(history, maps.Clone(last))
	}
	return images, history
}

func create(t *testing.T, dir, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	must(t, err)
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// verify opens the store from what a power cut left, takes the volume out, and
// looks at the file system on it.
func (c cut) verify(t *testing.T, k kind, history []map[int64]uint64) {
	s, d := open(t, c.disk)
	defer s.Close()
	defer d.Close()
	must(t, s.Check(t.Context()))
	file := filepath.Join(t.TempDir(), "image")
	must(t, copyOut(t.Context(), d, file))
	dev := loop(t, file)
	dir, unmount := mount(t, dev, k.mount...)
	c.look(t, dir, history)
	unmount() // its journal is played: now the checker
	sh(t, k.check[0], append(k.check[1:], dev)...)
}

// look compares the files with what was synced.
func (c cut) look(t *testing.T, dir string, history []map[int64]uint64) {
	p := make([]byte, pageSize)
	note, err := os.Open(filepath.Join(dir, "note"))
	must(t, err)
	defer note.Close()
	if _, err := note.ReadAt(p[:8], 0); err != nil && !(errors.Is(err, io.EOF) && c.synced == 0) {
		t.Fatalf("the note: %v", err)
	}
	at := int(binary.LittleEndian.Uint64(p))
	if at < c.synced || at > rounds {
		t.Fatalf("the note says %d, and %d was synced", at, c.synced)
	}
	data, err := os.Open(filepath.Join(dir, "data"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatal("a synced file is gone")
	}
	must(t, err)
	defer data.Close()
	for b, round := range history[at] {
		_, err := data.ReadAt(p, b*pageSize)
		must(t, err)
		if got := binary.LittleEndian.Uint64(p); got < round {
			t.Errorf("block %d is of round %d, and %d was synced", b, got, round)
		}
	}
}

// copyOut writes a device into a sparse file.
func copyOut(ctx context.Context, d driver.Device, name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(d.Size()); err != nil {
		return err
	}
	for e, err := range d.(driver.ExtentReader).Extents(0, d.Size()) {
		if err != nil {
			return err
		}
		if e.Zero {
			continue
		}
		p := make([]byte, e.Len)
		if _, err := d.ReadAt(p, e.Off); err != nil {
			return err
		}
		if _, err := f.WriteAt(p, e.Off); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
