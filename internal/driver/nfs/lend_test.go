package nfs_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/nfs"
)

const address = "192.0.2.1:/vol01"

// host opens a volume's file as a host does that has mounted the share.
func host(t *testing.T, dir string, d *nfs.Driver, id block.VolumeID) *os.File {
	t.Helper()
	how, ok := d.Lending(id)
	if !ok {
		t.Fatal("the volume is not lent")
	}
	f, err := os.OpenFile(filepath.Join(dir, how.Data["name"].(string)), os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLending(t *testing.T) {
	for _, f := range forms(t) {
		t.Run(f.name, func(t *testing.T) {
			d := open(t, nfs.Options{Dir: fresh(t, f.dir), Format: f.format, Export: address, MountOptions: "-o vers=4.2",
				LendLayered: true})
			how, ok := d.Lending("6a21db69-dc6b-4423-834c-679ae153a638")
			want := map[string]any{"export": address, "name": "volume-6a21db69-dc6b-4423-834c-679ae153a638",
				"format": string(f.format), "options": "-o vers=4.2"}
			if !ok || how.Protocol != "nfs" || how.MountPointBase != "/var/lib/cinder/mnt" || !maps.Equal(how.Data, want) {
				t.Errorf("hosts are told %+v", how)
			}
			for _, o := range []nfs.Options{{}, {Export: address}} {
				o.Dir, o.Format = fresh(t, f.dir), f.format
				if _, ok := open(t, o).Lending("v"); ok != (f.format == nfs.Raw && o.Export != "") {
					t.Errorf("%+v lends: %t", o, ok)
				}
			}
		})
	}
}

// TestHostWrites: what a host writes is read here and the other way round, counts
// as a change, also for a process that comes later, and is in snapshots.
func TestHostWrites(t *testing.T) {
	dir := fresh(t, forms(t)[0].dir)
	now := time.Now()
	o := nfs.Options{Dir: dir, Export: address, Now: func() time.Time { return now }}
	d := opened(t, o)
	id := volume(t, d, 8)
	must(t, d.Lend(t.Context(), id))
	must(t, d.Close())
	d = open(t, o)
	dev, h := device(t, d, id), host(t, dir, d, id)
	write(t, dev, 1, 0)
	holds(t, h, 1, 0)
	last := changes(t, d, id)
	for b := range byte(20) { // many of them within a tick of the file system's clock
		_, err := h.WriteAt(bytes.Repeat([]byte{b}, kib4), kib4)
		must(t, err)
		n := changes(t, d, id)
		if n == last {
			t.Fatal("a host's write is not counted")
		}
		last = n
	}
	holds(t, dev, 19, 1)
	if n := changes(t, d, id); n == last {
		t.Error("a second write within a tick would not be counted")
	}
	now = now.Add(time.Minute)
	last = changes(t, d, id) // it looks settled, and counts for the last time
	must(t, d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: "s"}))
	if n := changes(t, d, id); n != last {
		t.Error("nobody wrote, and it counts")
	}
	_, err := h.WriteAt(make([]byte, kib4), kib4)
	must(t, err)
	if n := changes(t, d, id); n == last {
		t.Error("a host's write after a while is not counted")
	}
	err = d.CreateSnapshots(
		t.Context(),
		[]driver.SnapshotRef{{Volume: id, Name: "x"}, {Volume: volume(t, d, 1), Name: "x"}},
	)
	if !block.Is(err, block.Conflict) {
		t.Errorf("one moment of two volumes of which hosts have one: %v", err)
	}
}

func changes(t *testing.T, d *nfs.Driver, id block.VolumeID) uint64 {
	t.Helper()
	n, err := d.Changes(t.Context(), id)
	must(t, err)
	return n
}

