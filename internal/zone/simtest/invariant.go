package simtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/replication"
)

// committed is told whenever a target committed something.
func (l *life) committed(a replication.Advance) {
	if l.alive() {
		l.cloud.lookAt(l.node, func(rep block.Replica) bool { return rep.Source == a.Volume })
	}
}

// look checks what must hold of a zone's replicas at any time.
func (c *cloud) look(n *node) { c.lookAt(n, func(block.Replica) bool { return true }) }

func (c *cloud) lookAt(n *node, which func(block.Replica) bool) {
	var all []block.Replica
	points := map[block.VolumeID][]block.Point{}
	err := n.catalog.View(context.Background(), func(tx *catalog.Tx) (err error) {
		all, err = tx.Replicas("")
		all = slices.DeleteFunc(all, func(rep block.Replica) bool { return !which(rep) })
		for _, rep := range all {
			if points[rep.ID], err = tx.Points(rep.ID); err != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		c.violated("zone %s: %w", n.name, err)
	}
	for _, rep := range all {
		if err := c.checkReplica(n, rep, points[rep.ID]); err != nil {
			c.violated("zone %s: %w", n.name, err)
		}
	}
	if err := c.checkGroups(n); err != nil {
		c.violated("zone %s: %w", n.name, err)
	}
}

func (c *cloud) checkReplica(n *node, rep block.Replica, points []block.Point) error {
	b := c.book(rep.SourceZone, rep.Source)
	if b == nil {
		return nil // it is not written to yet
	}
	c.mu.Lock()
	limit, promoted := c.promoted[n.name][rep.Source]
	known, forgotten := c.seen[n.name][rep.ID], c.forgotten
	now := map[block.PointID]block.Point{}
	c.seen[n.name][rep.ID] = now
	c.mu.Unlock()
	if promoted && rep.Newest.Sequence > limit {
		return fmt.Errorf("point %d of epoch %d was committed after the promotion at %d", rep.Newest.Sequence,
			rep.Newest.Epoch, limit)
	}
	for i, p := range points {
		now[p.ID] = p
		if _, old := known[p.ID]; old {
			continue
		}
		c.tally.add("points")
		if p.Parent == "" && i > 0 && !forgotten {
			return fmt.Errorf("point %s is a whole copy, though there was a base", p.ID)
		}
		if err := c.checkPoint(n, b, rep, p); err != nil {
			return err
		}
	}
	if rep.Newest.ID == "" {
		return nil
	}
	if _, ok := now[rep.Newest.ID]; !ok {
		return fmt.Errorf("the newest point %s is gone", rep.Newest.ID)
	}
	for id, p := range known {
		if _, stays := now[id]; !stays && c.keepsAll && p.Name == "" {
			return fmt.Errorf("point %s was let go, and nobody asked for that", id)
		}
	}
	if b.origin(rep.Newest.ID) {
		return nil // it is dated by the clock of the zone that it was cut in
	}
	if err := b.covers(rep.Newest.ID, c.nodes[rep.SourceZone].clock.first(rep.Current)); err != nil {
		return fmt.Errorf("more is lost than is reported: %w", err)
	}
	return nil
}

// checkPoint holds a committed point against what the source had.
func (c *cloud) checkPoint(n *node, b *book, rep block.Replica, p block.Point) error {
	have, err := n.pointContent(driver.SnapshotRef{Volume: rep.ID, Name: p.ID})
	if err != nil {
		return fmt.Errorf("point %s is committed and can't be read: %w", p.ID, err)
	}
	return errors.Join(b.same(p.ID, have, c.watch(p.Size)), c.checkCut(b, p))
}

// settled says what is not well when nothing goes wrong any more: what lags, and
// what is left over.
func (t *tale) settled(quiet time.Time) error {
	for _, n := range t.targets {
		for _, id := range t.volumes {
			if err := t.whole(n, id, quiet); err != nil {
				return fmt.Errorf("zone %s, volume %s: %w", n.name, id, err)
			}
		}
	}
	for _, n := range t.targets {
		if err := t.together(n); err != nil {
			return fmt.Errorf("zone %s: %w", n.name, err)
		}
	}
	for _, id := range t.volumes {
		if err := t.clean(id); err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
	}
	for _, n := range t.targets {
		t.cloud.mu.Lock()
		clear(t.seen[n.name]) // so that all points are read again
		t.cloud.mu.Unlock()
		t.look(n)
	}
	return nil
}

// whole checks that a target has all of a volume.
func (t *tale) whole(n *node, id block.VolumeID, quiet time.Time) error {
	t.cloud.mu.Lock()
	_, promoted := t.promoted[n.name][id]
	heard := t.fenced[id].Zone != ""
	t.cloud.mu.Unlock()
	if promoted {
		if !heard {
			return errors.New("the source was not told of the promotion")
		}
		return nil
	}
	var rep block.Replica
	var points []block.Point
	err := n.catalog.View(context.Background(), func(tx *catalog.Tx) error {
		all, err := tx.Replicas("a")
		for _, r := range all {
			if r.Source == id {
				rep = r
				points, err = tx.Points(r.ID)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if rep.Newest.ID == "" || rep.Pending != nil {
		return fmt.Errorf("newest point %q, pending step %v", rep.Newest.ID, rep.Pending)
	}
	b := t.book("a", id)
	have, err := n.pointContent(driver.SnapshotRef{Volume: rep.ID, Name: rep.Newest.ID})
	if err != nil {
		return err
	}
	b.mu.Lock()
	want := printOf(b.blocks)
	b.mu.Unlock()
	if printOf(have) != want {
		return errors.New("the newest point is not what the volume holds")
	}
	if err := b.covers(rep.Newest.ID, quiet); err != nil {
		return err
	}
	return t.tidyTarget(n, rep, points)
}

// tidyTarget checks that a target has committed points and nothing else.
func (t *tale) tidyTarget(n *node, rep block.Replica, points []block.Point) error {
	known := map[block.PointID]bool{}
	named := 0
	for _, p := range points {
		known[p.ID] = true
		if p.Name != "" {
			named++
		}
	}
	have, err := n.store.Snapshots(context.Background(), rep.ID)
	for _, s := range have {
		if !known[s.Name] {
			return fmt.Errorf("snapshot %s is left over in the target's store", s.Name)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if named > len(t.names[rep.Source]) {
		return fmt.Errorf("%d points have names, and the volume has %d snapshots", named, len(t.names[rep.Source]))
	}
	return err
}

// clean checks that the source holds what its links need and nothing else.
func (t *tale) clean(id block.VolumeID) error {
	n := t.nodes["a"]
	var links []catalog.Link
	var held map[block.PointID]bool
	var cuts []block.PointID
	err := n.catalog.View(context.Background(), func(tx *catalog.Tx) (err error) {
		if links, err = tx.LinksOf(id); err != nil {
			return err
		}
		if held, err = tx.PinnedPoints(id); err != nil {
			return err
		}
		cuts, err = tx.Cuts(id)
		return err
	})
	if err != nil {
		return err
	}
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
		if l.Confirmed.ID != "" && !fenced {
			if err := t.book("a", id).covers(l.Confirmed.ID, n.clock.first(l.Current)); err != nil {
				t.violated("the source reports less loss than there is: %w", err)
			}
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
	return t.tidySource(id, needed, cuts)
}

func (t *tale) tidySource(id block.VolumeID, needed map[block.PointID]bool, cuts []block.PointID) error {
	for _, name := range cuts {
		if !needed[name] {
			return fmt.Errorf("cut %s leaked", name)
		}
	}
	tenants := map[block.PointID]bool{}
	t.mu.Lock()
	for _, s := range t.names[id] {
		tenants[block.PointID(s)] = true
	}
	t.mu.Unlock()
	have, err := t.nodes["a"].store.Snapshots(context.Background(), id)
	there := map[block.PointID]bool{}
	for _, s := range have {
		there[s.Name] = true
		if !needed[s.Name] && !tenants[s.Name] {
			return fmt.Errorf("snapshot %s is left over in the source's store", s.Name)
		}
	}
	for name := range tenants {
		if !there[name] {
			t.violated("the tenant's snapshot %s is gone", name)
		}
	}
	return err
}
