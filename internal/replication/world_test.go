package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// process is a zone's program: it dies at a given driver operation.
type process struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	ops    int
	dieAt  int // 0: never
	hookAt int
	hook   func()
	dead   bool
	open   []driver.Device
	serve  sync.WaitGroup
}

var errDead = block.Errorf(block.Unavailable, "the process is dead")

func newProcess(dieAt int) *process {
	p := &process{dieAt: dieAt}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

func (p *process) step() error {
	p.mu.Lock()
	p.ops++
	if p.dieAt > 0 && p.ops >= p.dieAt && !p.dead {
		p.dead = true
		p.cancel()
	}
	var hook func()
	if p.hookAt > 0 && p.ops >= p.hookAt {
		hook, p.hook, p.hookAt = p.hook, nil, 0
	}
	dead := p.dead
	p.mu.Unlock()
	if hook != nil {
		hook()
	}
	if dead {
		return errDead
	}
	return nil
}

// end waits until nothing of the process runs, and closes what it left open, as
// a kill does.
func (p *process) end() {
	p.cancel()
	p.serve.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.open {
		_ = d.Close()
	}
	p.open = nil
}

// disk is a store as one process sees it, without capabilities.
type disk struct {
	z *zone
}

func (d disk) do(fn func(*mem.Store) error) error {
	if err := d.z.proc.step(); err != nil {
		return err
	}
	if err := fn(d.z.store); err != nil {
		return err
	}
	return d.z.proc.step() // done, and the process may not live to know
}

func (d disk) CreateVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return d.do(func(s *mem.Store) error { return s.CreateVolume(ctx, id, size) })
}

func (d disk) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	return d.do(func(s *mem.Store) error { return s.CloneSnapshot(ctx, id, from, size) })
}

func (d disk) ExtendVolume(ctx context.Context, id block.VolumeID, size int64) error {
	return d.do(func(s *mem.Store) error { return s.ExtendVolume(ctx, id, size) })
}

func (d disk) DeleteVolume(ctx context.Context, id block.VolumeID) error {
	return d.do(func(s *mem.Store) error { return s.DeleteVolume(ctx, id) })
}

func (d disk) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return d.do(func(s *mem.Store) error {
		if err := s.CreateSnapshot(ctx, ref); err != nil {
			return err
		}
		d.z.remember(ref)
		return nil
	})
}

func (d disk) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return d.do(func(s *mem.Store) error { return s.DeleteSnapshot(ctx, ref) })
}

func (d disk) OpenVolume(ctx context.Context, id block.VolumeID) (dev driver.Device, err error) {
	err = d.do(func(s *mem.Store) error {
		inner, err := s.OpenVolume(ctx, id)
		if err != nil {
			return err
		}
		p := d.z.proc
		p.mu.Lock()
		p.open = append(p.open, inner)
		p.mu.Unlock()
		dev = &diskDevice{inner, p}
		return nil
	})
	return dev, err
}

func (d disk) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (r driver.Reader, err error) {
	err = d.do(func(s *mem.Store) (err error) { r, err = s.OpenSnapshot(ctx, ref); return err })
	return r, err
}

func (d disk) Volumes(ctx context.Context) iter.Seq2[driver.VolumeInfo, error] {
	return d.z.store.Volumes(ctx)
}

func (d disk) Snapshots(ctx context.Context, id block.VolumeID) (all []driver.SnapshotInfo, err error) {
	err = d.do(func(s *mem.Store) (err error) { all, err = s.Snapshots(ctx, id); return err })
	return all, err
}

func (d disk) Capacity(ctx context.Context) (driver.Capacity, error) { return d.z.store.Capacity(ctx) }
func (d disk) Close() error                                          { return nil }

// richDisk has all capabilities.
type richDisk struct{ disk }

func (d richDisk) Diff(ctx context.Context, from, to driver.SnapshotRef) iter.Seq2[driver.Extent, error] {
	return d.z.store.Diff(ctx, from, to)
}

func (d richDisk) Revert(ctx context.Context, to driver.SnapshotRef) error {
	return d.do(func(s *mem.Store) error { return s.Revert(ctx, to) })
}

func (d richDisk) Changes(ctx context.Context, id block.VolumeID) (n uint64, err error) {
	err = d.do(func(s *mem.Store) (err error) { n, err = s.Changes(ctx, id); return err })
	return n, err
}

type diskDevice struct {
	driver.Device
	p *process
}

func (d *diskDevice) WriteAt(b []byte, off int64) (int, error) {
	if err := d.p.step(); err != nil {
		return 0, err
	}
	return d.Device.WriteAt(b, off)
}

