package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// play is one seed's story: a world, its volumes, and what must stay true.
type play struct {
	*world
	a        *zone
	ids      []block.VolumeID
	targets  []*zone
	promoted map[block.Zone]map[block.VolumeID]uint64 // sequence of the newest point at the promotion
	lost     bool                                     // a link was lost, so that a full copy may come again
	names    map[block.VolumeID][]block.SnapshotID
	bad      error // the first violation
}

func (p *play) violated(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad == nil {
		p.bad = fmt.Errorf(format, args...)
	}
}

// simulate plays a seed with some rules switched off and returns the first
// violation.
func simulate(t *testing.T, seed uint64, off broke, tamper bool) (bad error) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, openCatalogs(t, "a", "b", "c"))
		p := &play{world: w, a: w.zones["a"], promoted: map[block.Zone]map[block.VolumeID]uint64{},
			names: map[block.VolumeID][]block.SnapshotID{}}
		w.protect("a", "b", "gold")
		p.targets = []*zone{w.zones["b"]}
		if w.chance(0.3) {
			w.protect("a", "c", "gold")
			p.targets = append(p.targets, w.zones["c"])
		}
		if w.chance(0.5) {
			for i := range w.protections { // keep little
				w.protections[i].Retention.Tiers = []block.RetentionTier{{Step: 3 * time.Second, For: 9 * time.Second}}
			}
		}
		for _, z := range w.zones {
			z.broken, z.far = off, w.chance(0.3)
			z.start(0)
		}
		if tamper {
			p.a.wrap = func(t Target) Target { return tampering{t, w} }
			p.a.start(0)
		}
		for range 1 + w.n(3) {
			p.ids = append(p.ids, p.a.volume("gold", int64(8+w.n(40))))
		}
		w.faults = true
		for range 30 {
			p.act()
			if p.bad != nil {
				break
			}
		}
		if p.bad == nil {
			p.settle()
		}
		for _, z := range w.zones {
			z.proc.cancel()
		}
		for _, z := range w.zones {
			z.sender.stop()
			z.proc.end()
		}
		bad = p.bad
	})
	return bad
}

// tampering is a Target whose way to the other end changes bytes after they
// were hashed and before they are checksummed, now and then.
type tampering struct {
	Target
	w *world
}

func (t tampering) Write(ctx context.Context, r Run) error {
	if r.Data != nil && t.w.faults && t.w.chance(0.05) {
		r.Data = append([]byte(nil), r.Data...)
		r.Data[t.w.n(len(r.Data))] ^= 1
	}
	return t.Target.Write(ctx, r)
}

// act lets one thing happen.
func (p *play) act() {
	id := p.ids[p.n(len(p.ids))]
	switch k := p.n(20); {
	case k < 6:
		p.scribble(id, 1+p.n(6))
	case k < 8:
		p.snapshot(id)
	case k < 9:
		p.unsnapshot(id)
	case k < 10:
		p.extend(id)
	case k < 11 && p.chance(0.3):
		p.promote(p.targets[p.n(len(p.targets))], id)
	case k < 12 && p.chance(0.2):
		p.loseLink(id)
	default:
		p.advance(time.Duration(p.n(2500)) * time.Millisecond)
		p.pass(id)
	}
}

// pass lets the source do what is due, while somebody writes, and zones die.
func (p *play) pass(id block.VolumeID) {
	target := p.targets[p.n(len(p.targets))]
	killA, killB := p.chance(0.25), p.chance(0.25)
	if killA {
		p.a.start(1 + p.n(60))
	}
	if killB {
		target.start(1 + p.n(80))
	} else if p.chance(0.05) {
		target.proc.mu.Lock()
		target.proc.hookAt, target.proc.hook = target.proc.ops+1+p.n(60), func() { p.promote(target, id) }
		target.proc.mu.Unlock()
	}
	var writer sync.WaitGroup
	n := p.n(5)
	writer.Go(func() { p.scribble(id, n) })
	err := p.a.sender.pass(p.a.proc.ctx)
	writer.Wait()
	if err != nil && !p.a.proc.dead {
		p.violated("a scan failed: %w", err)
	}
	if killA || p.a.proc.dead {
		p.a.start(0)
	}
	if killB || target.proc.dead {
		target.start(0)
	}
	p.verify()
}

// scribble writes a few blocks of few kinds, so that some change back.
func (p *play) scribble(id block.VolumeID, n int) {
	size := p.size(p.a, id)
	for range n {
		off := int64(p.n(int(size/driver.BlockSize))) * driver.BlockSize
		var b []byte
		if kind := p.n(4); kind > 0 {
			b = make([]byte, driver.BlockSize)
			b[0], b[driver.BlockSize-1] = byte(kind), byte(off>>12)
			if p.chance(0.5) {
				for i := range 512 { // hard to compress
					b[8*i] = byte(i*kind) ^ byte(i>>3)
				}
			}
		}
		p.a.write(id, off, b)
	}
}

