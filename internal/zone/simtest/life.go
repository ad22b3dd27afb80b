package simtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/replication"
)

// node is a zone: what outlives its processes, and the one that runs.
type node struct {
	cloud   *cloud
	name    block.Zone
	store   store
	platter *platter
	clock   *clock
	rich    bool // its driver has all capabilities
	exact   bool // and tells of no block that holds what it did

	catalog *catalog.Catalog

	mu      sync.Mutex // guards all below
	isFull  bool
	current *life // the last one that was started
	lives   int
}

// store is what a zone's bytes are in.
type store interface {
	driver.Driver
	driver.Differ
	driver.Reverter
	driver.GroupSnapshotter
	driver.ChangeCounter
}

// FailPoints are the places at which stories have processes die: before and
// after all that outlives a process, and before what others can see.
var FailPoints = []string{"before create volume", "after create volume", "before extend", "after extend",
	"before snapshot", "after snapshot", "before group snapshot", "after group snapshot",
	"before delete snapshot", "after delete snapshot", "before open volume",
	"after open volume", "before open snapshot", "after open snapshot", "before list snapshots", "after list snapshots",
	"before count changes", "after count changes", "before revert", "after revert", "before write",
	"after write", "before zero", "after zero", "before flush", "after flush", "before commit", "after commit",
	"before dial", "before send"}

// CallPoints are those that only whole zones have.
var CallPoints = []string{"before clone", "after clone", "before call", "after call"}

// life is one process of a zone. It dies at the fail-point that was drawn for
// it: after that nothing that is left of it can do anything.
type life struct {
	*node
	*whole                   // nil unless zones are whole
	ctx      context.Context //nolint:containedctx // a life is what ends
	cancel   context.CancelFunc
	sender   *replication.Sender
	receiver *replication.Receiver
	tasks    sync.WaitGroup
	runs     []func(context.Context) error // what works in the background

	lifeMu  sync.Mutex // guards all below
	points  int
	dieAt   int    // 0: never
	dieOn   string // at the first fail-point of that name; "": none
	dead    bool
	ended   chan struct{} // closed when it is dead
	ends    map[*end]struct{}
	devices map[driver.Device]struct{}
}

var errDead = block.Errorf(block.Unavailable, "the process is dead")

// point is a fail-point: the process may die here. It returns an error in a dead
// process.
func (l *life) point(label string) error {
	l.lifeMu.Lock()
	l.points++
	dies := (l.dieAt > 0 && l.points >= l.dieAt || l.dieOn == label) && !l.dead
	dead := l.dead
	l.lifeMu.Unlock()
	if dies {
		l.cloud.tally.add("killed " + label)
		l.die(label)
	}
	if dies || dead {
		return errDead
	}
	return nil
}

// die kills the process. It may be called again.
func (l *life) die(where string) {
	l.lifeMu.Lock()
	if l.dead {
		l.lifeMu.Unlock()
		return
	}
	l.dead = true
	ends := l.ends
	l.ends = nil
	l.lifeMu.Unlock()
	l.cloud.happened(Kill, string(l.name)+" "+where)
	l.cancel()
	for e := range ends {
		_ = e.Close()
	}
	close(l.ended)
}

func (l *life) alive() bool {
	l.lifeMu.Lock()
	defer l.lifeMu.Unlock()
	return !l.dead
}

func (l *life) opened(d driver.Device) {
	l.lifeMu.Lock()
	defer l.lifeMu.Unlock()
	l.devices[d] = struct{}{}
}

func (l *life) closed(d driver.Device) error {
	l.lifeMu.Lock()
	dead := l.dead
	if !dead {
		delete(l.devices, d)
	}
	l.lifeMu.Unlock()
	if dead {
		return errDead
	}
	return d.Close()
}

func (l *life) holds(e *end) {
	l.lifeMu.Lock()
	dead := l.dead
	if !dead {
		l.ends[e] = struct{}{}
	}
	l.lifeMu.Unlock()
	if dead {
		_ = e.Close()
	}
}

func (l *life) hungUp(e *end) {
	l.lifeMu.Lock()
	defer l.lifeMu.Unlock()
	delete(l.ends, e)
}

func (n *node) full() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isFull {
		n.cloud.happened(Full, string(n.name))
	}
	return n.isFull
}

func (n *node) setFull(full bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isFull = full
}

func (n *node) sabotaged(s Sabotage) bool { return n.cloud.story.Sabotage == s }

// now returns the life that runs; nil for none.
func (n *node) now() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current == nil || !n.current.alive() {
		return nil
	}
	return n.current
}

// open opens the zone's catalog, which all its processes use.
func (n *node) open(image []byte) {
	c, err := catalog.Open(context.Background(), catalog.Options{Image: image, Now: n.clock.now, Commit: n.commit})
	if err != nil {
		n.cloud.t.Fatal(err)
	}
	n.catalog = c
	if n.cloud.story.Whole {
		if err := n.configure(); err != nil {
			n.cloud.t.Fatal(err)
		}
	}
}

