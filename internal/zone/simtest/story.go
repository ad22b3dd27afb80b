package simtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// A story has from minActs to maxActs things happen before it comes to rest.
const minActs, maxActs = 4, 14

// tale is what only the telling of a story knows.
type tale struct {
	*cloud
	image   []byte // of an empty catalog
	jobs    sync.WaitGroup
	tenants sync.WaitGroup
	volumes []block.VolumeID
	targets []*node

	mu      sync.Mutex // guards all below
	names   map[block.VolumeID][]block.SnapshotID
	grouped map[block.VolumeID]bool // the volumes of the group
}

// play tells the story: volumes that are written to, protected from one zone to
// one or two others, and faults; then quiet, in which all must become well.
func (c *cloud) play(image []byte) {
	t := &tale{cloud: c, image: image, names: map[block.VolumeID][]block.SnapshotID{},
		grouped: map[block.VolumeID]bool{}}
	defer t.over()
	t.begin()
	for range minActs + t.n(maxActs-minActs+1) {
		if c.broken() {
			return
		}
		time.Sleep(time.Duration(c.n(1_200_000_000)))
		c.schedule.wait("story")
		t.raise()
		t.act()
	}
	t.rest()
}

func (t *tale) begin() {
	keep := block.Retention{Tiers: []block.RetentionTier{{Step: time.Microsecond, For: 1000 * time.Hour}}}
	if t.keepsAll = t.n(2) == 0; !t.keepsAll {
		keep.Tiers[0] = block.RetentionTier{Step: 3 * time.Second, For: 9 * time.Second}
	}
	t.protect("a", "b", keep)
	t.targets = []*node{t.nodes["b"]}
	if t.n(10) < 3 {
		t.protect("a", "c", keep)
		t.targets, t.several = append(t.targets, t.nodes["c"]), true
	}
	for _, n := range append(t.targets[:len(t.targets):len(t.targets)], t.nodes["a"]) {
		n.open(t.image)
	}
	t.raise()
	count := []int{1, 1, 1, 2, 2, 3}[t.n(6)]
	group := count > 1 && (t.n(4) > 0 || slices.Contains(GroupSabotages, t.story.Sabotage))
	for i := range count {
		id := block.VolumeID(block.NewID())
		t.volumes = append(t.volumes, id)
		if group && (i < 2 || t.n(2) == 0) {
			t.grouped[id] = true
		}
		size := int64(8+t.n(40)) * driver.BlockSize
		t.jobs.Go(func() { t.create(id, size, uint64(i)) })
	}
	t.cloud.mu.Lock()
	t.faulty = true
	t.cloud.mu.Unlock()
}

// rarely is what a zone's process of some stories waits for to die at it: what few
// lives come to by themselves, or one in each story.
func (t *tale) rarely(n *node) string {
	n.mu.Lock()
	first := n.current == nil
	n.mu.Unlock()
	source := n == t.nodes["a"]
	switch t.story.Seed % 8 {
	case 0:
		if !source {
			return "revert"
		}
	case 2:
		if source && first {
			return "group snapshot"
		}
	case 4:
		if !source && first {
			return "create volume"
		}
	}
	return ""
}

// raise starts the zones that are dead, some of which lost power.
func (t *tale) raise() {
	for _, name := range t.cloud.names {
		n := t.nodes[name]
		if name != "a" && !slices.Contains(t.targets, n) || n.now() != nil {
			continue
		}
		dieAt, dieOn := 0, ""
		if t.chance(25) {
			dieAt = 1 + t.n(1<<(3+t.n(8)))
		} else if t.chance(25) {
			dieOn = FailPoints[(t.story.Seed+uint64(t.n(2)))%uint64(len(FailPoints))]
		} else if what := t.rarely(n); what != "" {
			dieOn = []string{"before ", "after "}[t.story.Seed/8%2] + what
		}
		n.mu.Lock()
		died := n.current != nil
		n.mu.Unlock()
		if died {
			if err := n.end(t.chance(60)); err != nil {
				t.violated("zone %s: %w", name, err)
			}
			t.schedule.wait("story raises " + string(name))
			t.look(n)
		}
		if err := n.start(dieAt, dieOn); err != nil {
			t.violated("zone %s does not start: %w", name, err)
		}
	}
}

