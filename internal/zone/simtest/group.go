package simtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// groupID is the group of a story that has one.
const groupID = block.GroupID("group")

// groupAt is a group in a zone that has replicas of its volumes.
type groupAt struct {
	zone  block.Zone
	group block.GroupID
}

// instant is what a zone has of a cut of a group.
type instant struct {
	cut    block.GroupCut
	points map[block.VolumeID]block.Point // by the source
}

// whole reports whether all volumes are there that were cut.
func (i instant) whole() bool { return len(i.points) == i.cut.Members }

// instantsAmong sorts points by the instants that they are of, in order of the
// cuts' names.
func instantsAmong(replicas map[block.VolumeID]map[block.PointID]block.Point) (all []instant) {
	by := map[string]*instant{}
	for _, points := range replicas {
		for _, p := range points {
			if p.Cut == nil {
				continue
			}
			if by[p.Cut.ID] == nil {
				by[p.Cut.ID] = &instant{*p.Cut, map[block.VolumeID]block.Point{}}
			}
			by[p.Cut.ID].points[p.Volume] = p
		}
	}
	for _, id := range slices.Sorted(maps.Keys(by)) {
		all = append(all, *by[id])
	}
	return all
}

// makeGroup makes the story's group, unless it is there.
func makeGroup(tx *catalog.Tx) error {
	if _, err := tx.Group(groupID); err == nil {
		return nil
	}
	return tx.InsertGroup(block.Group{ID: groupID, Project: "p", User: "u", Status: block.GroupAvailable,
		AvailabilityZone: "az", Type: block.LegacyGroupType, VolumeTypes: []block.TypeID{typeName}})
}

// groupFor is what a new volume's row says of its group.
func (t *tale) groupFor(id block.VolumeID) *block.GroupID {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.grouped[id] {
		return nil
	}
	g := groupID
	return &g
}

// members are the group's volumes.
func (t *tale) members() []block.VolumeID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.grouped))
}

// regroup puts a volume into the group, or takes it out.
func (t *tale) regroup(id block.VolumeID) {
	if t.book("a", id) == nil {
		return // it is being made
	}
	t.mu.Lock()
	in := !t.grouped[id]
	if t.grouped[id] = true; !in {
		delete(t.grouped, id)
	}
	t.mu.Unlock()
	t.retry(t.nodes["a"], func(l *life, _ driver.Driver) error {
		return l.catalog.Update(l.ctx, func(tx *catalog.Tx) error {
			v, err := tx.Volume(id)
			if err != nil {
				return err
			}
			if v.GroupID = nil; in {
				g := groupID
				v.GroupID = &g
			}
			return errors.Join(makeGroup(tx), tx.UpdateVolume(v))
		})
	})
}

// promoteGroup gives the right to write to a target, for all volumes of the
// group, as of the newest instant that all of them have.
func (t *tale) promoteGroup(n *node) {
	members := t.members()
	var newest map[block.VolumeID]uint64
	var at instant
	t.retry(n, func(l *life, _ driver.Driver) error {
		return l.catalog.Update(l.ctx, func(tx *catalog.Tx) error {
			newest, at = map[block.VolumeID]uint64{}, instant{}
			replicas, have, err := pointsHere(tx)
			if err != nil {
				return err
			}
			for _, in := range instantsAmong(have) {
				if in.has(members) && (at.points == nil || in.points[members[0]].At.After(at.points[members[0]].At)) {
					at = in
				}
			}
			if at.points == nil {
				return nil
			}
			for _, rep := range replicas {
				if _, ok := at.points[rep.Source]; !ok {
					continue
				}
				r := block.Recovered{Zone: n.name, Volume: "new " + rep.Source}
				if _, err := tx.RaiseEpoch(rep.ID, r, int(n.name[0]-'a')); err != nil {
					return err
				}
				newest[rep.Source] = rep.Newest.Sequence
			}
			return nil
		})
	})
	if len(newest) == 0 {
		return
	}
	t.tally.add("group promotions")
	t.cloud.mu.Lock()
	maps.Copy(t.promoted[n.name], newest)
	t.cloud.mu.Unlock()
	if err := t.oneInstant(at); err != nil {
		t.violated("zone %s: a group was recovered: %w", n.name, err)
	}
	t.look(n)
}