// start starts a process; see life for when it dies.
func (n *node) start(dieAt int, dieOn string) error {
	l := &life{node: n, dieAt: dieAt, dieOn: dieOn, ended: make(chan struct{}), ends: map[*end]struct{}{},
		devices: map[driver.Device]struct{}{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	var d driver.Driver = drive{l}
	if n.rich {
		d = richDrive{drive{l}}
	}
	set, err := driver.NewSet(map[string]driver.Driver{"s": d}, []block.Backend{{Name: backend, Store: "s"}})
	if err != nil {
		return err
	}
	if n.cloud.story.Whole {
		err = l.assembleWhole(set)
	} else {
		l.assemble(set)
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.current, n.lives = l, n.lives+1
	n.mu.Unlock()
	for i, run := range l.runs {
		l.tasks.Go(func() {
			time.Sleep(time.Duration(n.lives*1000+len(n.name)*100+i*7+int(n.name[0])) * time.Nanosecond)
			if err := run(l.ctx); err != nil && l.alive() {
				n.cloud.violated("zone %s stopped: %w", n.name, err)
			}
		})
	}
	return nil
}

// assemble makes what moves points.
func (l *life) assemble(set *driver.Set) {
	c := l.cloud
	now := l.clock.now
	if l.sabotaged(LateClock) {
		now = func() time.Time { return l.clock.now().Add(3 * time.Second) }
	}
	l.sender = replication.NewSender(replication.SenderConfig{Catalog: l.catalog, Backends: set, Zone: l.name,
		Protections: c.policies, Dialer: l, Now: now, Rand: func() float64 { return 0.5 }, Sessions: 2,
		Fenced: l.fenced, Heartbeat: 2 * time.Second, ScanEvery: time.Second})
	keep := c.policies
	if l.sabotaged(ShortKeep) {
		keep = func() []block.Protection {
			all := slices.Clone(c.policies())
			for i := range all {
				all[i].Retention = block.Retention{}
			}
			return all
		}
	}
	l.receiver = replication.NewReceiver(replication.ReceiverConfig{Catalog: l.catalog, Backends: set, Zone: l.name,
		Protections: keep, Now: l.clock.now, KeepEvery: 10 * time.Second, Observe: l.committed})
	l.runs = []func(context.Context) error{l.sender.Run, l.receiver.Run}
}

// commit stands around each commit of the catalog. Of a dead process nothing is
// committed.
func (n *node) commit(commit func() error) error {
	n.mu.Lock()
	l := n.current
	n.mu.Unlock()
	if l == nil {
		return commit()
	}
	if err := l.point("before commit"); err != nil {
		return err
	}
	if err := commit(); err != nil {
		return err
	}
	return l.point("after commit")
}

// Replicate implements replication.PeerDialer.
func (l *life) Replicate(ctx context.Context, to block.Zone) (net.Conn, error) {
	c := l.cloud
	c.schedule.waitAmong(fmt.Sprintf("%s dials %s", l.name, to))
	if err := l.point("before dial"); err != nil {
		return nil, err
	}
	peer := c.nodes[to].now()
	if peer == nil || c.isCut(l.name, to) || ctx.Err() != nil {
		return nil, unreachable(to)
	}
	if c.chance(8) {
		c.happened(Refuse, string(l.name+"-"+to))
		return nil, unreachable(to)
	}
	here, there := c.connect(l, peer)
	peer.tasks.Go(func() { _ = peer.receiver.ServeConn(peer.ctx, there, l.name) })
	return here, nil
}

// fenced marks a volume as one that lives elsewhere.
func (l *life) fenced(_ context.Context, f block.Fence) error {
	if l.sabotaged(Deaf) {
		return nil
	}
	l.cloud.mu.Lock()
	defer l.cloud.mu.Unlock()
	l.cloud.fenced[f.Source] = f.Recovered
	return nil
}

// end kills the process that runs, waits until nothing of it is left, and keeps
// what it leaves. With power, the disk loses what was not flushed.
func (n *node) end(power bool) error {
	n.mu.Lock()
	l := n.current
	n.mu.Unlock()
	l.die("by its operator")
	l.tasks.Wait()
	var errs []error
	for d := range l.devices {
		errs = append(errs, d.Close())
	}
	if power {
		errs = append(errs, n.powerCut())
	}
	return errors.Join(errs...)
}

// powerCut takes writes from the disk that were not flushed.
func (n *node) powerCut() error {
	c := n.cloud
	c.happened(PowerCut, string(n.name))
	c.mu.Lock()
	all, err := n.platter.cut(context.Background(), n.store, c.rnd)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.torn {
			c.happened(Torn, string(n.name))
		}
		if l.lost {
			c.happened(Lost, string(n.name))
		}
		b := c.book(n.name, l.volume)
		if b == nil {
			continue
		}
		have, err := n.content(l.volume)
		if err != nil {
			return err
		}
		b.replace(have)
	}
	return nil
}

// content reads a volume that nobody has open.
func (n *node) content(id block.VolumeID) ([]uint64, error) {
	dev, err := n.store.OpenVolume(context.Background(), id)
	if err != nil {
		return nil, err
	}
	have, err := n.cloud.fingerprints(dev)
	return have, errors.Join(err, dev.Close())
}

// point's content is read past the drive: nobody takes a turn for it.
func (n *node) pointContent(ref driver.SnapshotRef) ([]uint64, error) {
	r, err := n.store.OpenSnapshot(context.Background(), ref)
	if err != nil {
		return nil, err
	}
	have, err := n.cloud.fingerprints(r)
	return have, errors.Join(err, r.Close())
}