// create makes a volume and begins to write to it.
func (t *tale) create(id block.VolumeID, size int64, number uint64) {
	n := t.nodes["a"]
	t.retry(n, func(l *life, d driver.Driver) error {
		if err := d.CreateVolume(l.ctx, id, size); err != nil {
			return err
		}
		return l.catalog.Update(l.ctx, func(tx *catalog.Tx) error {
			if _, err := tx.Volume(id); err == nil {
				return nil
			}
			if err := tx.UpsertType(block.VolumeType{ID: typeName, Name: string(typeName), Public: true}); err != nil {
				return err
			}
			group := t.groupFor(id)
			if group != nil {
				if err := makeGroup(tx); err != nil {
					return err
				}
			}
			return tx.InsertVolume(block.Volume{ID: id, Project: "p", User: "u", Size: 1, Status: block.VolumeAvailable,
				TypeID: typeName, Backend: backend, AvailabilityZone: "az", Epoch: 1, GroupID: group})
		})
	})
	b := t.keepBook("a", id, make([]uint64, size/driver.BlockSize))
	t.tenants.Go(func() { t.tenant(b, rand.New(rand.NewPCG(t.story.Seed, 100+number))) })
}

// act lets one thing happen.
func (t *tale) act() {
	id := t.volumes[t.n(len(t.volumes))]
	target := t.targets[t.n(len(t.targets))]
	switch k := t.n(20); {
	case k < 5:
		s := block.SnapshotID(block.NewID())
		t.jobs.Go(func() { t.snapshot(id, s) })
	case k < 7:
		t.unsnapshot(id, t.n(8))
	case k < 8:
		blocks := int64(1 + t.n(8))
		t.jobs.Go(func() { t.extend(id, blocks) })
	case k < 9 && t.n(2) == 0 && len(t.members()) > 0:
		t.jobs.Go(func() { t.promoteGroup(target) })
	case k < 9 && t.n(2) == 0:
		t.jobs.Go(func() { t.promote(target, id) })
	case k < 10 && t.n(4) == 0:
		t.jobs.Go(func() { t.loseLink(id) })
	case k < 12:
		t.cut("a", target.name, true)
		t.after(t.n(5_000_000_000), func() { t.cut("a", target.name, false) })
	case k < 13:
		n := []*node{t.nodes["a"], target}[t.n(2)]
		n.setFull(true)
		t.after(t.n(2_000_000_000), func() { n.setFull(false) })
	case k < 14:
		t.jumpClock([]*node{t.nodes["a"], target}[t.n(2)])
	case k < 17:
		if l := []*node{t.nodes["a"], target}[t.n(2)].now(); l != nil {
			l.die("at once")
		}
	case k < 18 && len(t.members()) > 0:
		t.jobs.Go(func() { t.regroup(id) })
	}
}

func (t *tale) jumpClock(n *node) {
	by := time.Duration(t.n(120_000_000_000)) - time.Minute
	n.clock.jump(by)
	t.happened(Jump, fmt.Sprint(n.name, " ", by))
}

// after does something later, whatever happens meanwhile.
func (t *tale) after(ns int, fn func()) {
	t.jobs.Go(func() {
		time.Sleep(time.Duration(ns))
		t.schedule.wait("later " + fmt.Sprint(ns))
		fn()
	})
}

