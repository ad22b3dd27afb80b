package control_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"kvol/internal/backup"
	"kvol/internal/backup/storetest"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/mem"
	"kvol/internal/job"
	"kvol/internal/vfs"
)

// Two projects, an operator, and somebody who only reads.
var (
	alice    = block.Caller{Project: "aaaa", User: "alice", Roles: []string{"member"}}
	mallory  = block.Caller{Project: "bbbb", User: "mallory", Roles: []string{"member"}}
	operator = block.Caller{Project: "cccc", User: "root", Roles: []string{"admin"}}
	reader   = block.Caller{Project: "aaaa", User: "rita", Roles: []string{"reader"}}
)

// zone is a Service with all that it works on, small: backends "fast" and
// "twin" on one store, "slow" on another.
type zone struct {
	t        *testing.T
	ctx      context.Context
	catalog  *catalog.Catalog
	fast     *drivertest.Faults
	slow     *drivertest.Faults
	racks    map[string]*drivertest.Faults // see racks
	closer   *closer                       // in front of the fast store
	images   *memoryImages
	vault    *storetest.Faults // where backups are kept
	temp     string
	qemu     string                              // of control.Config
	space    func(dir string) (vfs.Space, error) // of control.Config
	otherKey byte                                // not 0 for a zone with another key
	qos      map[block.VolumeID]map[string]int64 // limits on single volumes
	now      func() time.Time                    // of control.Config
	onRemove func(block.VolumeID)                // of control.Config
	policies []block.Protection                  // the protections of control.Config
	*control.Service

	mu      sync.Mutex
	changed []block.VolumeID
	iscsi   string // where iSCSI is served; "" for nowhere
	nbd     string // where NBD is said to be served; an address of documentation if ""

	// event is of control.Config.
	event func(ctx context.Context, name string, servers []string, volume block.VolumeID) error
}

func newZone(t *testing.T) *zone {
	t.Helper()
	c1 := &closer{Driver: mem.New(mem.Options{})}
	z := &zone{t: t, ctx: t.Context(), closer: c1, fast: drivertest.NewFaults(c1),
		slow: drivertest.NewFaults(mem.New(mem.Options{})), images: newImages(), temp: filepath.Join(t.TempDir(), "tmp")}
	z.vault = storetest.NewFaults(backup.NewMemory())
	c, err := catalog.Open(z.ctx, catalog.Options{Image: catalogtest.Empty()})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	z.catalog = c
	z.update(func(tx *catalog.Tx) error {
		for name, specs := range map[string]map[string]string{
			"fast": {"volume_backend_name": "fast"}, "twin": {"volume_backend_name": "twin"},
			"slow": {"volume_backend_name": "slow"}, "secret": {"volume_backend_name": "fast"},
			"sized":  {"volume_backend_name": "fast", "provisioning:min_vol_size": "2", "provisioning:max_vol_size": "3"},
			"shared": {"volume_backend_name": "fast", "multiattach": "<is> True"},
			"lost":   {"volume_backend_name": "nowhere"},
		} {
			vt := block.VolumeType{ID: block.TypeID(block.NewID()), Name: name, Public: name != "secret", ExtraSpecs: specs}
			if err := tx.UpsertType(vt); err != nil {
				return err
			}
		}
		return nil
	})
	z.restart()
	return z
}

// closer is a store of which the closing of volumes can be held up.
type closer struct {
	driver.Driver
	mu     sync.Mutex // guards below
	before func()
	newest driver.Device
}

// last is the device that was opened last, past all that stands before it.
func (c *closer) last() driver.Device { c.mu.Lock(); defer c.mu.Unlock(); return c.newest }

func (c *closer) hold(before func()) { c.mu.Lock(); defer c.mu.Unlock(); c.before = before }

func (c *closer) Unwrap() driver.Driver { return c.Driver }

