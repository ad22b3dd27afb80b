package replication

import (
	"context"
	"errors"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// update brings the target up to date: it cuts a point, unless one is under way
// from before, and takes the steps that lead there.
func (v *visit) update(ctx context.Context, have Have) error {
	if v.link.Target == nil && v.together() {
		if done, err := v.cutTogether(ctx); err != nil || !done {
			v.waits = err == nil
			return err
		}
	} else if v.link.Target == nil {
		if empty, err := v.cut(ctx); err != nil {
			return err
		} else if empty && have.newest().ID == v.link.Confirmed.ID {
			return v.heartbeat(ctx, v.looked, v.entryHash != v.link.EntryHash, v.nameless(have))
		}
	} else if v.link.Target.Cut != nil {
		if lost, err := v.lostCut(ctx); err != nil || lost {
			v.waits = true
			return err
		}
	} else if err := v.store.driver.CreateSnapshot(ctx, v.store.ref(*v.link.Target)); err != nil {
		return err // it may have been interrupted before it was made
	}
	v.mirrors, v.transport = have.Mirror, v.link.Transport
	want, err := v.points(ctx, have)
	if err != nil {
		return err
	}
	if depthOf(v.store.driver) == 1 && v.gaugeDue() { // else it is counted meanwhile
		if err := v.gauge(ctx, *v.link.Target); err != nil {
			return err
		}
	}
	agenda := Plan(have.Points, want)
	v.byContent(have, &agenda)
	base := agenda.Base
	if base.ID != "" && base.ID != v.link.Confirmed.ID && base.ID != v.content {
		if err := v.adopt(ctx, base); err != nil {
			return err
		}
	}
	for _, s := range agenda.Steps {
		s.Base = base // with its root
		if base, err = v.take(ctx, s); err != nil {
			return err
		}
	}
	v.dirtySince = time.Time{}
	if len(agenda.Drop) > 0 {
		return v.heartbeat(ctx, v.link.Current, false, agenda.Drop) // other writes may have come since
	}
	return nil
}

// cut names the present moment of the volume. That it will is written down
// first, so that no snapshot is ever forgotten. Where the driver counts no
// changes, the difference to the confirmed point tells whether there are any;
// if not, the new point is given up at once.
func (v *visit) cut(ctx context.Context) (empty bool, err error) {
	now := v.sender.cfg.Now()
	p := block.Point{ID: block.PointID(block.NewID()), Volume: v.volume.ID, Epoch: v.volume.Epoch,
		At: now.UTC().Truncate(time.Microsecond)}
	if counter, ok := driver.As[driver.ChangeCounter](v.store.driver); ok {
		if v.changes, err = counter.Changes(ctx, v.volume.ID); err != nil {
			return false, err
		}
	}
	l := v.link
	l.Target, l.TargetChanges, l.State = &p, v.changes, catalog.LinkSending
	err = v.save(ctx, l, func(tx *catalog.Tx) error {
		if err := tx.InsertCut(v.volume.ID, p.ID); err != nil {
			return err
		}
		return tx.Pin(v.volume.ID, p.ID, v.holder())
	})
	if err != nil {
		return false, err
	}
	if err := v.store.driver.CreateSnapshot(ctx, v.store.ref(p)); err != nil {
		return false, err
	}
	v.looked = now
	if v.counted || v.link.Confirmed.ID == "" || v.link.Confirmed.Epoch != p.Epoch {
		return false, nil
	}
	for _, err := range driver.Diff(ctx, v.store.driver, v.store.ref(v.link.Confirmed), v.store.ref(p)) {
		return false, err
	}
	if grown, err := v.grown(ctx, p); grown || err != nil {
		return false, err
	}
	l = v.link
	l.Target = nil
	if err := v.save(ctx, l, func(*catalog.Tx) error { return nil }); err != nil {
		return false, err
	}
	return true, v.tidy(ctx)
}

// grown reports whether something else than bytes is new since the confirmed
// point: the size, or a snapshot of a tenant's.
func (v *visit) grown(ctx context.Context, p block.Point) (bool, error) {
	all, err := v.named(ctx)
	if err != nil {
		return false, err
	}
	newer := false
	for _, s := range all {
		_, tenants := v.snapshots[s.Name]
		if (newer && tenants) || (s.Name == p.ID && s.Size != v.link.Confirmed.Size) {
			return true, nil
		}
		newer = newer || s.Name == v.link.Confirmed.ID
	}
	return !newer, nil
}

// points lists what the source has, from old to new, up to the point that was
// cut: the tenants' snapshots, the confirmed point, those that the target has
// though no answer said so, and that one.
func (v *visit) points(ctx context.Context, have Have) ([]block.Point, error) {
	all, err := v.named(ctx)
	if err != nil {
		return nil, err
	}
	there := make(map[block.PointID]block.Point, len(have.Points))
	for _, p := range have.Points {
		there[p.ID] = p
	}
	var want []block.Point
	for _, s := range all {
		common, known := there[s.Name]
		p := block.Point{ID: s.Name, Volume: v.volume.ID, Epoch: v.volume.Epoch, Size: s.Size}
		tenants, named := v.snapshots[s.Name]
		switch {
		case named:
			p.At, p.Name = tenants.CreatedAt, string(s.Name)
		case s.Name == v.link.Target.ID:
			p.At, p.Cut = v.link.Target.At, v.link.Target.Cut
			return append(want, p), nil
		case v.origin() != nil && s.Name == v.origin().Point.ID:
			p.At = v.origin().Point.At
		case known:
			p.At = common.At
		case s.Name != v.link.Confirmed.ID:
			continue
		}
		want = append(want, p)
	}
	return nil, block.Errorf(block.NotFound, "point %s is not in the store", v.link.Target.ID)
}

// take takes one step and returns the point that the target committed.
func (v *visit) take(ctx context.Context, s block.Step) (block.Point, error) {
	src, sum, err := v.source(ctx, s)
	if err != nil {
		return block.Point{}, err
	}
	err = v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		return tx.Pin(v.volume.ID, s.Target.ID, v.holder())
	})
	if err != nil {
		return block.Point{}, err
	}
	began, before := v.sender.cfg.Now(), v.remote.Sent()
	v.step = carried{Source: src, visit: v, began: began}
	counted := v.gaugeBeside(ctx, s.Base, *v.link.Target)
	p, sum, err := v.send(ctx, &v.step, s, sum)
	counted()
	if p.ID == s.Target.ID { // should the answer be lost, the sum is known
		v.track.point, v.track.sum = p.ID, sum
	}
	if err != nil {
		return block.Point{}, err
	}
	if err := v.confirm(ctx, p, sum); err != nil {
		return p, err
	}
	a := Advance{Bytes: v.step.bytes, Wire: v.remote.Sent() - before, Took: v.sender.cfg.Now().Sub(began)}
	if s.Base.ID != "" {
		a.Span = max(0, p.At.Sub(s.Base.At))
	}
	v.observe(a)
	return p, nil
}

