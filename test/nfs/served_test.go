package nfs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/nfs"
	share "kvol/test/nfs"
)

const kib64 = 64 << 10

// store opens a share until the test ends.
func store(t *testing.T, o nfs.Options) *nfs.Driver {
	t.Helper()
	d, err := nfs.Open(t.Context(), o)
	must(t, err)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestServed reads and writes volumes through an NFS server, by clients that are
// none of ours.
func TestServed(t *testing.T) {
	dir := share.XFS(t)
	s := share.Serve(t, dir)
	t.Run("Raw", func(t *testing.T) { served(t, dir, s) })
	t.Run("By os-brick", func(t *testing.T) { usedByBrick(t, dir) })
	t.Run("Cut off", func(t *testing.T) { cutOff(t, dir, s) })
	images := t.TempDir()
	layered := share.Serve(t, images)
	t.Run("Layers", func(t *testing.T) { layers(t, images, layered) })
}

// name is how hosts are told to open a volume.
func name(t *testing.T, d *nfs.Driver, id block.VolumeID) string {
	t.Helper()
	how, ok := d.Lending(id)
	if !ok {
		t.Fatal("the volume is not lent")
	}
	must(t, d.Lend(t.Context(), id))
	return how.Data["name"].(string)
}

func random(n int, seed uint64) []byte {
	p := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(p) // never fails
	return p
}

func read(t *testing.T, r io.ReaderAt, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	_, err := r.ReadAt(p, 0)
	must(t, err)
	return p
}

func served(t *testing.T, dir string, s *share.Server) {
	d := store(t, nfs.Options{Dir: dir, Export: "127.0.0.1:" + share.Export})
	const id, size = block.VolumeID("served"), 4 << 20
	must(t, d.CreateVolume(t.Context(), id, size))
	file := name(t, d, id)
	dev, err := d.OpenVolume(t.Context(), id)
	must(t, err)
	defer dev.Close()
	want := make([]byte, size)
	copy(want[kib64:], random(3*kib64, 1))
	_, err = dev.WriteAt(want[kib64:4*kib64], kib64)
	must(t, err)
	for _, version := range []int{3, 4} {
		if got := s.Run(t, "nfs-cat", s.URL(file, version)); !bytes.Equal([]byte(got), want) {
			t.Fatalf("by version %d a host reads %d bytes that are not what was written", version, len(got))
		}
	}
	fill := bytes.Repeat([]byte{0x5a}, 2*kib64)
	copy(want[20*kib64:], fill)
	s.Run(t, "qemu-io", "-f", "raw", "-c", "write -P 0x5a 1280k 128k", "-c", "flush", s.URL(file, 3))
	if !bytes.Equal(read(t, dev, size), want) {
		t.Fatal("what a host wrote is not what is read here")
	}
	// A host's whole file, copied over it.
	must(t, dev.Close())
	want = random(size, 2)
	from := filepath.Join(t.TempDir(), "from")
	must(t, os.WriteFile(from, want, 0o600))
	s.Run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", from, s.URL(file, 3))
	ref := driver.SnapshotRef{Volume: id, Name: "s"}
	must(t, d.CreateSnapshot(t.Context(), ref))
	s.Run(t, "qemu-io", "-f", "raw", "-c", "write -P 1 0 4m", s.URL(file, 3))
	must(t, d.CloneSnapshot(t.Context(), "clone", ref, size))
	got := filepath.Join(t.TempDir(), "got")
	s.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", s.URL(name(t, d, "clone"), 3), got)
	if text, err := os.ReadFile(got); err != nil || !bytes.Equal(text, want) {
		t.Fatalf("a clone of a snapshot that was taken under a host holds something else: %v", err)
	}
	must(t, d.ExtendVolume(t.Context(), id, 2*size))
	if info := s.Run(t, "qemu-img", "info", "-f", "raw", s.URL(file, 3)); !strings.Contains(info, fmt.Sprint(2*size)) {
		t.Errorf("a host sees %s", info)
	}
}

// cutOff: what a host that was cut off writes over NFS, with the file open all
// the time, does not reach the volume.
func cutOff(t *testing.T, dir string, s *share.Server) {
	d := store(t, nfs.Options{Dir: dir, Export: "127.0.0.1:" + share.Export})
	const id, size = block.VolumeID("cut"), 1 << 20
	must(t, d.CreateVolume(t.Context(), id, size))
	h := share.NewHost(t, s, name(t, d, id))
	if !strings.Contains(h.Ask(t, "write -P 1 0 64k"), "wrote 65536/65536") {
		t.Fatal("a host can't write")
	}
	who, err := d.Borrowers(t.Context(), id)
	must(t, err)
	must(t, d.Cut(t.Context(), id, who))
	t.Logf("a host that was cut off is told: %s", h.Ask(t, "write -P 2 0 64k"))
	h.Ask(t, "flush")
	dev, err := d.OpenVolume(t.Context(), id)
	must(t, err)
	defer dev.Close()
	if !bytes.Equal(read(t, dev, kib64), bytes.Repeat([]byte{1}, kib64)) {
		t.Error("a host that was cut off changed the volume")
	}
	again := share.NewHost(t, s, name(t, d, id))
	if again.Ask(t, "write -P 3 0 64k"); !bytes.Equal(read(t, dev, kib64), bytes.Repeat([]byte{3}, kib64)) {
		t.Error("a host that opens the file anew does not reach the volume")
	}
}

// layers: a host follows a qcow2 volume's layers by itself.
func layers(t *testing.T, dir string, s *share.Server) {
	d := store(t, nfs.Options{Dir: dir, Format: nfs.QCOW2, LendLayered: true, Export: "127.0.0.1:" + share.Export})
	const id, size = block.VolumeID("layers"), 1 << 20
	must(t, d.CreateVolume(t.Context(), id, size))
	dev, err := d.OpenVolume(t.Context(), id)
	must(t, err)
	want := random(size, 3)
	for i := range 3 {
		off := int64(i) * 5 * kib64
		_, err := dev.WriteAt(want[off:], off) // each over the end of what was there
		must(t, err)
		must(t, d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: block.PointID(fmt.Sprint(i))}))
	}
	must(t, dev.Close())
	file := name(t, d, id)
	host := t.TempDir() // QEMU's own NFS client does not follow names in headers; who has the share mounted does
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if e.Type().IsRegular() {
			s.Run(t, "nfs-cp", s.URL(e.Name(), 4), filepath.Join(host, e.Name()))
		}
	}
	got := filepath.Join(t.TempDir(), "got")
	share.Run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", filepath.Join(host, file), got)
	if text, err := os.ReadFile(got); err != nil || !bytes.Equal(text, want) {
		t.Fatalf("a host reads something else: %v", err)
	}
	top := `json:{"driver":"qcow2","backing":null,"file":{"driver":"nfs","server":{"type":"inet","host":"127.0.0.1"},` +
		`"path":"` + share.Export + "/" + file + `"}}`
	s.Run(t, "qemu-io", "-c", "write -P 7 64k 64k", "-c", "flush", top) // a whole cluster, which needs no layer
	copy(want[kib64:], bytes.Repeat([]byte{7}, kib64))
	must(t, d.Reclaim(t.Context(), id))
	dev, err = d.OpenVolume(t.Context(), id)
	must(t, err)
	defer dev.Close()
	if !bytes.Equal(read(t, dev, size), want) {
		t.Error("what a host wrote is not what is read here")
	}
}