func (p *play) size(z *zone, id block.VolumeID) int64 {
	for v := range z.store.Volumes(context.Background()) {
		if v.ID == id {
			return v.Size
		}
	}
	p.violated("volume %s is not in the store", id)
	return driver.BlockSize
}

func (p *play) snapshot(id block.VolumeID) {
	s := block.SnapshotID(block.NewID())
	ref := driver.SnapshotRef{Volume: id, Name: block.PointID(s)}
	p.a.update(func(tx *catalog.Tx) error {
		return tx.InsertSnapshot(block.Snapshot{ID: s, VolumeID: id, Project: "p", Status: block.SnapshotCreating,
			CreatedAt: p.clock()})
	})
	if err := p.a.store.CreateSnapshot(context.Background(), ref); err != nil {
		p.violated("snapshot: %w", err)
	}
	p.a.remember(ref)
	p.a.update(func(tx *catalog.Tx) error { _, err := tx.MoveSnapshot(s, block.Done); return err })
	p.names[id] = append(p.names[id], s)
}

func (p *play) unsnapshot(id block.VolumeID) {
	if len(p.names[id]) == 0 {
		return
	}
	i := p.n(len(p.names[id]))
	s := p.names[id][i]
	p.names[id] = append(p.names[id][:i:i], p.names[id][i+1:]...)
	var now bool
	p.a.update(func(tx *catalog.Tx) (err error) {
		if now, err = tx.ReleaseSnapshot(id, block.PointID(s)); err != nil {
			return err
		}
		return tx.DeleteSnapshot(s)
	})
	if now {
		ref := driver.SnapshotRef{Volume: id, Name: block.PointID(s)}
		if err := p.a.store.DeleteSnapshot(context.Background(), ref); err != nil {
			p.violated("delete snapshot: %w", err)
		}
	}
}

func (p *play) extend(id block.VolumeID) {
	size := p.size(p.a, id) + int64(1+p.n(8))*driver.BlockSize
	if err := p.a.store.ExtendVolume(context.Background(), id, size); err != nil {
		p.violated("extend: %w", err)
	}
}

// promote gives the right to write to a target.
func (p *play) promote(z *zone, id block.VolumeID) {
	z.update(func(tx *catalog.Tx) error {
		all, err := tx.Replicas("a")
		for _, rep := range all {
			if rep.Source != id || rep.Newest.ID == "" {
				continue
			}
			if _, err := tx.RaiseEpoch(rep.ID, block.Recovered{Zone: z.name, Volume: "new"}, 1); err != nil {
				return err
			}
			p.mu.Lock()
			if p.promoted[z.name] == nil {
				p.promoted[z.name] = map[block.VolumeID]uint64{}
			}
			if _, twice := p.promoted[z.name][id]; !twice {
				p.promoted[z.name][id] = rep.Newest.Sequence
			}
			p.mu.Unlock()
		}
		return err
	})
}

// loseLink makes the source forget what it knew of a link, as an old backup of
// its catalog does.
func (p *play) loseLink(id block.VolumeID) {
	p.lost = true
	p.a.update(func(tx *catalog.Tx) error {
		links, err := tx.LinksOf(id)
		for _, l := range links {
			held, err := tx.PinnedBy(id, fmt.Sprintf("replication/%d", l.Protection))
			if err != nil {
				return err
			}
			if err := tx.DeleteLink(id, l.Protection); err != nil {
				return err
			}
			for _, name := range held {
				now, err := tx.Unpin(id, name, fmt.Sprintf("replication/%d", l.Protection))
				if err != nil {
					return err
				}
				if now {
					if err := tx.InsertCut(id, name); err != nil {
						return err
					}
				}
			}
		}
		return err
	})
	p.a.start(0)
}

// verify checks what must hold at any time.
func (p *play) verify() {
	for _, z := range p.targets {
		if err := z.check(); err != nil {
			p.violated("zone %s: %w", z.name, err)
		}
		z.view(func(tx *catalog.Tx) error {
			all, err := tx.Replicas("")
			for _, rep := range all {
				if limit, ok := p.promoted[z.name][rep.Source]; ok && rep.Newest.Sequence > limit {
					p.violated("zone %s committed point %d of epoch %d after its promotion", z.name,
						rep.Newest.Sequence, rep.Newest.Epoch)
				}
				points, err := tx.Points(rep.ID)
				if err != nil {
					return err
				}
				for i, q := range points {
					if q.Parent == "" && i > 0 && !p.lost {
						p.violated("point %s is a full copy, though there was a base", q.ID)
					}
				}
			}
			return err
		})
	}
}