func (c *closer) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	dev, err := c.Driver.OpenVolume(ctx, id)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest = dev
	if extents, ok := dev.(driver.ExtentReader); ok {
		return closingExtents{closingDevice{dev, c}, extents}, err
	}
	return closingDevice{dev, c}, err
}

type closingExtents struct {
	closingDevice
	driver.ExtentReader
}

type closingDevice struct {
	driver.Device
	c *closer
}

func (d closingDevice) Close() error {
	d.c.mu.Lock()
	before := d.c.before
	d.c.mu.Unlock()
	if before != nil {
		before()
	}
	return d.Device.Close()
}

// restart makes a new Service on the same catalog and stores, as a process does
// after it was killed.
func (z *zone) restart() {
	z.t.Helper()
	set, err := driver.NewSet(map[string]driver.Driver{"one": z.fast, "two": z.slow}, []block.Backend{
		{Name: "fast", Store: "one"}, {Name: "twin", Store: "one"}, {Name: "slow", Store: "two"},
	})
	must(z.t, err)
	repository, err := backup.New(z.vault, backup.Options{Uploads: 2})
	must(z.t, err)
	z.Service, err = control.New(control.Config{
		Catalog: z.catalog, Backends: set, Zone: "mitaka1", Region: "kr", DefaultType: "fast",
		AvailabilityZones: []string{"kr-a", "kr-b"}, Images: z.images, Key: [32]byte{1, 2, 3, z.otherKey},
		ExportAddress: func() string { return cmp.Or(z.nbd, "[::1]:10809") }, UnixSocket: func() string { return "/run/nbd" },
		ISCSIAddress: func() string { return z.iscsi },
		Backups:      repository,
		TempDir:      z.temp, QemuImg: z.qemu, OnChange: z.onChange, OnRemove: z.onRemove, VolumeQoS: z.qos, Now: z.now,
		VolumeEvent: z.event, Protections: func() []block.Protection { return z.policies }, Space: z.space,
	})
	must(z.t, err)
}

func (z *zone) onChange(id block.VolumeID) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.changed = append(z.changed, id)
}

func (z *zone) changes() []block.VolumeID {
	z.mu.Lock()
	defer z.mu.Unlock()
	out := z.changed
	z.changed = nil
	return out
}

func (z *zone) update(fn func(*catalog.Tx) error) {
	z.t.Helper()
	must(z.t, z.catalog.Update(z.ctx, fn))
}

// work runs jobs until none is left or ctx ends.
func (z *zone) work(ctx context.Context) {
	z.t.Helper()
	z.workUntil(ctx, z.Handlers(), func() (over bool) {
		must(z.t, z.catalog.View(context.WithoutCancel(ctx), func(tx *catalog.Tx) error {
			_, left, err := tx.NextJobAt()
			over = !left
			return err
		}))
		return over
	})
}

// workUntil runs the jobs that have a handler until over says true or ctx ends.
func (z *zone) workUntil(ctx context.Context, handlers map[string]job.Handler, over func() bool) {
	z.t.Helper()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{}, 1)
	r := job.New(job.Config{Catalog: z.catalog, Handlers: handlers, Owner: "test", Log: slog.New(slog.DiscardHandler),
		Observe: func(job.Attempt) {
			select {
			case ended <- struct{}{}:
			default:
			}
		}})
	stopped := make(chan error, 1)
	go func() { stopped <- r.Run(ctx) }()
	for !over() {
		select {
		case <-ended:
			continue
		case <-ctx.Done():
		}
		break
	}
	stop()
	if err := <-stopped; !errors.Is(err, context.Canceled) { // stopped before it began
		must(z.t, err)
	}
}

func (z *zone) volume(id block.VolumeID) block.Volume {
	z.t.Helper()
	v, err := z.Volume(z.ctx, operator, id)
	must(z.t, err)
	return v
}