func (d *diskDevice) Zero(off, length int64) error {
	if err := d.p.step(); err != nil {
		return err
	}
	return d.Device.Zero(off, length)
}

func (d *diskDevice) Flush() error {
	if err := d.p.step(); err != nil {
		return err
	}
	return d.Device.Flush()
}

// zone is one zone of a world.
type zone struct {
	w        *world
	name     block.Zone
	catalog  *catalog.Catalog
	store    *mem.Store
	rich     bool
	far      bool          // the store is driver.Distant
	readers  *readers      // of the store, if it is far
	second   driver.Driver // the store of the backend "second"; nil for none
	proc     *process
	sender   *Sender
	receiver *Receiver
	doubted  []block.VolumeID // replicas out of which a wrong point came
	wrap     func(Target) Target
	mirror   *mirror // its store is mirrored; nil for not
	broken   broke
	fenced   map[block.VolumeID]block.Recovered
}

// world is a few zones in one process, with faults from a seed.
type world struct {
	t           testing.TB
	mu          sync.Mutex // guards rnd, now, contents and faults
	rnd         *rand.Rand
	now         time.Time
	zones       map[block.Zone]*zone
	protections []block.Protection
	contents    map[block.PointID][]byte // of the source's snapshots
	faults      bool
	dials       int
}

func newWorld(t testing.TB, seed uint64, catalogs map[block.Zone]*catalog.Catalog) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), zones: map[block.Zone]*zone{},
		now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), contents: map[block.PointID][]byte{}}
	for name, c := range catalogs {
		w.zones[name] = &zone{w: w, name: name, catalog: c, store: mem.New(mem.Options{}), rich: w.chance(0.6),
			fenced: map[block.VolumeID]block.Recovered{}}
	}
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) n(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.Float64() < p
}

func (w *world) faulty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.faults
}

// start starts a zone's process, killing the one before.
func (z *zone) start(dieAt int) {
	if z.proc != nil {
		z.proc.cancel()
		z.sender.stop()
		z.proc.end()
	}
	z.proc = newProcess(dieAt)
	var d driver.Driver = disk{z}
	if z.rich {
		d = richDisk{disk{z}}
	}
	if z.mirror != nil {
		d = mirroredDisk{richDisk{disk{z}}, z.mirror}
	}
	if z.far {
		shop := newFar(d)
		d, z.readers = shop, shop.readers
	}
	stores, backends := map[string]driver.Driver{"s": d}, []block.Backend{{Name: "main", Store: "s"}}
	if z.second != nil {
		stores["t"], backends = z.second, append(backends, block.Backend{Name: "second", Store: "t"})
	}
	set, err := driver.NewSet(stores, backends)
	if err != nil {
		z.w.t.Fatal(err)
	}
	all := func() []block.Protection { return z.w.protections }
	z.sender = NewSender(SenderConfig{Catalog: z.catalog, Backends: set, Zone: z.name, Protections: all, Dialer: z,
		Now: z.w.clock, Rand: func() float64 { return 0.5 }, Sessions: 2,
		Fenced: func(_ context.Context, f block.Fence) error {
			z.w.mu.Lock()
			z.fenced[f.Source] = f.Recovered
			z.w.mu.Unlock()
			return nil
		}})
	z.sender.wrap = z.wrap
	z.receiver = NewReceiver(ReceiverConfig{Catalog: z.catalog, Backends: set, Zone: z.name,
		Doubt: func(replica block.VolumeID) {
			z.w.mu.Lock()
			defer z.w.mu.Unlock()
			z.doubted = append(z.doubted, replica)
		}, Protections: all,
		Now: z.w.clock})
	z.receiver.markEvery, z.receiver.broken = 8*driver.BlockSize, z.broken
}

// remember keeps what a snapshot of the source holds.
func (z *zone) remember(ref driver.SnapshotRef) {
	z.w.mu.Lock()
	defer z.w.mu.Unlock()
	if _, known := z.w.contents[ref.Name]; !known {
		z.w.contents[ref.Name] = z.content(ref)
	}
}

func (z *zone) content(ref driver.SnapshotRef) []byte {
	r, err := z.store.OpenSnapshot(context.Background(), ref)
	if err != nil {
		z.w.t.Error(err)
		return nil
	}
	defer r.Close()
	p := make([]byte, r.Size())
	if _, err := r.ReadAt(p, 0); err != nil {
		z.w.t.Error(err)
	}
	return p
}

