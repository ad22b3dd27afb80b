package replication

import (
	"cmp"
	"context"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Heartbeat implements Target.
func (i *inbound) Heartbeat(ctx context.Context, h Heartbeat) error {
	if i.release == nil {
		return block.Errorf(block.Invalid, "a heartbeat came before a volume was offered")
	}
	var rep block.Replica
	var dropped []block.PointID
	err := i.catalog().Update(ctx, func(tx *catalog.Tx) error {
		var found bool
		var err error
		if rep, found, err = i.receiver.admit(tx, i.key, i.epoch); err != nil {
			return err
		}
		if !found || rep.Newest.ID != h.Point {
			return block.Errorf(block.Conflict, "the newest point here is %q and not %q", rep.Newest.ID, h.Point)
		}
		if h.At.After(rep.Current) {
			rep.Current = h.At
		}
		if h.Entry == nil {
			err = tx.TouchReplica(rep.ID, rep.Current)
		} else {
			rep.Entry = *h.Entry
			err = tx.UpdateReplica(rep)
		}
		if err != nil || len(h.Drop) == 0 {
			return err
		}
		dropped, err = dropNamed(tx, rep, h.Drop)
		return err
	})
	if err != nil {
		return err
	}
	i.receiver.noteError(i.key, nil)
	i.observe(rep.Current)
	if len(dropped) == 0 {
		return nil
	}
	d, err := i.receiver.driver(rep)
	if err != nil {
		return err
	}
	i.settled() // the last step's base may be among them
	return deleteSnapshots(ctx, d, rep.ID, dropped)
}

// dropNamed deletes points whose names were deleted at the source. Those that
// are needed only lose their names.
func dropNamed(tx *catalog.Tx, rep block.Replica, ids []block.PointID) (dropped []block.PointID, err error) {
	pinned, err := tx.PinnedPoints(rep.ID)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		needed := pinned[id] || id == rep.Newest.ID || (rep.Pending != nil && id == rep.Pending.Base.ID)
		if needed {
			err = tx.SetPointName(rep.ID, id, "")
		} else if err = tx.DeletePoint(rep.ID, id); err == nil {
			dropped = append(dropped, id)
		}
		if err != nil && !block.Is(err, block.NotFound) {
			return nil, err
		}
	}
	return dropped, nil
}

// Gone implements Target.
func (i *inbound) Gone(ctx context.Context) error {
	if i.release == nil {
		return block.Errorf(block.Invalid, "a deletion came before a volume was offered")
	}
	return i.catalog().Update(ctx, func(tx *catalog.Tx) error {
		rep, found, err := i.admit(tx)
		if err != nil || !found || !rep.DeletedAt.IsZero() {
			return err
		}
		rep.DeletedAt = tx.Now
		return tx.UpdateReplica(rep)
	})
}