// settle ends the faults, lets replication catch up, and checks that all is
// there and nothing is left over.
func (p *play) settle() {
	p.mu.Lock()
	p.faults = false
	p.mu.Unlock()
	for _, z := range p.targets { // who was to be promoted and wasn't yet, won't be
		z.proc.mu.Lock()
		z.proc.hook, z.proc.hookAt = nil, 0
		z.proc.mu.Unlock()
	}
	for range 12 {
		p.advance(2 * time.Minute)
		if err := p.a.sender.pass(p.a.proc.ctx); err != nil {
			p.violated("a scan failed: %w", err)
		}
	}
	synctest.Wait()
	p.verify()
	for _, z := range p.targets {
		if err := z.receiver.Tidy(z.proc.ctx); err != nil {
			p.violated("tidy: %w", err)
		}
		for _, id := range p.ids {
			if err := p.settled(z, id); err != nil {
				p.violated("zone %s, volume %s: %w", z.name, id, err)
			}
		}
	}
}

// settled checks one volume at quiescence.
func (p *play) settled(z *zone, id block.VolumeID) (err error) {
	if _, ok := p.promoted[z.name][id]; ok {
		if p.a.fenced[id].Zone == "" {
			return errors.New("the source was not told of the promotion")
		}
		return nil
	}
	var links []catalog.Link
	held := map[block.PointID]bool{}
	var cuts []block.PointID
	p.a.view(func(tx *catalog.Tx) (err error) {
		if links, err = tx.LinksOf(id); err != nil {
			return err
		}
		if held, err = tx.PinnedPoints(id); err != nil {
			return err
		}
		cuts, err = tx.Cuts(id)
		return err
	})
	needed := map[block.PointID]bool{}
	fenced := false
	for _, l := range links {
		needed[l.Confirmed.ID] = true
		if l.Target != nil {
			needed[l.Target.ID] = true
		}
		fenced = fenced || l.State == catalog.LinkFenced
		if l.State == catalog.LinkError {
			return fmt.Errorf("link %d: %s", l.Protection, l.Error)
		}
	}
	for name := range held {
		if !needed[name] {
			return fmt.Errorf("a pin on %s leaked", name)
		}
	}
	if fenced {
		return nil // what a fenced link holds is kept for the way back
	}
	if err := p.sourceClean(id, needed, cuts); err != nil {
		return err
	}
	return p.targetWhole(z, id)
}

func (p *play) sourceClean(id block.VolumeID, needed map[block.PointID]bool, cuts []block.PointID) error {
	for _, name := range cuts {
		if !needed[name] {
			return fmt.Errorf("cut %s leaked", name)
		}
	}
	tenants := map[block.PointID]bool{}
	for _, s := range p.names[id] {
		tenants[block.PointID(s)] = true
	}
	have, err := p.a.store.Snapshots(context.Background(), id)
	for _, s := range have {
		if !needed[s.Name] && !tenants[s.Name] {
			return fmt.Errorf("driver snapshot %s leaked at the source", s.Name)
		}
	}
	return err
}

func (p *play) targetWhole(z *zone, id block.VolumeID) error {
	ctx := context.Background()
	var rep block.Replica
	var points []block.Point
	z.view(func(tx *catalog.Tx) error {
		all, err := tx.Replicas("a")
		for _, r := range all {
			if r.Source == id {
				rep = r
			}
		}
		if err == nil && rep.ID != "" {
			points, err = tx.Points(rep.ID)
		}
		return err
	})
	if rep.Newest.ID == "" || rep.Pending != nil {
		return fmt.Errorf("newest %q, pending %v", rep.Newest.ID, rep.Pending)
	}
	now := driver.SnapshotRef{Volume: id, Name: "now"}
	if err := p.a.store.CreateSnapshot(ctx, now); err != nil {
		return err
	}
	p.a.remember(now)
	want, have := p.contents["now"], p.contents[rep.Newest.ID]
	delete(p.contents, "now")
	if err := p.a.store.DeleteSnapshot(ctx, now); err != nil {
		return err
	}
	if string(want) != string(have) {
		return errors.New("the newest point is not what the volume holds")
	}
	if lag := p.clock().Sub(rep.Current); lag > 0 {
		return fmt.Errorf("the replica lags by %s", lag)
	}
	known := map[block.PointID]bool{}
	for _, q := range points {
		known[q.ID] = true
	}
	inStore, err := z.store.Snapshots(ctx, rep.ID)
	for _, s := range inStore {
		if !known[s.Name] {
			return fmt.Errorf("driver snapshot %s leaked at the target", s.Name)
		}
	}
	named := 0
	for _, q := range points {
		if q.Name != "" {
			named++
		}
	}
	if named > len(p.names[id]) {
		return fmt.Errorf("%d named points for %d snapshots", named, len(p.names[id]))
	}
	return err
}
