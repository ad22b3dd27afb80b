//go:build ceph

package rbd

import (
	"bytes"
	"errors"
	"reflect"
	"syscall"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/test/ceph"
)

// opened opens an empty store, and returns both ways of its calls.
func opened(t testing.TB, c *ceph.Cluster, timeout time.Duration) (*Driver, *library, commands) {
	t.Helper()
	o := Options{Conf: c.Conf(), Namespace: block.NewID(), Timeout: timeout}
	c.Run(t, "rbd", "namespace", "create", "rbd/"+o.Namespace)
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	l, ok := d.calls.(*library)
	if !ok {
		t.Fatalf("the calls are %T", d.calls)
	}
	return d, l, l.commands
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestLibrary holds librbd's answers to the command's.
func TestLibrary(t *testing.T) {
	c := ceph.Start(t)
	t.Run("Answers", func(t *testing.T) { sameAnswers(t, c) })
	t.Run("Errors", func(t *testing.T) { sameErrors(t, c) })
	t.Run("No program", func(t *testing.T) { noProgram(t, c) })
	t.Run("All taken", func(t *testing.T) { allTaken(t, c) })
	t.Run("Cut off", func(t *testing.T) { cutOff(t, c) })
	t.Run("Silence", func(t *testing.T) { silence(t, c) })
}

// family is a volume with two snapshots, each with bytes of its own, between which
// one was removed that a clone stands on.
type family struct {
	volume, clone block.VolumeID
	first, last   driver.SnapshotRef
}

func found(t testing.TB, d *Driver) family {
	t.Helper()
	ctx := t.Context()
	f := family{volume: block.VolumeID(block.NewID()), clone: block.VolumeID(block.NewID())}
	f.first = driver.SnapshotRef{Volume: f.volume, Name: "first"}
	f.last = driver.SnapshotRef{Volume: f.volume, Name: "last"}
	removed := driver.SnapshotRef{Volume: f.volume, Name: "removed"}
	must(t, d.CreateVolume(ctx, f.volume, 16<<20))
	dev, err := d.OpenVolume(ctx, f.volume)
	must(t, err)
	defer dev.Close()
	for i, ref := range []driver.SnapshotRef{f.first, removed, f.last} {
		_, err := dev.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 3*kib4), int64(i)*(5<<20))
		must(t, err, dev.Flush(), d.CreateSnapshot(ctx, ref))
		if ref == removed {
			must(t, d.CloneSnapshot(ctx, f.clone, ref, 20<<20), d.DeleteSnapshot(ctx, ref))
			must(t, dev.Zero(0, 2*kib4))
		}
	}
	return f
}

func sameAnswers(t *testing.T, c *ceph.Cluster) {
	d, l, program := opened(t, c, 0)
	ctx := t.Context()
	f := found(t, d)
	same := func(what string, ask func(calls) (any, error)) {
		t.Helper()
		got, err := ask(l)
		want, wrong := ask(program)
		if err != nil || wrong != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: librbd says %+v, %v; the command %+v, %v", what, got, err, want, wrong)
		}
	}
	for _, id := range []block.VolumeID{f.volume, f.clone} {
		same("info", func(c calls) (any, error) { return c.info(ctx, id) })
		same("snap ls", func(c calls) (any, error) { return c.snaps(ctx, id) })
	}
	for _, whole := range []bool{true, false} {
		for _, from := range []block.PointID{"", f.first.Name} {
			for _, to := range []driver.SnapshotRef{f.last, {Volume: f.volume}} {
				same("diff", func(c calls) (any, error) { return c.diff(ctx, from, to, whole, 16<<20) })
			}
		}
		same("diff of a clone", func(c calls) (any, error) {
			return c.diff(ctx, "", driver.SnapshotRef{Volume: f.clone}, whole, 20<<20)
		})
	}
	all, err := l.images(ctx)
	if err != nil || len(all) != 2 {
		t.Errorf("the images are %v, %v", all, err)
	}
	var alone []listed // the command lists snapshots too
	shown, err := program.images(ctx)
	must(t, err)
	for _, i := range shown {
		if i.Snapshot == "" {
			alone = append(alone, i)
		}
	}
	if !reflect.DeepEqual(all, alone) {
		t.Errorf("the images are %v, for the command %v", all, alone)
	}
	if i, err := l.info(ctx, f.clone); err != nil || i.Parent == nil || i.Parent.Image != imageName(f.volume) {
		t.Errorf("the clone is %+v, %v", i, err)
	}
}