// Run tidies replicas now and then until ctx ends: it thins points out, deletes
// what crashes left behind, and removes the replicas of volumes that were
// deleted long enough ago. Each store's are tidied by themselves: one that hangs keeps
// those of no other one waiting.
func (r *Receiver) Run(ctx context.Context) error {
	tick := time.NewTicker(r.cfg.KeepEvery)
	defer tick.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	var mu sync.Mutex
	busy := map[string]bool{} // stores; guarded by mu
	for {
		all, err := r.byStore(ctx)
		if err != nil && ctx.Err() == nil {
			r.cfg.Log.Error("tidying replicas failed", "err", err)
		}
		for store, replicas := range all {
			mu.Lock()
			before := busy[store]
			busy[store] = true
			mu.Unlock()
			if before {
				continue
			}
			running.Go(func() {
				r.tidyAll(ctx, replicas)
				mu.Lock()
				defer mu.Unlock()
				delete(busy, store)
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Tidy does once what Run does now and then. Replicas that a stream works on
// are left for the next time.
func (r *Receiver) Tidy(ctx context.Context) error {
	all, err := r.byStore(ctx)
	for _, replicas := range all {
		r.tidyAll(ctx, replicas)
	}
	return cmp.Or(err, ctx.Err())
}

// byStore lists the replicas by the stores that they lie on.
func (r *Receiver) byStore(ctx context.Context) (map[string][]block.Replica, error) {
	all := map[string][]block.Replica{}
	err := r.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		replicas, err := tx.Replicas("")
		clear(all)
		for _, rep := range replicas {
			b, _ := r.cfg.Backends.Backend(rep.Backend)
			all[b.Store] = append(all[b.Store], rep)
		}
		return err
	})
	return all, err
}

// tidyAll tidies replicas one after the other.
func (r *Receiver) tidyAll(ctx context.Context, all []block.Replica) {
	retention := map[block.ProtectionKey]block.Retention{}
	for _, p := range r.cfg.Protections() {
		retention[p.Key()] = p.Retention
	}
	for _, rep := range all {
		release, ok := r.tryClaim(linkKey{rep.SourceZone, rep.Source, rep.Protection}, func() {})
		if !ok {
			continue
		}
		keep, known := retention[rep.Policy()]
		r.tidyReplica(ctx, rep.ID, keep, known)
		release()
		if ctx.Err() != nil {
			return
		}
	}
}

func (r *Receiver) tidyReplica(ctx context.Context, id block.VolumeID, keep block.Retention, known bool) {
	removed, err := r.remove(ctx, id)
	if err == nil && !removed {
		if known {
			r.thin(ctx, id, keep)
		}
		err = r.sweep(ctx, id)
	}
	if err != nil && ctx.Err() == nil {
		r.cfg.Log.Error("tidying a replica failed", "replica", id, "err", err)
	}
}

// remove deletes the replica of a volume that was deleted long enough ago: its
// points first, so that nobody begins to recover from it, then the bytes, then
// the row.
func (r *Receiver) remove(ctx context.Context, id block.VolumeID) (removed bool, err error) {
	var rep block.Replica
	err = r.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		removed = false
		if rep, err = tx.Replica(id); err != nil {
			return err
		}
		pinned, err := tx.PinnedPoints(id)
		if err != nil || len(pinned) > 0 || rep.DeletedAt.IsZero() || tx.Now.Sub(rep.DeletedAt) < r.cfg.AfterDelete {
			return err
		}
		points, err := tx.Points(id)
		if err != nil {
			return err
		}
		for _, p := range points {
			if err := tx.DeletePoint(id, p.ID); err != nil {
				return err
			}
		}
		removed, rep.Newest, rep.Pending = true, block.Point{}, nil
		return tx.UpdateReplica(rep)
	})
	if err != nil || !removed {
		return false, err
	}
	d, err := r.driver(rep)
	if err != nil {
		return false, err
	}
	if err := d.DeleteVolume(ctx, id); err != nil && !block.Is(err, block.NotFound) {
		return false, err
	}
	r.recall.forget(string(id))
	return true, r.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.DeleteReplica(id) })
}

// thin lets points go that a retention does not keep. What fails is done the
// next time; no stream fails for it.
func (r *Receiver) thin(ctx context.Context, id block.VolumeID, keep block.Retention) {
	var rep block.Replica
	var old []block.PointID
	err := r.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		old = nil
		if rep, err = tx.Replica(id); err != nil {
			return err
		}
		points, err := tx.Points(id)
		if err != nil {
			return err
		}
		pinned, err := tx.PinnedPoints(id)
		if err != nil {
			return err
		}
		needed, err := newestWhole(tx, points)
		if err != nil {
			return err
		}
		for _, p := range Thin(points, keep, tx.Now) {
			if pinned[p] || needed[p] || (rep.Pending != nil && p == rep.Pending.Base.ID) {
				continue
			}
			if err := tx.DeletePoint(id, p); err != nil {
				return err
			}
			old = append(old, p)
		}
		return nil
	})
	if err == nil && len(old) > 0 {
		d, derr := r.driver(rep)
		if err = derr; err == nil {
			err = deleteSnapshots(ctx, d, id, old)
		}
	}
	if err != nil && ctx.Err() == nil {
		r.cfg.Log.Error("thinning out points failed", "replica", id, "err", err)
	}
}

// sweep deletes driver snapshots that a crash left behind. The target of the
// pending step is left: the step may be resumed.
func (r *Receiver) sweep(ctx context.Context, id block.VolumeID) error {
	var rep block.Replica
	err := r.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		rep, err = tx.Replica(id)
		return err
	})
	if err != nil || rep.Newest.ID == "" {
		return err
	}
	d, err := r.driver(rep)
	if err != nil {
		return err
	}
	orphans, err := r.orphans(ctx, d, id)
	if err != nil {
		return err
	}
	if rep.Pending != nil {
		for n, name := range orphans {
			if name == rep.Pending.Target.ID {
				orphans = append(orphans[:n], orphans[n+1:]...)
				break
			}
		}
	}
	return deleteSnapshots(ctx, d, id, orphans)
}
