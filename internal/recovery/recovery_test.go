package recovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/job"
	"kvol/internal/recovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// room is a destination zone with a replica of a volume in backend "bak", of
// which recoveries can be ordered into "near", on the same store, and "far".
type room struct {
	t       testing.TB
	catalog *catalog.Catalog
	near    *faulty
	far     *faulty
	set     *driver.Set
	replica block.Replica
	point   block.Point
	rowkeys int64
}

// faulty is a driver whose calls fail once its budget is spent; a negative
// budget never is.
type faulty struct {
	driver.Driver
	budget int
	err    error
	on     func() // called before each call that passes
}

func (f *faulty) Unwrap() driver.Driver { return f.Driver }

func (f *faulty) spend() error {
	if f.budget == 0 {
		return f.err
	}
	f.budget--
	if f.on != nil {
		f.on()
	}
	return nil
}

func (f *faulty) CreateVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return errors.Join(f.spend(), f.Driver.CreateVolume(ctx, id, size), f.spend())
}

func (f *faulty) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	if err := f.spend(); err != nil {
		return err
	}
	return errors.Join(f.Driver.CloneSnapshot(ctx, id, from, size), f.spend())
}

func (f *faulty) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	if err := f.spend(); err != nil {
		return nil, err
	}
	return f.Driver.OpenVolume(ctx, id)
}

func (f *faulty) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	if err := f.spend(); err != nil {
		return nil, err
	}
	return f.Driver.OpenSnapshot(ctx, ref)
}

func newRoom(t testing.TB, size int64) *room {
	t.Helper()
	c, err := catalog.Open(ctx, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, catalog: c, near: &faulty{Driver: mem.New(mem.Options{}), budget: -1},
		far: &faulty{Driver: mem.New(mem.Options{}), budget: -1}}
	r.set, err = driver.NewSet(map[string]driver.Driver{"s": r.near, "t": r.far},
		[]block.Backend{{Name: "bak", Store: "s"}, {Name: "near", Store: "s"}, {Name: "far", Store: "t"}})
	r.ok(err)
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), r.near.Close(), r.far.Close()); err != nil {
			t.Error(err)
		}
	})
	id := block.VolumeID(block.NewID())
	r.ok(r.near.CreateVolume(ctx, id, size))
	v, err := r.near.OpenVolume(ctx, id)
	r.ok(err)
	_, err = v.WriteAt([]byte("content"), size-4096)
	r.ok(errors.Join(err, v.Close()))
	r.point = block.Point{ID: block.PointID(block.NewID()), Size: size, Epoch: 1, Sequence: 1, At: time.Unix(1, 0).UTC(),
		Root: block.RootHash{1}}
	r.ok(r.near.CreateSnapshot(ctx, driver.SnapshotRef{Volume: id, Name: r.point.ID}))
	r.replica = block.Replica{ID: id, SourceZone: "a", Source: "v", Backend: "bak", Epoch: 1, Newest: r.point}
	r.update(func(tx *catalog.Tx) error {
		return errors.Join(tx.InsertReplica(r.replica), tx.InsertPoint(id, r.point, block.RootHash{}),
			tx.UpsertType(block.VolumeType{ID: block.TypeID(typeID), Name: "type"}))
	})
	return r
}

const typeID = "45856d65-9021-4702-b8a6-62d5326b8f4e"

func (r *room) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) update(fn func(*catalog.Tx) error) {
	r.t.Helper()
	r.ok(r.catalog.Update(ctx, fn))
}

// order begins a recovery into a backend as control does.
func (r *room) order(backend string) (recovery.Order, block.Job) {
	r.t.Helper()
	r.rowkeys++
	o := recovery.Order{Kind: block.DRRecovery, Rowkey: r.rowkeys, Replica: r.replica.ID, Backup: "bak", Point: r.point.ID,
		Volume: block.VolumeID(block.NewID())}
	req := block.DRRequest{Kind: o.Kind, Project: "p", DestinationType: typeID}
	args, err := json.Marshal(o)
	r.ok(err)
	j := block.Job{Kind: recovery.JobKind, Subject: string(o.Volume), Args: args}
	r.update(func(tx *catalog.Tx) error {
		v := recovery.Volume(o.Volume, req, r.replica, r.point)
		v.Backend = backend
		row := block.DRJob{Rowkey: o.Rowkey, Request: req, Status: block.DRReady, Point: &r.point, Start: tx.Now,
			BytesTotal: r.point.Size, NewVolume: o.Volume}
		return errors.Join(tx.InsertVolume(v), tx.Pin(o.Replica, o.Point, o.Holder()), tx.InsertDRJob(row))
	})
	return o, j
}