// sameErrors wants the same kind and number of each error from both.
func sameErrors(t *testing.T, c *ceph.Cluster) {
	d, l, program := opened(t, c, 0)
	ctx := t.Context()
	f := found(t, d)
	const nobody = block.VolumeID("d5f3c8a0-0000-4000-8000-000000000000")
	for _, is := range []struct {
		what string
		want syscall.Errno
		do   func(calls) error
	}{
		{"info of nobody", syscall.ENOENT, func(c calls) error { _, err := c.info(ctx, nobody); return err }},
		{"snap ls of nobody", syscall.ENOENT, func(c calls) error { _, err := c.snaps(ctx, nobody); return err }},
		{"snap create of nobody", syscall.ENOENT, func(c calls) error {
			return c.createSnap(ctx, driver.SnapshotRef{Volume: nobody, Name: "s"})
		}},
		{"snap create twice", syscall.EEXIST, func(c calls) error { return c.createSnap(ctx, f.last) }},
		{"snap rm of none", syscall.ENOENT, func(c calls) error {
			return c.removeSnap(ctx, driver.SnapshotRef{Volume: f.volume, Name: "none"})
		}},
		{"create twice", syscall.EEXIST, func(c calls) error { return c.create(ctx, f.volume, 16<<20) }},
		{"resize of nobody", syscall.ENOENT, func(c calls) error { return c.resize(ctx, nobody, kib4) }},
		{"resize to less", syscall.EINVAL, func(c calls) error { return c.resize(ctx, f.volume, kib4) }},
		{"clone twice", syscall.EEXIST, func(c calls) error { return c.clone(ctx, f.last, imageName(f.clone)) }},
		{"clone of none", syscall.ENOENT, func(c calls) error {
			return c.clone(ctx, driver.SnapshotRef{Volume: f.volume, Name: "none"}, imageName(nobody))
		}},
		{"diff of none", syscall.ENOENT, func(c calls) error {
			_, err := c.diff(ctx, "none", f.last, false, 16<<20)
			return err
		}},
	} {
		for _, c := range []calls{l, program} {
			if err := is.do(c); !errors.Is(err, is.want) || block.KindOf(err) != block.KindOf(meaning(is.want, nil)) {
				t.Errorf("%s by %T: %v, of kind %v", is.what, c, err, block.KindOf(err))
			}
		}
	}
}

// noProgram has all calls work where no program can be found.
func noProgram(t *testing.T, c *ceph.Cluster) {
	d, l, _ := opened(t, c, 0)
	ctx := t.Context()
	f := found(t, d)
	made, copied := block.VolumeID(block.NewID()), block.VolumeID(block.NewID())
	ref := driver.SnapshotRef{Volume: made, Name: "s"}
	t.Setenv("PATH", "")
	must(t, l.create(ctx, made, kib4), l.resize(ctx, made, 4*kib4), l.createSnap(ctx, ref),
		l.clone(ctx, ref, imageName(copied)), l.removeSnap(ctx, ref))
	_, err := l.diff(ctx, f.first.Name, f.last, false, 16<<20)
	must(t, err)
	all, err := l.images(ctx)
	if err != nil || len(all) != 4 {
		t.Errorf("there are %v, %v", all, err)
	}
	if i, err := l.info(ctx, copied); err != nil || i.Size != 4*kib4 {
		t.Errorf("the clone is %+v, %v", i, err)
	}
	if left, err := l.snaps(ctx, made); err != nil || len(left) != 0 {
		t.Errorf("there are snapshots %v, %v", left, err)
	}
}