// has reports whether all of some volumes have a point of the instant.
func (i instant) has(volumes []block.VolumeID) bool {
	return len(volumes) > 0 && !slices.ContainsFunc(volumes, func(id block.VolumeID) bool {
		_, ok := i.points[id]
		return !ok
	})
}

// pointsHere are a zone's replicas and their points.
func pointsHere(
	tx *catalog.Tx,
) (all []block.Replica, have map[block.VolumeID]map[block.PointID]block.Point, err error) {
	have = map[block.VolumeID]map[block.PointID]block.Point{}
	if all, err = tx.Replicas(""); err != nil {
		return nil, nil, err
	}
	for _, rep := range all {
		points, err := tx.Points(rep.ID)
		if err != nil {
			return nil, nil, err
		}
		have[rep.ID] = map[block.PointID]block.Point{}
		for _, p := range points {
			have[rep.ID][p.ID] = p
		}
	}
	return all, have, nil
}

// oneInstant holds the points of an instant against what was named by one act.
func (c *cloud) oneInstant(in instant) error {
	for _, id := range slices.Sorted(maps.Keys(in.points)) {
		if err := c.checkCut(c.book("a", id), in.points[id]); err != nil {
			return err
		}
	}
	return nil
}

// checkCut holds a point that is of a group's instant against the others: they
// were named by one act.
func (c *cloud) checkCut(b *book, p block.Point) error {
	if p.Cut == nil || b == nil {
		return nil
	}
	act := b.actOf(p.ID)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.instants[p.Cut.ID] == 0 {
		c.instants[p.Cut.ID] = act
	}
	if c.instants[p.Cut.ID] != act {
		return fmt.Errorf("point %s is not of the instant of the others of cut %s", p.ID, p.Cut.ID)
	}
	return nil
}

// checkGroups holds what a zone has of groups: no instant has more than was cut,
// and the newest one that is whole is not lost.
func (c *cloud) checkGroups(n *node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := map[groupAt]time.Time{}
	for _, in := range instantsAmong(c.seen[n.name]) {
		if len(in.points) > in.cut.Members {
			return fmt.Errorf("cut %s has %d points, and %d volumes were cut", in.cut.ID, len(in.points), in.cut.Members)
		}
		if !in.whole() {
			continue
		}
		key := groupAt{n.name, in.cut.Group}
		for id, p := range in.points {
			if b := c.books[id]; b != nil && b.atOf(p.ID).After(now[key]) {
				now[key] = b.atOf(p.ID)
			}
		}
	}
	for key, was := range c.newest {
		if key.zone == n.name && now[key].Before(was) {
			return fmt.Errorf("the newest instant of group %s of which all was there is gone", key.group)
		}
	}
	for key, at := range now {
		if at.After(c.newest[key]) {
			c.newest[key] = at
			c.tally.add("instants of groups")
		}
	}
	return nil
}

// together checks that a target has the group as it is now, as of one instant.
func (t *tale) together(n *node) error {
	members := t.members()
	if len(members) == 0 || !t.nodes["a"].rich {
		return nil
	}
	t.cloud.mu.Lock()
	for _, id := range members {
		if t.fenced[id].Zone != "" {
			members = nil
			break
		}
	}
	t.cloud.mu.Unlock()
	if len(members) == 0 {
		return nil // a part of it lives elsewhere
	}
	var have map[block.VolumeID]map[block.PointID]block.Point
	err := n.catalog.View(context.Background(), func(tx *catalog.Tx) (err error) {
		_, have, err = pointsHere(tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, in := range instantsAmong(have) {
		if in.has(members) && t.present(in, members) {
			return nil
		}
	}
	return fmt.Errorf("no instant of the group has all that its %d volumes hold", len(members))
}

// present reports whether an instant has what volumes hold now.
func (t *tale) present(in instant, members []block.VolumeID) bool {
	return !slices.ContainsFunc(members, func(id block.VolumeID) bool {
		b := t.book("a", id)
		b.mu.Lock()
		defer b.mu.Unlock()
		return printOf(b.cuts[in.points[id].ID].blocks) != printOf(b.blocks)
	})
}