// TestSnapshotUnderHost: a snapshot that is taken while a host writes one number
// after the other is what the host had written at one moment.
func TestSnapshotUnderHost(t *testing.T) {
	dir := fresh(t, forms(t)[0].dir)
	d := open(t, nfs.Options{Dir: dir, Export: address})
	const blocks = 64
	id := volume(t, d, blocks)
	must(t, d.Lend(t.Context(), id))
	h := host(t, dir, d, id)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		p := make([]byte, kib4)
		for n := uint64(1); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			binary.BigEndian.PutUint64(p, n)
			if _, err := h.WriteAt(p, int64(n%blocks)*kib4); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 10 {
		ref := driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())}
		must(t, d.CreateSnapshot(t.Context(), ref))
		r, err := d.OpenSnapshot(t.Context(), ref)
		must(t, err)
		got, newest := make([]uint64, blocks), uint64(0)
		p := make([]byte, 8)
		for b := range got {
			_, err := r.ReadAt(p, int64(b)*kib4)
			must(t, err)
			got[b] = binary.BigEndian.Uint64(p)
			newest = max(newest, got[b])
		}
		must(t, r.Close())
		for n := max(newest, blocks) - blocks + 1; n <= newest; n++ {
			if got[n%blocks] != n {
				t.Fatalf("the newest write is %d, but block %d has %d", newest, n%blocks, got[n%blocks])
			}
		}
	}
}

// TestHostIsCutOff: what a host writes that was cut off reaches nothing of the
// volume; who opens the file anew does.
func TestHostIsCutOff(t *testing.T) {
	for _, f := range forms(t) {
		t.Run(f.name, func(t *testing.T) {
			dir := fresh(t, f.dir)
			d := open(t, nfs.Options{Dir: dir, Format: f.format, Export: address, LendLayered: true})
			id := volume(t, d, 8)
			dev := device(t, d, id)
			write(t, dev, 1, 0)
			must(t, dev.Close())
			must(t, d.Lend(t.Context(), id))
			h := host(t, dir, d, id)
			who, err := d.Borrowers(t.Context(), id)
			must(t, err)
			if len(who) != 1 || who[0].Host != "" {
				t.Fatalf("the borrowers are %+v", who)
			}
			must(t, d.Cut(t.Context(), id, who))
			wreck(t, h)
			must(t, d.Reclaim(t.Context(), id))
			dev = device(t, d, id)
			holds(t, dev, 1, 0)
			must(t, dev.Close())
			if who, err := d.Borrowers(t.Context(), id); err != nil || len(who) > 0 {
				t.Errorf("borrowers of what is not lent: %+v, %v", who, err)
			}
			must(t, d.Lend(t.Context(), id))
			wreck(t, h)
			h = host(t, dir, d, id)
			must(t, d.Withhold(t.Context(), id))
			wreck(t, h)
			info, err := os.Stat(filepath.Join(dir, "volume-"+string(id)))
			must(t, err)
			if info.Mode().Perm() != 0o400 {
				t.Errorf("what is withheld has the mode %v", info.Mode())
			}
			dev = device(t, d, id)
			holds(t, dev, 1, 0)
			write(t, dev, 2, 0)
			must(t, dev.Close())
			must(t, d.Lend(t.Context(), id))
			h = host(t, dir, d, id)
			if info, err := h.Stat(); err != nil || info.Mode().Perm() != 0o660 {
				t.Errorf("what is lent again has the mode %v, %v", info.Mode(), err)
			}
		})
	}
}

// wreck writes over all of a file.
func wreck(t *testing.T, h *os.File) {
	t.Helper()
	info, err := h.Stat()
	must(t, err)
	_, err = h.WriteAt(bytes.Repeat([]byte{0xbb}, int(info.Size())), 0)
	must(t, err)
}

// TestCutWhileOpen: a volume that is open here as well goes on here.
func TestCutWhileOpen(t *testing.T) {
	dir := fresh(t, forms(t)[0].dir)
	d := open(t, nfs.Options{Dir: dir, Export: address})
	id := volume(t, d, 8)
	must(t, d.Lend(t.Context(), id))
	dev, h := device(t, d, id), host(t, dir, d, id)
	write(t, dev, 1, 0)
	who, err := d.Borrowers(t.Context(), id)
	must(t, err)
	must(t, d.Cut(t.Context(), id, who))
	wreck(t, h)
	holds(t, dev, 1, 0)
	write(t, dev, 2, 1)
	must(t, dev.Close())
	dev = device(t, d, id)
	holds(t, dev, 1, 0)
	holds(t, dev, 2, 1)
}