// allTaken has the command take over where as many calls are in the library as may be.
func allTaken(t *testing.T, c *ceph.Cluster) {
	d, l, _ := opened(t, c, 0)
	f := found(t, d)
	for range maxCalls {
		l.slots <- struct{}{}
	}
	_, err := l.info(t.Context(), f.volume)
	must(t, err)
	t.Setenv("PATH", "")
	if _, err := l.info(t.Context(), f.volume); !block.Is(err, block.Unavailable) {
		t.Errorf("it went past the command: %v", err)
	}
}

// cutOff has the cluster refuse the connection that there is: nobody notices.
func cutOff(t *testing.T, c *ceph.Cluster) {
	d, l, _ := opened(t, c, 0)
	f := found(t, d)
	_, err := l.info(t.Context(), f.volume)
	must(t, err)
	before := l.current
	address, err := before.cluster.GetAddrs()
	must(t, err)
	c.Run(t, "ceph", "osd", "blocklist", "add", address)
	must(t, l.createSnap(t.Context(), driver.SnapshotRef{Volume: f.volume, Name: "after"}))
	_, err = l.info(t.Context(), f.volume)
	must(t, err)
	if l.current == before {
		t.Error("the connection that was cut off is still used")
	}
}

// silence wants errors from a cluster whose OSD does not answer, nothing that stays
// in the library for it, and another connection for the next call.
func silence(t *testing.T, c *ceph.Cluster) {
	d, l, _ := opened(t, c, 5*time.Second)
	f := found(t, d)
	_, err := l.info(t.Context(), f.volume)
	must(t, err)
	before := l.current
	c.PauseOne(t, "osd")
	defer c.Resume(t)
	errs := make(chan error)
	for i := range 8 {
		go func() {
			if i%2 == 0 {
				_, err := l.info(t.Context(), f.volume)
				errs <- err
				return
			}
			errs <- l.createSnap(t.Context(), driver.SnapshotRef{Volume: f.volume, Name: block.PointID(block.NewID())})
		}()
	}
	for range 8 {
		if err := <-errs; !block.Is(err, block.Unavailable) {
			t.Errorf("a call to a silent cluster: %v", err)
		}
	}
	for range maxCalls { // all of them come back
		l.slots <- struct{}{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == before {
		t.Error("the connection without an answer is still used")
	}
}

// BenchmarkCalls gives the time of a call by the command as a ratio to that by
// librbd, both in turn.
func BenchmarkCalls(b *testing.B) {
	c := ceph.Start(b)
	d, l, program := opened(b, c, 0)
	f := found(b, d)
	for range 8 {
		must(b, d.CreateVolume(b.Context(), block.VolumeID(block.NewID()), 16<<20))
	}
	ctx := b.Context()
	for _, is := range []struct {
		what string
		do   func(calls) error
	}{
		{"info", func(c calls) error { _, err := c.info(ctx, f.volume); return err }},
		{"list of 10", func(c calls) error { _, err := c.images(ctx); return err }},
		{"snap ls", func(c calls) error { _, err := c.snaps(ctx, f.volume); return err }},
		{"snap create and rm", func(c calls) error {
			ref := driver.SnapshotRef{Volume: f.volume, Name: block.PointID(block.NewID())}
			return errors.Join(c.createSnap(ctx, ref), c.removeSnap(ctx, ref))
		}},
		{"diff", func(c calls) error { _, err := c.diff(ctx, f.first.Name, f.last, false, 16<<20); return err }},
		{"create", func(c calls) error { return c.create(ctx, block.VolumeID(block.NewID()), 16<<20) }},
		{"clone", func(c calls) error { return c.clone(ctx, f.last, "clone-"+block.NewID()) }},
	} {
		b.Run(is.what, func(b *testing.B) {
			must(b, is.do(l)) // the connection is there
			var by [2]time.Duration
			for b.Loop() {
				for i, c := range []calls{program, l} {
					began := time.Now()
					must(b, is.do(c))
					by[i] += time.Since(began)
				}
			}
			b.ReportMetric(float64(by[0])/float64(by[1]), "command/librbd")
			b.ReportMetric(float64(by[0].Milliseconds())/float64(b.N), "ms-command")
			b.ReportMetric(float64(by[1].Microseconds())/1000/float64(b.N), "ms-librbd")
		})
	}
}