// make creates a volume and waits for it.
func (z *zone) make(req control.NewVolume) block.Volume {
	z.t.Helper()
	v, err := z.CreateVolume(z.ctx, alice, req)
	must(z.t, err)
	z.work(z.ctx)
	v = z.volume(v.ID)
	if v.Status != block.VolumeAvailable {
		z.t.Fatalf("a new volume is %s", v.Status)
	}
	return v
}

// snap takes a snapshot and waits for it.
func (z *zone) snap(id block.VolumeID) block.Snapshot {
	z.t.Helper()
	sn, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: id, Force: true})
	must(z.t, err)
	z.work(z.ctx)
	sn, err = z.Snapshot(z.ctx, alice, sn.ID)
	must(z.t, err)
	if sn.Status != block.SnapshotAvailable || sn.Progress != "100%" {
		z.t.Fatalf("a new snapshot is %s at %s", sn.Status, sn.Progress)
	}
	return sn
}

// reset sets a volume's status as an administrator does.
func (z *zone) reset(id block.VolumeID, to block.VolumeStatus) {
	z.t.Helper()
	z.update(func(tx *catalog.Tx) error { return tx.ResetVolumeStatus(id, to) })
}

func (z *zone) store(backend string) driver.Driver {
	if d := z.racks[backend]; d != nil {
		return d
	}
	if backend == "slow" {
		return z.slow
	}
	return z.fast
}

// write puts bytes into a volume that nobody has open.
func (z *zone) write(v block.Volume, p []byte, off int64) {
	z.t.Helper()
	dev, err := z.store(v.Backend).OpenVolume(z.ctx, v.ID)
	must(z.t, err)
	_, err = dev.WriteAt(p, off)
	must(z.t, err)
	must(z.t, dev.Close())
}

// content reads the first n bytes of a volume.
func (z *zone) content(v block.Volume, n int) string {
	z.t.Helper()
	dev, err := z.store(v.Backend).OpenVolume(z.ctx, v.ID)
	must(z.t, err)
	p := make([]byte, n)
	_, err = dev.ReadAt(p, 0)
	must(z.t, err)
	if dev.Size() != v.Size*block.GiB {
		z.t.Errorf("the device of a volume of %d GiB has %d bytes", v.Size, dev.Size())
	}
	must(z.t, dev.Close())
	return string(p)
}

// stored lists what both stores hold: volumes and, after a slash, snapshots.
func (z *zone) stored() []string {
	z.t.Helper()
	var all []string
	for _, d := range []driver.Driver{z.fast, z.slow} {
		for info, err := range d.Volumes(z.ctx) {
			must(z.t, err)
			all = append(all, string(info.ID))
			snapshots, err := d.Snapshots(z.ctx, info.ID)
			must(z.t, err)
			for _, sn := range snapshots {
				all = append(all, string(info.ID)+"/"+string(sn.Name))
			}
		}
	}
	slices.Sort(all)
	return all
}