// TestLentImage: while a host may have a qcow2 file open, it is the host's alone.
func TestLentImage(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	d := open(t, nfs.Options{Dir: dir, Format: nfs.QCOW2, Export: address, LendLayered: true})
	id := volume(t, d, 8)
	dev := device(t, d, id)
	if err := d.Lend(t.Context(), id); !block.Is(err, block.Conflict) {
		t.Errorf("lending what is open: %v", err)
	}
	write(t, dev, 1, 0)
	for _, name := range []block.PointID{"earlier", "before"} {
		must(t, d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: name}))
	}
	must(t, dev.Close())
	must(t, d.Lend(t.Context(), id))
	_, openErr := d.OpenVolume(t.Context(), id)
	for what, err := range map[string]error{
		"opening": openErr, "growing": d.ExtendVolume(t.Context(), id, 16*kib4),
		"a snapshot": d.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: "now"}),
	} {
		if !block.Is(err, block.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range []block.PointID{"earlier", "before"} { // their layers stay
		must(t, d.DeleteSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: name}))
	}
	h := host(t, dir, d, id)
	if _, err := h.Stat(); err != nil {
		t.Fatal(err)
	}
	layers, err := filepath.Glob(filepath.Join(dir, "layer-*"))
	if err != nil || len(layers) != 2 {
		t.Errorf("the host's file stands on %q, %v", layers, err)
	}
	must(t, d.Reclaim(t.Context(), id))
	dev = device(t, d, id)
	holds(t, dev, 1, 0)
	must(t, dev.Close())
	must(t, d.DeleteVolume(t.Context(), id))
	if names := left(t, dir); len(names) > 0 {
		t.Errorf("there is %q", names)
	}
}

// TestProgramKilled kills the program that has an image open: what was flushed is
// there; if something was not, the device says so until it is opened again.
func TestProgramKilled(t *testing.T) {
	needQemu(t)
	d := open(t, nfs.Options{Dir: t.TempDir(), Format: nfs.QCOW2})
	id := volume(t, d, 8)
	dev := device(t, d, id)
	write(t, dev, 1, 0)
	must(t, dev.Flush())
	killProgram(t)
	if _, err := dev.ReadAt(make([]byte, kib4), 0); err != nil && !block.Is(err, block.Unavailable) {
		t.Fatalf("a read meanwhile: %v", err)
	}
	holds(t, dev, 1, 0)
	write(t, dev, 2, 1)
	killProgram(t)
	for n := range 3 {
		if _, err := dev.WriteAt(make([]byte, kib4), 2*kib4); !block.Is(err, block.Unavailable) {
			t.Fatalf("write %d after unflushed ones were lost: %v", n, err)
		}
	}
	if err := dev.Flush(); !block.Is(err, block.Unavailable) {
		t.Fatalf("a flush after that: %v", err)
	}
	must(t, errors.Join(dev.Close(), nil))
	dev = device(t, d, id)
	holds(t, dev, 1, 0)
	write(t, dev, 3, 2)
	must(t, dev.Flush())
}

// killProgram kills the qemu-nbd that this process started, of which there is
// one.
func killProgram(t *testing.T) {
	t.Helper()
	pids := programs(t)
	if len(pids) != 1 {
		t.Fatalf("the programs are %v", pids)
	}
	must(t, syscall.Kill(pids[0], syscall.SIGKILL))
}

// programs are the processes that have files open for this one.
func programs(t *testing.T) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		var pid, parent int
		var name, state string
		if _, err := fmt.Sscanf(string(text), "%d %s %s %d", &pid, &name, &state, &parent); err != nil {
			continue // a name with a space, so none of ours
		}
		if parent == os.Getpid() && strings.HasPrefix(name, "(qemu-nbd") && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}