func (r *room) handler() *recovery.Handler {
	return recovery.New(recovery.Config{Catalog: r.catalog, Backends: r.set})
}

// check wants a recovery that ended well.
func (r *room) check(o recovery.Order, store *faulty) {
	r.t.Helper()
	r.update(func(tx *catalog.Tx) error {
		row, err := tx.DRJob(o.Kind, o.Rowkey)
		if err != nil || row.Status != block.DRSuccess || row.Message != "OK" || row.End.IsZero() ||
			row.BytesDone != r.point.Size {
			r.t.Errorf("row %+v, %v", row, err)
		}
		v, err := tx.Volume(o.Volume)
		if err != nil || v.Status != block.VolumeAvailable {
			r.t.Errorf("volume %+v, %v", v, err)
		}
		return nil
	})
	r.unpinned()
	store.budget = -1
	v, err := store.OpenVolume(ctx, o.Volume)
	r.ok(err)
	p := make([]byte, 7)
	_, err = v.ReadAt(p, r.point.Size-4096)
	r.ok(errors.Join(err, v.Close()))
	if string(p) != "content" || v.Size()%block.GiB != 0 {
		r.t.Errorf("content %q, size %d", p, v.Size())
	}
}

func (r *room) unpinned() {
	r.t.Helper()
	r.update(func(tx *catalog.Tx) error {
		pinned, err := tx.PinnedPoints(r.replica.ID)
		if len(pinned) > 0 {
			r.t.Errorf("pins remain: %v", pinned)
		}
		return err
	})
}

// TestCutAnywhere fails the n-th call of the driver for every n, runs the job
// again as after a crash, and again after its end.
func TestCutAnywhere(t *testing.T) {
	for _, backend := range []string{"near", "far"} {
		for n := 0; ; n++ {
			r := newRoom(t, 1<<20)
			o, j := r.order(backend)
			store := map[string]*faulty{"near": r.near, "far": r.far}[backend]
			store.budget, store.err = n, block.Errorf(block.Unavailable, "cut")
			first := r.handler().Run(ctx, &job.Task{Job: j})
			store.budget = -1
			for range 2 {
				if err := r.handler().Run(ctx, &job.Task{Job: j}); err != nil {
					t.Fatalf("%s, call %d: %v", backend, n, err)
				}
			}
			r.check(o, store)
			if first == nil {
				if n < 2 {
					t.Errorf("%s: only %d calls were cut", backend, n)
				}
				break
			}
		}
	}
}

// TestGaveUp fails the row and the volume in the transaction that fails the
// job, and leaves the pin to a job of its own.
func TestGaveUp(t *testing.T) {
	r := newRoom(t, 1<<20)
	o, j := r.order("near")
	r.ok(r.near.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: o.Replica, Name: o.Point}))
	cause := r.handler().Run(ctx, &job.Task{Job: j})
	if cause == nil {
		t.Fatal("a point that is gone was recovered")
	}
	r.update(func(tx *catalog.Tx) error { return r.handler().GaveUp(tx, j, cause) })
	r.update(func(tx *catalog.Tx) error {
		row, err := tx.DRJob(o.Kind, o.Rowkey)
		if err != nil || row.Status != block.DRFail || row.Message == "" || row.End.IsZero() {
			t.Errorf("row %+v, %v", row, err)
		}
		v, err := tx.Volume(o.Volume)
		if err != nil || v.Status != block.VolumeError {
			t.Errorf("volume %+v, %v", v, err)
		}
		if failed, err := tx.FailedRecovery(o.Volume); !failed || err != nil {
			t.Errorf("nobody knows that it was given up: %v", err)
		}
		release, ok, err := tx.ClaimJob("me", time.Minute, []string{recovery.JobKind})
		if !ok || err != nil {
			t.Fatalf("no job takes the pin off: %v", err)
		}
		j = release
		return nil
	})
	r.ok(r.handler().Run(ctx, &job.Task{Job: j}))
	r.unpinned()
	secret := errors.New("dial 10.0.0.1: refused")
	_, j = r.order("near")
	r.update(func(tx *catalog.Tx) error { return r.handler().GaveUp(tx, j, secret) })
	r.update(func(tx *catalog.Tx) error {
		row, err := tx.DRJob(block.DRRecovery, 2)
		if strings.Contains(row.Message, "10.0.0.1") || row.Message == "" {
			t.Errorf("message %q", row.Message)
		}
		return err
	})
}

