package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

const jobUndo = "dr.undo"

// beginUndo has what only a stale volume has kept. It belongs into the
// transaction that makes the volume stale; a second time it changes nothing.
func beginUndo(tx *catalog.Tx, v block.Volume, to block.Recovered, rival bool) error {
	_, err := tx.Stale(v.ID)
	if !block.Is(err, block.NotFound) {
		return err
	}
	s := block.StalePrimary{
		Volume: v.ID,
		Common: to.Point,
		Undo:   block.PointID(block.NewID()),
		State:  block.StaleComparing,
		At:     tx.Now,
		Rival:  rival,
	}
	if rival && v.RecoveredFrom != nil {
		s.Common = v.RecoveredFrom.Point.ID
	}
	return first(tx.PutStale(s), enqueue(tx, jobUndo, string(v.ID), nil))
}

// runUndo names what a stale volume is now and finds out what of it nobody else
// has. Nothing writes to the volume any more.
func (s *Service) runUndo(ctx context.Context, t *job.Task) error {
	var v block.Volume
	var kept block.StalePrimary
	var links []catalog.Link
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if v, err = tx.Volume(block.VolumeID(t.Job.Subject)); err != nil {
			return err
		}
		if kept, err = tx.Stale(v.ID); err != nil {
			return err
		}
		links, err = tx.LinksOf(v.ID)
		return err
	})
	if block.Is(err, block.NotFound) || err == nil && kept.State != block.StaleComparing {
		return nil // it was deleted, or this is done
	}
	if err != nil {
		return err
	}
	s.exports.revokeWritable(v.ID)
	if err := s.settleHosts(ctx, v.ID); err != nil {
		return err
	}
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return err
	}
	undo := driver.SnapshotRef{Volume: v.ID, Name: kept.Undo}
	if err := store.CreateSnapshot(ctx, undo); err != nil {
		return err
	}
	if kept.Common, err = s.common(ctx, store, kept, links); err != nil {
		return err
	}
	if err := diverged(ctx, store, &kept, undo); err != nil {
		return err
	}
	kept.State, kept.Until = block.StaleKept, kept.At.Add(s.cfg.DR.keepUndo())
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if kept.Bytes > 0 {
			return tx.PutStale(kept)
		}
		kept.State, kept.Undo, kept.Until = block.StaleEqual, "", time.Time{}
		return first(tx.PutStale(kept), dropPoint(tx, v.Backend, undo))
	})
}

// common is the point as which the volume lives on if it is still there, else
// one that a destination has confirmed. A rival lives on as nothing of its own:
// with whoever won it shares at most what it began as.
func (s *Service) common(ctx context.Context, store driver.Driver, kept block.StalePrimary, links []catalog.Link) (
	block.PointID, error,
) {
	all, err := store.Snapshots(ctx, kept.Volume)
	if err != nil {
		return "", err
	}
	var found block.PointID
	for _, i := range all {
		if i.Name == kept.Common {
			return i.Name, nil
		}
		for _, l := range links {
			if !kept.Rival && l.Confirmed.ID == i.Name {
				found = i.Name
			}
		}
	}
	return found, nil
}

// diverged fills in what differs between the common point and the snapshot,
// block by block.
func diverged(ctx context.Context, store driver.Driver, kept *block.StalePrimary, undo driver.SnapshotRef) error {
	kept.Bytes, kept.Ranges, kept.More = 0, nil, 0
	now, err := store.OpenSnapshot(ctx, undo)
	if err != nil {
		return err
	}
	var before driver.Reader
	var from driver.SnapshotRef
	if kept.Common != "" {
		from = driver.SnapshotRef{Volume: kept.Volume, Name: kept.Common}
		if before, err = store.OpenSnapshot(ctx, from); err != nil {
			return errors.Join(err, now.Close())
		}
		defer before.Close()
	}
	for e, diffErr := range driver.Diff(ctx, store, from, undo) {
		if err = diffErr; err != nil {
			break
		}
		if err = compareBlocks(kept, before, now, e); err != nil {
			break
		}
	}
	return errors.Join(err, now.Close())
}

func compareBlocks(kept *block.StalePrimary, before, now driver.Reader, e driver.Extent) error {
	var a, b [driver.BlockSize]byte
	for off := e.Off; off < e.End(); off += driver.BlockSize {
		n := min(driver.BlockSize, e.End()-off)
		clear(a[:])
		if before != nil && off < before.Size() {
			if _, err := before.ReadAt(a[:min(n, before.Size()-off)], off); err != nil {
				return err
			}
		}
		if _, err := now.ReadAt(b[:n], off); err != nil {
			return err
		}
		if bytes.Equal(a[:n], b[:n]) {
			continue
		}
		kept.Bytes += n
		last := len(kept.Ranges) - 1
		switch {
		case last >= 0 && kept.Ranges[last].Off+kept.Ranges[last].Len == off:
			kept.Ranges[last].Len += n
		case last+1 == block.MaxStaleRanges:
			kept.More++
		default:
			kept.Ranges = append(kept.Ranges, block.Range{Off: off, Len: n})
		}
	}
	return nil
}

// expireUndo lets go of the snapshots of stale volumes whose time is over. The
// volumes themselves stay.
func (s *Service) expireUndo(ctx context.Context) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		overdue, err := tx.OverdueStales()
		for _, kept := range overdue {
			v, err := tx.Volume(kept.Volume)
			if err != nil {
				return err
			}
			undo := driver.SnapshotRef{Volume: v.ID, Name: kept.Undo}
			kept.State, kept.Undo, kept.Until = block.StaleExpired, "", time.Time{}
			params, err := json.Marshal(kept.Volume)
			if err != nil {
				return err
			}
			audit := block.Audit{Call: "undo expired", Params: string(params), Code: 200}
			if err := first(tx.PutStale(kept), dropPoint(tx, v.Backend, undo), tx.InsertAudit(audit)); err != nil {
				return err
			}
		}
		return err
	})
}

// StaleVolume is a stale primary with what is kept of it.
type StaleVolume struct {
	block.StalePrimary
	Of block.Volume
}

// StaleVolumes lists the volumes of this zone that were recovered in another
// one: all for administrators, for others those of their project.
func (s *Service) StaleVolumes(ctx context.Context, c block.Caller) (list []StaleVolume, err error) {
	project := c.Project
	if c.Admin() {
		project = ""
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list = nil
		all, err := tx.Stales(project)
		for _, kept := range all {
			v, err := tx.Volume(kept.Volume)
			if err != nil {
				return err
			}
			list = append(list, StaleVolume{kept, v})
		}
		return err
	})
	return list, err
}