// sumOf returns the sum of a point that both ends have; at worst the whole
// point is read.
func (v *visit) sumOf(ctx context.Context, p block.Point) (Sum, error) {
	switch p.ID {
	case "":
		return Sum{}, nil
	case v.link.Confirmed.ID:
		return SumFrom(v.link.Sum), nil
	case v.originID():
		return SumFrom(v.origin().Sum), nil
	case v.track.point:
		return v.track.sum, nil
	}
	r, err := v.store.driver.OpenSnapshot(ctx, v.store.ref(p))
	if err != nil {
		return Sum{}, err
	}
	sum, err := SumOf(ctx, r)
	return sum, errors.Join(err, r.Close())
}

// adopt takes note that the target has another point than was known: the answer
// to its commit was lost, or the confirmed one is gone there.
func (v *visit) adopt(ctx context.Context, p block.Point) error {
	sum, err := v.sumOf(ctx, p)
	if err != nil {
		return err
	}
	if sum.Root(p.Size) != p.Root {
		return block.Errorf(block.Corrupt, "point %s is not the same at both ends", p.ID)
	}
	return v.confirm(ctx, p, sum)
}

// confirm notes that the target has a point, and lets the older one go. A
// tenant's snapshot that was deleted meanwhile becomes ours to delete.
func (v *visit) confirm(ctx context.Context, p block.Point, sum Sum) error {
	v.countBytes()
	l, old := v.link, v.link.Confirmed
	l.Transport = v.transport
	l.Confirmed, l.Sum = p, sum.Bytes()
	at := p.At
	if from := v.volume.RecoveredFrom; from != nil && from.Point.ID == p.ID {
		at = from.UpTo()
	}
	if at.After(l.Current) {
		l.Current = at
	}
	if l.Target != nil && l.Target.ID == p.ID {
		v.lacks(0)
		l.Target, l.Changes, l.EntryHash, l.State, l.Error = nil, l.TargetChanges, v.entryHash, catalog.LinkCurrent, ""
	}
	err := v.save(ctx, l, func(tx *catalog.Tx) error {
		if err := tx.Pin(v.volume.ID, p.ID, v.holder()); err != nil {
			return err
		}
		if err := v.outgrow(tx, p); err != nil || old.ID == "" || old.ID == p.ID {
			return err
		}
		return v.unpin(tx, old.ID)
	})
	if err != nil {
		return err
	}
	return v.tidy(ctx)
}