// TestDeletedMeanwhile takes the volume's row away while its bytes come.
func TestDeletedMeanwhile(t *testing.T) {
	for _, backend := range []string{"near", "far"} {
		r := newRoom(t, 1<<20)
		o, j := r.order(backend)
		store := map[string]*faulty{"near": r.near, "far": r.far}[backend]
		store.on = func() { r.update(func(tx *catalog.Tx) error { return tx.DeleteVolume(o.Volume) }) }
		err := r.handler().Run(ctx, &job.Task{Job: j})
		if err == nil || !strings.Contains(err.Error(), "deleted before it was filled") {
			t.Errorf("%s: %v", backend, err)
		}
		store.on = nil
		r.update(func(tx *catalog.Tx) error { return r.handler().GaveUp(tx, j, err) })
		if _, err := store.OpenVolume(ctx, o.Volume); !block.Is(err, block.NotFound) {
			t.Errorf("%s: bytes were left behind: %v", backend, err)
		}
	}
}

// TestReleasedMeanwhile: a point whose tenant deleted it while it was used goes
// when the recovery is done.
func TestReleasedMeanwhile(t *testing.T) {
	r := newRoom(t, 1<<20)
	o, j := r.order("near")
	r.update(func(tx *catalog.Tx) error {
		now, err := tx.ReleaseSnapshot(o.Replica, o.Point)
		if now {
			t.Error("a pinned point may be deleted")
		}
		return err
	})
	r.ok(r.handler().Run(ctx, &job.Task{Job: j}))
	r.check(o, r.near)
	_, err := r.near.OpenSnapshot(ctx, driver.SnapshotRef{Volume: o.Replica, Name: o.Point})
	if !block.Is(err, block.NotFound) {
		t.Errorf("the released point is still there: %v", err)
	}
}

// unreadable is a snapshot that can be opened, and read no more.
type unreadable struct {
	driver.Reader
	err error
}

func (u unreadable) ReadAt([]byte, int64) (int, error) { return 0, u.err }

// hangs is a driver whose snapshots are unreadable.
type hangs struct {
	driver.Driver
	err error
}

func (h hangs) Unwrap() driver.Driver { return h.Driver }

func (h hangs) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	r, err := h.Driver.OpenSnapshot(ctx, ref)
	return unreadable{r, h.err}, err
}

// TestElsewhere: another backend is looked for where the one fails on which the volume
// is made, and not where the replica can't be read.
func TestElsewhere(t *testing.T) {
	silent := block.Errorf(block.Unavailable, "The store does not answer.")
	for name, test := range map[string]struct {
		fail func(*room)
		want int
	}{
		"the replica's store is silent": {func(r *room) { r.near.budget, r.near.err = 0, silent }, 0},
		"it falls silent":               {func(r *room) { r.near.Driver = hangs{r.near.Driver, silent} }, 0},
		"the volume's store is silent":  {func(r *room) { r.far.budget, r.far.err = 0, silent }, 1},
		"it falls silent later":         {func(r *room) { r.far.budget, r.far.err = 2, silent }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, 4<<20)
			o, j := r.order("far")
			asked := 0
			h := recovery.New(recovery.Config{Catalog: r.catalog, Backends: r.set,
				Elsewhere: func(_ context.Context, _ block.JobID, _ recovery.Order, _ block.Volume, cause error) (bool, error) {
					if asked++; !block.Is(cause, block.Unavailable) {
						t.Errorf("the cause is %v", cause)
					}
					return false, nil
				}})
			test.fail(r)
			if err := h.Run(ctx, &job.Task{Job: j}); !block.Is(err, block.Unavailable) || asked != test.want {
				t.Errorf("%v; another backend was looked for %d times", err, asked)
			}
			if got := o.Job(nil, 1); got.Beside != "bak" || got.Subject != j.Subject {
				t.Errorf("the job is %+v", got)
			}
		})
	}
}