// settled fails the test if something is in a status that ought to pass.
func (z *zone) settled() {
	z.t.Helper()
	volumes, err := z.Volumes(z.ctx, operator, block.ListQuery{Limit: -1})
	must(z.t, err)
	for _, v := range volumes {
		if v.Status.Passing() {
			z.t.Errorf("volume %s is stuck in %s", v.ID, v.Status)
		}
	}
	snapshots, err := z.Snapshots(z.ctx, operator, block.ListQuery{Limit: -1})
	must(z.t, err)
	for _, sn := range snapshots {
		if sn.Status.Passing() {
			z.t.Errorf("snapshot %s is stuck in %s", sn.ID, sn.Status)
		}
	}
	backups, err := z.ListBackups(z.ctx, operator, block.ListQuery{Limit: -1})
	must(z.t, err)
	for _, b := range backups {
		if b.Status.Passing() {
			z.t.Errorf("backup %s is stuck in %s", b.ID, b.Status)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

// wantError compares an error's kind and sentence; "" for none.
func wantError(t *testing.T, what string, err error, kind block.Kind, sentence string) {
	t.Helper()
	if sentence == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	message, _ := block.UserMessage(err)
	if !block.Is(err, kind) || message != sentence {
		t.Errorf("%s:\n got %v: %v\nwant %v: %s", what, block.KindOf(err), err, kind, sentence)
	}
}

// memoryImages is an image service in memory.
type memoryImages struct {
	mu     sync.Mutex
	images map[string]control.Image
	owner  map[string]block.ProjectID
	bytes  map[string][]byte
	fail   func(op string) error // asked before each call, and after it as "op!"
	lose   int64                 // bytes at the end of images that Open leaves out
}

func newImages() *memoryImages {
	return &memoryImages{images: map[string]control.Image{}, owner: map[string]block.ProjectID{},
		bytes: map[string][]byte{}}
}

func (m *memoryImages) ask(op string) error {
	m.mu.Lock()
	fail := m.fail
	m.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(op)
}

// add makes an image with bytes.
func (m *memoryImages) add(img control.Image, p []byte) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	img.ID, img.Status = block.NewID(), "active"
	if img.Size == 0 {
		img.Size = int64(len(p))
	}
	m.images[img.ID], m.bytes[img.ID], m.owner[img.ID] = img, p, alice.Project
	return img.ID
}

func (m *memoryImages) Find(_ context.Context, c block.Caller, idOrName string) (control.Image, error) {
	if err := m.ask("find"); err != nil {
		return control.Image{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, img := range m.images {
		if (id == idOrName || img.Name == idOrName) && (c.Admin() || m.owner[id] == c.Project) {
			return img, nil
		}
	}
	return control.Image{}, block.Errorf(block.NotFound, "No image %s.", idOrName)
}

func (m *memoryImages) Open(ctx context.Context, c block.Caller, id string) (io.ReadCloser, error) {
	if err := m.ask("open"); err != nil {
		return nil, err
	}
	if _, err := m.Find(ctx, c, id); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	zeros := io.LimitReader(zeroReader{}, m.images[id].Size-int64(len(m.bytes[id]))) // those that Upload left out
	all := io.MultiReader(&slowReader{m.bytes[id]}, zeros)
	return io.NopCloser(io.LimitReader(all, m.images[id].Size-m.lose)), nil
}

func (m *memoryImages) Create(_ context.Context, c block.Caller, img control.Image) (control.Image, error) {
	if err := m.ask("create"); err != nil {
		return control.Image{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	img.Status = "queued"
	m.images[img.ID], m.owner[img.ID] = img, c.Project
	return img, nil
}

// Upload keeps the bytes but for the zeros at the end.
func (m *memoryImages) Upload(ctx context.Context, c block.Caller, id string, r io.Reader) error {
	if err := m.ask("upload"); err != nil {
		return err
	}
	if img, err := m.Find(ctx, c, id); err != nil || img.Status != "queued" {
		return errors.Join(err, block.Errorf(block.Conflict, "The image has its bytes."))
	}
	var kept []byte
	var size int64
	buf := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(r, buf)
		if !driver.IsZero(buf[:n]) {
			kept = append(append(kept, make([]byte, size-int64(len(kept)))...), buf[:n]...)
		}
		size += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
	}
	m.mu.Lock()
	img := m.images[id]
	img.Status, img.Size = "active", size
	m.images[id], m.bytes[id] = img, kept
	m.mu.Unlock()
	return m.ask("upload!")
}

func (m *memoryImages) Delete(_ context.Context, _ block.Caller, id string) error {
	if err := m.ask("delete"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.images[id]; !ok {
		return block.Errorf(block.NotFound, "No image %s.", id)
	}
	delete(m.images, id)
	return nil
}

func (m *memoryImages) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.images)
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// slowReader gives few bytes at a time, as networks do.
type slowReader struct{ left []byte }

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.left[:min(len(r.left), 100_000)])
	r.left = r.left[n:]
	return n, nil
}