// tenant writes to a volume, now and then, until the story comes to rest.
func (t *tale) tenant(b *book, rnd *rand.Rand) {
	n := t.nodes[b.zone]
	for t.pause(time.Duration(rnd.Int64N(int64(500 * time.Millisecond)))) {
		l := n.now()
		if l == nil {
			continue
		}
		dev, err := drive{l}.OpenVolume(l.ctx, b.id)
		for err == nil && t.pause(time.Duration(rnd.Int64N(int64(2*time.Second)))) {
			for range 1 + rnd.IntN(4) {
				err = errors.Join(err, scribble(dev, b.size(), rnd))
			}
			if rnd.IntN(3) == 0 {
				err = errors.Join(err, dev.Flush())
			}
		}
		if dev != nil {
			_ = dev.Close() // of a dead process, at worst
		}
	}
}

// pause waits, and tells whether to go on.
func (t *tale) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.done:
		return false
	case <-timer.C:
		return true
	}
}

// scribble writes a block of few kinds, so that some change back.
func scribble(dev driver.Device, size int64, rnd *rand.Rand) error {
	off := rnd.Int64N(size/driver.BlockSize) * driver.BlockSize
	kind := rnd.IntN(4)
	if kind == 0 {
		return dev.Zero(off, driver.BlockSize)
	}
	p := make([]byte, driver.BlockSize)
	for i := 0; i < len(p); i += sector { // so that torn blocks show
		p[i], p[i+1], p[i+sector-1] = byte(kind), byte(rnd.IntN(4)), byte(off>>12)
	}
	if rnd.IntN(2) == 0 {
		for i := range 512 { // hard to compress
			p[8*i+2] = byte(i*kind) ^ byte(i>>3)
		}
	}
	_, err := dev.WriteAt(p, off)
	return err
}