// TestDifferentCopy: a copy that is not the point is Corrupt, and no volume.
func TestDifferentCopy(t *testing.T) {
	r := newRoom(t, 4<<20)
	o, j := r.order("far")
	r.ok(r.far.Driver.CreateVolume(ctx, o.Volume, block.GiB))
	v, err := r.far.Driver.OpenVolume(ctx, o.Volume)
	r.ok(err)
	_, err = v.WriteAt([]byte("of somebody else"), 0)
	r.ok(errors.Join(err, v.Close()))
	if err := r.handler().Run(ctx, &job.Task{Job: j}); !block.Is(err, block.Corrupt) {
		t.Errorf("%v", err)
	}
}

func TestChoose(t *testing.T) {
	r := block.Replica{Source: "v", SourceZone: "a", Pending: &block.Step{Target: block.Point{ID: "half"}},
		Entry: block.Entry{Snapshots: []block.Snapshot{{ID: "s"}}}}
	if _, err := recovery.Newest(r); !block.Is(err, block.Unavailable) {
		t.Errorf("a point that was not committed counts: %v", err)
	}
	r.Newest = block.Point{ID: "p"}
	if p, err := recovery.Newest(r); err != nil || p.ID != "p" {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := recovery.OfSnapshot(r, []block.Point{{ID: "p"}}, "s"); !block.Is(err, block.Unavailable) {
		t.Errorf("%v", err)
	}
	p, err := recovery.OfSnapshot(r, []block.Point{{ID: "p"}, {ID: "s", Sequence: 3}}, "s")
	if err != nil || p.Sequence != 3 {
		t.Errorf("%v, %v", p, err)
	}
	if !recovery.Knows(r, "s") || recovery.Knows(r, "p") {
		t.Error("it knows the snapshots of its entry")
	}
}

func TestVolume(t *testing.T) {
	name, to := "data", "elsewhere"
	at := &block.Recovered{}
	sid := block.SnapshotID("s")
	from := block.Volume{ID: "old", Project: "old", Name: &name, Size: 5, Status: block.VolumeInUse, TypeID: "old",
		Backend: to, Readonly: true, SnapshotID: &sid, RecoveredTo: at, Epoch: 9, Metadata: map[string]string{"k": "v"},
		ImageMetadata: map[string]string{"os": "x"}, Attachments: []block.Attachment{{}}}
	r := block.Replica{Entry: block.Entry{Volume: from}}
	req := block.DRRequest{Project: "new", DestinationType: "type"}
	v := recovery.Volume("id", req, r, block.Point{Size: 2*block.GiB + 1})
	if v.ID != "id" || v.Project != "new" || v.TypeID != "type" || v.Size != 3 || v.Status != block.VolumeCreating ||
		v.Name != &name || v.Bootable || v.RecoveredTo != nil || v.SnapshotID != nil || v.Attachments != nil ||
		v.Backend != "" || v.Readonly || v.Metadata["k"] != "v" || v.ImageMetadata["os"] != "x" {
		t.Errorf("%+v", v)
	}
	v.Metadata["k"] = "changed"
	if from.Metadata["k"] != "v" {
		t.Error("the replica's metadata is shared")
	}
	req.Bootable = true
	if !recovery.Volume("id", req, r, block.Point{}).Bootable {
		t.Error("bootable was asked for")
	}
	r.Entry.Volume.Bootable, r.Entry.Volume.Metadata, req.Bootable = true, nil, false
	if v := recovery.Volume("id", req, r, block.Point{}); !v.Bootable || v.Metadata == nil {
		t.Error("the original was bootable")
	}
}

// BenchmarkRecovery recovers volumes of rising size on one store: the time is
// the same.
func BenchmarkRecovery(b *testing.B) {
	for _, gib := range []int64{1, 64, 4096} {
		b.Run(fmt.Sprintf("%dGiB", gib), func(b *testing.B) {
			r := newRoom(b, gib*block.GiB)
			for b.Loop() {
				_, j := r.order("near")
				if err := r.handler().Run(ctx, &job.Task{Job: j}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