// origin is what the volume continues. The zone that had it may have the point
// still, and others may have got it.
func (v *visit) origin() *block.Origin { return v.volume.RecoveredFrom }

func (v *visit) originID() block.PointID {
	if o := v.origin(); o != nil {
		return o.Point.ID
	}
	return ""
}

// outgrow lets go of what the volume began as when the zone from which it came
// has a newer point.
func (v *visit) outgrow(tx *catalog.Tx, p block.Point) error {
	id := v.originID()
	if id == "" || p.ID == id || v.origin().Zone != v.policy.Destination {
		return nil
	}
	_, err := tx.Unpin(v.volume.ID, id, block.OriginHolder)
	return err
}

// unpin lets go of a snapshot. If nobody else wants it, tidy deletes it.
func (v *visit) unpin(tx *catalog.Tx, id block.PointID) error {
	deleteNow, err := tx.Unpin(v.volume.ID, id, v.holder())
	if err != nil || !deleteNow {
		return err
	}
	return tx.InsertCut(v.volume.ID, id)
}

// save commits the link with what belongs to the change.
func (v *visit) save(ctx context.Context, l catalog.Link, also func(*catalog.Tx) error) error {
	err := v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := also(tx); err != nil {
			return err
		}
		return tx.PutLink(l)
	})
	if err == nil {
		v.link = l
	}
	return err
}

// tidy takes pins off that an interrupted visit left, and deletes the driver
// snapshots that replication made and no link of the volume needs.
func (v *visit) tidy(ctx context.Context) error {
	var old, loose []block.PointID
	err := v.sender.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		old, loose, err = v.leftovers(tx)
		return err
	})
	if err != nil || len(old)+len(loose) == 0 {
		return err
	}
	err = v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		_, loose, err := v.leftovers(tx)
		if err != nil {
			return err
		}
		for _, id := range loose {
			if err := v.unpin(tx, id); err != nil {
				return err
			}
		}
		old, _, err = v.leftovers(tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range old {
		if err := v.store.driver.DeleteSnapshot(ctx, v.store.ref(block.Point{ID: id})); err != nil &&
			!block.Is(err, block.NotFound) {
			return err
		}
	}
	return v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, id := range old {
			if err := tx.DeleteCut(v.volume.ID, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// leftovers returns the snapshots that can be deleted, and the pins of this
// link that are for nothing. While a point is under way and the target was not
// asked yet, no pin is: the target may have committed a step on the way there
// whose answer was lost, and without its base all would be sent again.
func (v *visit) leftovers(tx *catalog.Tx) (cuts, pins []block.PointID, err error) {
	links, err := tx.LinksOf(v.volume.ID)
	if err != nil {
		return nil, nil, err
	}
	needed := func(l catalog.Link, id block.PointID) bool {
		return l.Confirmed.ID == id || (l.Target != nil && l.Target.ID == id)
	}
	held, err := tx.PinnedBy(v.volume.ID, v.holder())
	if err != nil {
		return nil, nil, err
	}
	asked := v.peer != nil || v.link.Target == nil || v.link.State == catalog.LinkFenced
	for _, id := range held {
		if asked && !needed(v.link, id) {
			pins = append(pins, id)
		}
	}
	pinned, err := tx.PinnedPoints(v.volume.ID)
	if err != nil {
		return nil, nil, err
	}
	all, err := tx.Cuts(v.volume.ID)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range all {
		wanted := slices.ContainsFunc(links, func(l catalog.Link) bool { return needed(l, id) })
		if !wanted && (!pinned[id] || slices.Contains(pins, id)) {
			cuts = append(cuts, id)
		}
	}
	return cuts, pins, nil
}

// nameless lists the target's named points that no snapshot of a tenant's
// stands for any more.
func (v *visit) nameless(have Have) (drop []block.PointID) {
	for _, p := range have.Points {
		if _, ok := v.snapshots[p.ID]; p.Name != "" && !ok {
			drop = append(drop, p.ID)
		}
	}
	return drop
}

// heartbeat tells the target that the confirmed point was the content still at
// an instant, and what else is news.
func (v *visit) heartbeat(ctx context.Context, at time.Time, entry bool, drop []block.PointID) error {
	h := Heartbeat{Point: v.link.Confirmed.ID, At: at, Drop: drop}
	if entry {
		h.Entry = &v.entry
	}
	if err := v.peer.Heartbeat(ctx, h); err != nil {
		return err
	}
	if h.At.After(v.link.Current) {
		span := h.At.Sub(v.link.Current)
		v.link.Current = h.At
		v.observe(Advance{Span: span})
	}
	v.dirtySince = time.Time{}
	if !entry {
		return nil
	}
	l := v.link
	l.EntryHash = v.entryHash
	return v.save(ctx, l, func(*catalog.Tx) error { return nil })
}