func (t *tale) snapshot(id block.VolumeID, s block.SnapshotID) {
	t.retry(t.nodes["a"], func(l *life, d driver.Driver) error {
		err := l.catalog.Update(l.ctx, func(tx *catalog.Tx) error {
			if _, err := tx.Snapshot(s); err == nil {
				return nil
			}
			return tx.InsertSnapshot(block.Snapshot{ID: s, VolumeID: id, Project: "p", Status: block.SnapshotCreating,
				CreatedAt: tx.Now})
		})
		if err != nil {
			return err
		}
		if err := d.CreateSnapshot(l.ctx, driver.SnapshotRef{Volume: id, Name: block.PointID(s)}); err != nil {
			return err
		}
		return l.catalog.Update(l.ctx, func(tx *catalog.Tx) error {
			row, err := tx.Snapshot(s)
			if err != nil || row.Status != block.SnapshotCreating {
				return err
			}
			_, err = tx.MoveSnapshot(s, block.Done)
			return err
		})
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names[id] = append(t.names[id], s)
}

func (t *tale) unsnapshot(id block.VolumeID, which int) {
	t.mu.Lock()
	all := t.names[id]
	if len(all) == 0 {
		t.mu.Unlock()
		return
	}
	which %= len(all)
	s := all[which]
	t.names[id] = slices.Delete(slices.Clone(all), which, which+1)
	t.mu.Unlock()
	t.jobs.Go(func() {
		t.retry(t.nodes["a"], func(l *life, d driver.Driver) error {
			var now bool
			err := l.catalog.Update(l.ctx, func(tx *catalog.Tx) (err error) {
				if now, err = tx.ReleaseSnapshot(id, block.PointID(s)); err != nil {
					return err
				}
				if err = tx.DeleteSnapshot(s); block.Is(err, block.NotFound) {
					return nil // it was done, and nobody was told
				}
				return err
			})
			if err != nil || !now {
				return err
			}
			return d.DeleteSnapshot(l.ctx, driver.SnapshotRef{Volume: id, Name: block.PointID(s)})
		})
	})
}

func (t *tale) extend(id block.VolumeID, blocks int64) {
	b := t.book("a", id)
	if b == nil {
		return
	}
	size := b.size() + blocks*driver.BlockSize
	t.retry(t.nodes["a"], func(l *life, d driver.Driver) error { return d.ExtendVolume(l.ctx, id, size) })
}

// promote gives the right to write to a target, as a recovery does.
func (t *tale) promote(n *node, id block.VolumeID) {
	var newest uint64
	some := false
	t.retry(n, func(l *life, _ driver.Driver) error {
		return l.catalog.Update(l.ctx, func(tx *catalog.Tx) error {
			some = false
			all, err := tx.Replicas("a")
			for _, rep := range all {
				if rep.Source != id || rep.Newest.ID == "" {
					continue
				}
				if _, err := tx.RaiseEpoch(rep.ID, block.Recovered{Zone: n.name, Volume: "new"}, int(n.name[0]-'a')); err != nil {
					return err
				}
				some, newest = true, rep.Newest.Sequence
			}
			return err
		})
	})
	if !some {
		return
	}
	t.tally.add("promotions")
	t.cloud.mu.Lock()
	t.promoted[n.name][id] = newest
	t.cloud.mu.Unlock()
	t.look(n)
}

// loseLink makes the source forget what it knew of its links, as an old backup
// of its catalog does.
func (t *tale) loseLink(id block.VolumeID) {
	t.cloud.mu.Lock()
	t.forgotten = true
	t.cloud.mu.Unlock()
	t.retry(t.nodes["a"], func(l *life, _ driver.Driver) error {
		err := l.catalog.Update(l.ctx, func(tx *catalog.Tx) error { return forget(tx, id) })
		if err == nil {
			l.die("without its links") // the sender must not go on with what it knows
		}
		return err
	})
}

func forget(tx *catalog.Tx, id block.VolumeID) error {
	links, err := tx.LinksOf(id)
	for _, l := range links {
		holder := fmt.Sprintf("replication/%d", l.Protection)
		held, err := tx.PinnedBy(id, holder)
		if err != nil {
			return err
		}
		if err := tx.DeleteLink(id, l.Protection); err != nil {
			return err
		}
		for _, name := range held {
			now, err := tx.Unpin(id, name, holder)
			if err == nil && now {
				err = tx.InsertCut(id, name)
			}
			if err != nil {
				return err
			}
		}
	}
	return err
}

// rest ends the faults, waits until all is well, and says what is not.
func (t *tale) rest() {
	t.cloud.mu.Lock()
	t.faulty = false
	t.cloud.mu.Unlock()
	close(t.done)
	t.tenants.Wait()
	for _, n := range t.targets {
		t.cut("a", n.name, false)
	}
	waiting := make(chan struct{})
	go func() { t.jobs.Wait(); close(waiting) }()
	for over := false; !over && !t.broken(); {
		t.schedule.wait("story rests")
		t.calm()
		select {
		case <-waiting:
			over = true
		case <-time.After(time.Duration(1_000_000_000 + t.n(1_000_000))):
		}
	}
	t.tenants.Wait() // one that began to write meanwhile
	quiet := time.Now()
	err := errors.New("nobody looked")
	for range 300 {
		if t.broken() {
			return
		}
		time.Sleep(time.Duration(2_000_000_000 + t.n(1_000_000)))
		t.schedule.wait("story looks")
		t.calm()
		if err = t.settled(quiet); err == nil {
			break
		}
	}
	if err != nil {
		t.violated("not well after ten quiet minutes: %w", err)
	}
}

// calm starts what is dead and ends what still goes wrong.
func (t *tale) calm() {
	for _, name := range t.cloud.names {
		n := t.nodes[name]
		n.setFull(false)
		if l := n.now(); l != nil {
			l.lifeMu.Lock()
			l.dieAt, l.dieOn = 0, ""
			l.lifeMu.Unlock()
		}
	}
	t.raise()
}

// over ends all that runs.
func (t *tale) over() {
	if !t.broken() {
		t.tally.add("stories")
	} else {
		select {
		case <-t.done:
		default:
			close(t.done)
		}
	}
	for _, name := range t.cloud.names {
		if n := t.nodes[name]; n.current != nil {
			if err := errors.Join(n.end(false), n.catalog.Close()); err != nil {
				t.violated("zone %s: %w", name, err)
			}
		}
	}
	t.jobs.Wait()
	t.tenants.Wait()
}