// Replicate implements PeerDialer: a pipe whose ends may misbehave.
func (z *zone) Replicate(_ context.Context, to block.Zone) (net.Conn, error) {
	peer := z.w.zones[to]
	peer.proc.mu.Lock()
	defer peer.proc.mu.Unlock()
	z.w.mu.Lock()
	z.w.dials++
	faults := z.w.faults
	z.w.mu.Unlock()
	if peer.proc.dead || (faults && z.w.chance(0.1)) {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	here, there := net.Conn(a), net.Conn(b)
	if faults && z.w.chance(0.5) {
		here = &badConn{Conn: a, w: z.w, at: int64(z.w.n(1 << (6 + z.w.n(13)))), how: z.w.n(5)}
	}
	if faults && z.w.chance(0.3) {
		there = &badConn{Conn: b, w: z.w, at: int64(z.w.n(1 << (6 + z.w.n(6)))), how: z.w.n(5)}
	}
	p, r := peer.proc, peer.receiver
	p.serve.Go(func() { _ = r.ServeConn(p.ctx, there, z.name) })
	return here, nil
}

// badConn misbehaves once, at one byte of what is written to it, unless the world's
// faults ended before.
type badConn struct {
	net.Conn
	w   *world
	at  int64
	how int
}

func (c *badConn) Write(p []byte) (int, error) {
	at := c.at
	c.at -= int64(len(p))
	if at < 0 || at >= int64(len(p)) || !c.w.faulty() {
		return c.Conn.Write(p)
	}
	head, tail := p[:at], p[at:]
	var parts [][]byte
	switch c.how {
	case 0: // cut
		_, _ = c.Conn.Write(head)
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	case 1: // a byte changes
		q := bytes.Clone(p)
		q[at] ^= 0x40
		parts = [][]byte{q}
	case 2: // bytes come twice
		parts = [][]byte{p, tail}
	case 3: // bytes are lost
		parts = [][]byte{head, tail[min(len(tail), 40):]}
	case 4: // a whole write is lost
	}
	for _, q := range parts {
		if _, err := c.Conn.Write(q); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// pass makes all visits that are due now, and waits for them.
func (s *Sender) pass(ctx context.Context) error {
	err := s.scan(ctx)
	for {
		s.mu.Lock()
		turn := s.turn
		s.mu.Unlock()
		s.dispatch(ctx)
		s.visits.Wait()
		s.mu.Lock()
		same := s.turn == turn
		s.mu.Unlock()
		if same || ctx.Err() != nil {
			return err
		}
	}
}

func (z *zone) update(fn func(*catalog.Tx) error) {
	z.w.t.Helper()
	if err := z.catalog.Update(context.Background(), fn); err != nil {
		z.w.t.Fatal(err)
	}
}

func (z *zone) view(fn func(*catalog.Tx) error) {
	z.w.t.Helper()
	if err := z.catalog.View(context.Background(), fn); err != nil {
		z.w.t.Fatal(err)
	}
}

// check compares every committed point with what the source had, by bytes and
// by hash, and returns what is wrong.
func (z *zone) check() error {
	var bad error
	z.view(func(tx *catalog.Tx) error {
		bad = nil
		all, err := tx.Replicas("")
		for _, rep := range all {
			points, err := tx.Points(rep.ID)
			if err != nil {
				return err
			}
			if rep.Newest.ID != "" && (len(points) == 0 || points[len(points)-1].ID != rep.Newest.ID) {
				bad = fmt.Errorf("replica %s: newest is not the last point", rep.ID)
			}
			for _, p := range points {
				if err := z.checkPoint(rep, p); err != nil {
					bad = err
				}
			}
		}
		return err
	})
	return bad
}

func (z *zone) checkPoint(rep block.Replica, p block.Point) error {
	r, err := z.store.OpenSnapshot(context.Background(), driver.SnapshotRef{Volume: rep.ID, Name: p.ID})
	if err != nil {
		return fmt.Errorf("point %s is committed and not in the store: %w", p.ID, err)
	}
	defer r.Close()
	z.w.mu.Lock()
	want := z.w.contents[p.ID]
	z.w.mu.Unlock()
	have := make([]byte, r.Size())
	if _, err := r.ReadAt(have, 0); err != nil {
		return err
	}
	if int64(len(want)) != p.Size || !bytes.Equal(have[:p.Size], want) || !driver.IsZero(have[p.Size:]) {
		return fmt.Errorf("point %s (parent %q) differs from the source", p.ID, p.Parent)
	}
	sum, err := SumOf(context.Background(), r)
	if err == nil && sum.Root(p.Size) != p.Root {
		return fmt.Errorf("point %s has the wrong root", p.ID)
	}
	return err
}

func openCatalogs(t testing.TB, names ...block.Zone) map[block.Zone]*catalog.Catalog {
	all := map[block.Zone]*catalog.Catalog{}
	for _, name := range names {
		c, err := catalog.Open(context.Background(), catalog.Options{Image: catalogtest.Empty()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		all[name] = c
	}
	return all
}
