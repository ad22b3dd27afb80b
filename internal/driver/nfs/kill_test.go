package nfs_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/nfs"
)

// A process that works on a share until it is killed finds the share's directory
// and format in its environment, and where to go on.
const (
	workDir    = "KVOL_NFS_WORK"
	workFormat = "KVOL_NFS_FORMAT"
	workFrom   = "KVOL_NFS_FROM"
)

const (
	workVolume = block.VolumeID("work")
	workBlocks = 32
	keepPoints = 3 // how many snapshots the process keeps
)

// work writes the number of a round into a block, names it, deletes an older
// name, and clones now and then; after each round it says so.
func work(dir string) {
	if err := workOn(context.Background(), dir); err != nil {
		fmt.Println("error", err)
	}
	os.Exit(1)
}

func workOn(ctx context.Context, dir string) error {
	d, err := nfs.Open(ctx, nfs.Options{Dir: dir, Format: nfs.Format(os.Getenv(workFormat))})
	if err != nil {
		return err
	}
	from, err := strconv.Atoi(os.Getenv(workFrom))
	if err != nil {
		return err
	}
	if err := d.CreateVolume(ctx, workVolume, workBlocks*kib4); err != nil {
		return err
	}
	dev, err := d.OpenVolume(ctx, workVolume)
	if err != nil {
		return err
	}
	for n := from; ; n++ {
		if err := round(ctx, d, dev, n); err != nil {
			return err
		}
		fmt.Println("done", n)
	}
}

func round(ctx context.Context, d *nfs.Driver, dev driver.Device, n int) error {
	if _, err := dev.WriteAt(content(n), int64(n%workBlocks)*kib4); err != nil {
		return err
	}
	if err := dev.Flush(); err != nil {
		return err
	}
	if err := d.CreateSnapshot(ctx, point(n)); err != nil {
		return err
	}
	if n%4 == 0 {
		if err := d.CloneSnapshot(ctx, cloneOf(n), point(n), workBlocks*kib4); err != nil {
			return err
		}
	}
	if n%4 == 2 {
		if err := d.DeleteVolume(ctx, cloneOf(n-2)); err != nil {
			return err
		}
	}
	if n < keepPoints {
		return nil
	}
	return d.DeleteSnapshot(ctx, point(n-keepPoints))
}

func content(n int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%07d\n", n)), kib4/8) }

func point(n int) driver.SnapshotRef {
	return driver.SnapshotRef{Volume: workVolume, Name: block.PointID(fmt.Sprint("point ", n))}
}

func cloneOf(n int) block.VolumeID { return block.VolumeID(fmt.Sprint("clone ", n)) }

// asOf is what the volume has after round n.
func asOf(n int) []byte {
	p := make([]byte, workBlocks*kib4)
	for i := max(0, n-workBlocks+1); i <= n; i++ {
		copy(p[i%workBlocks*kib4:], content(i))
	}
	return p
}

// TestKilled kills a process in the midst of its work, again and again. What it
// said was done is there, what it did last is there or not, and what was left
// half is found and put right.
func TestKilled(t *testing.T) {
	for _, f := range forms(t) {
		t.Run(f.name, func(t *testing.T) {
			dir := fresh(t, f.dir)
			done := -1
			for life := range 3 {
				done = killed(t, f, dir, done, 3+4*life)
				d := opened(t, nfs.Options{Dir: dir})
				verify(t, d, done)
				must(t, d.Close())
			}
			d := open(t, nfs.Options{Dir: dir})
			for v, err := range d.Volumes(t.Context()) {
				must(t, err)
				must(t, d.DeleteVolume(t.Context(), v.ID))
			}
			if names := left(t, dir); len(names) > 0 {
				t.Errorf("after all volumes were deleted there is %q", names)
			}
			t.Logf("%d rounds", done)
		})
	}
}

// killed has a process work on, kills it after it has done some rounds, and
// returns the last one that it did.
func killed(t *testing.T, f form, dir string, done, rounds int) int {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), workDir+"="+dir, workFormat+"="+string(f.format), workFrom+"="+fmt.Sprint(done+1))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		word, number, _ := strings.Cut(lines.Text(), " ")
		if word != "done" {
			t.Fatal(lines.Text())
		}
		done, err = strconv.Atoi(number)
		must(t, err)
		if n == rounds { // and on it goes meanwhile
			must(t, cmd.Process.Signal(syscall.SIGKILL))
		}
	}
	_ = cmd.Wait() // it was killed
	return done
}

// verify checks a share whose process was killed in the round after done.
func verify(t *testing.T, d *nfs.Driver, done int) {
	t.Helper()
	dev, err := d.OpenVolume(t.Context(), workVolume)
	must(t, err)
	now := make([]byte, dev.Size())
	_, err = dev.ReadAt(now, 0)
	must(t, err)
	must(t, dev.Close())
	if !bytes.Equal(now, asOf(done)) && !bytes.Equal(now, asOf(done+1)) && !torn(now, done+1) {
		t.Errorf("after round %d the volume has something else", done)
	}
	points, err := d.Snapshots(t.Context(), workVolume)
	must(t, err)
	have := map[block.PointID]bool{}
	for _, p := range points {
		have[p.Name] = true
		var n int
		_, err := fmt.Sscanf(string(p.Name), "point %d", &n)
		must(t, err)
		r, err := d.OpenSnapshot(t.Context(), driver.SnapshotRef{Volume: workVolume, Name: p.Name})
		must(t, err)
		got := make([]byte, r.Size())
		_, err = r.ReadAt(got, 0)
		must(t, err)
		must(t, r.Close())
		if !bytes.Equal(got, asOf(n)) {
			t.Errorf("after round %d the snapshot of round %d has something else", done, n)
		}
	}
	for n := max(0, done-keepPoints+2); n <= done; n++ {
		if !have[point(n).Name] {
			t.Errorf("after round %d the snapshot of round %d is missing", done, n)
		}
	}
}

// torn says whether a volume has a part of a round's write, which was not
// acknowledged.
func torn(now []byte, n int) bool {
	at := n % workBlocks * kib4
	rest, want := bytes.Clone(now), asOf(n-1)
	clear(rest[at : at+kib4])
	clear(want[at : at+kib4])
	return bytes.Equal(rest, want)
}
