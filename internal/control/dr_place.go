package control

import (
	"context"
	"errors"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
	"kvol/internal/placement"
	"kvol/internal/recovery"
)

var whileRecovering = []block.VolumeStatus{block.VolumeCreating}

// recoveredAt is what is asked of the place of a volume that is made of a replica: a
// clone costs least, and other zones will do unless one was asked for.
func (s *Service) recoveredAt(t *block.VolumeType, v block.Volume, near string) placement.Request {
	r := placement.Request{Size: v.Size, Specs: t.ExtraSpecs, Near: near}
	if v.AvailabilityZone != "" {
		r.Zones = []string{v.AvailabilityZone}
	}
	if only := s.defaultBackend(t); only != "" {
		r.Only = []string{only}
	}
	return r
}

// placeRecovered chooses the backend of a volume that is made of a replica, as that
// of a new one. Where filters refuse all, a recovery is tried all the same: in
// another availability zone if none was asked for, or else where its type may lie.
func (s *Service) placeRecovered(tx *catalog.Tx, v *block.Volume, t block.VolumeType, near string, zoned bool) error {
	r := s.recoveredAt(&t, *v, near)
	d, err := s.place(tx, r, s.protected(v.TypeID))
	if err == nil && d.Backend() == "" && !zoned {
		r.Zones = nil
		d, err = s.place(tx, r, s.protected(v.TypeID))
	}
	if err != nil {
		return err
	}
	if v.Backend = d.Backend(); v.Backend == "" {
		if v.Backend, err = s.nearest(&t, near); err != nil {
			return err
		}
		s.log.Warn("a volume is recovered where filters refuse it", "volume", v.ID, "backend", v.Backend,
			"refused", d.String())
	}
	if !zoned {
		s.inZoneOf(v)
	}
	return nil
}

// inZoneOf gives a volume an availability zone that its backend is in.
func (s *Service) inZoneOf(v *block.Volume) {
	own := s.cfg.Placing.Backends[v.Backend].Zones
	if len(own) > 0 && !slices.Contains(own, v.AvailabilityZone) {
		v.AvailabilityZone = own[0]
	}
}

// nearest is the holder of a type that lies on a backend's store, or else the first.
func (s *Service) nearest(t *block.VolumeType, near string) (string, error) {
	names := s.holders(t)
	i := slices.IndexFunc(names, func(n string) bool { return s.backends.Shared(n, near) })
	if i >= 0 {
		return names[i], nil
	}
	return s.backendOf(t)
}

// recoverElsewhere finds another backend for a volume that could not be made of a
// replica on its own: one that is full, or that does not answer where the replica
// lies in another store.
func (s *Service) recoverElsewhere(ctx context.Context, j block.JobID, o recovery.Order, v block.Volume, cause error) (
	moved bool, err error,
) {
	if !block.Is(cause, block.NoSpace) &&
		(!block.Is(cause, block.Unavailable) || s.backends.Shared(v.Backend, o.Backup)) {
		return false, nil
	}
	var t block.VolumeType
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		t, err = tx.Type(v.TypeID)
		return err
	})
	if err != nil {
		return false, err
	}
	r, p := s.recoveredAt(&t, v, o.Backup), placed{what: "recover", size: v.Size, failed: cause, also: s.liesIn(o)}
	moved, err = s.tryElsewhere(ctx, j, v, r, p, whileRecovering)
	if moved || err != nil || o.Zoned {
		return moved, err
	}
	r.Zones = nil // nobody asked for this one
	return s.tryElsewhere(ctx, j, v, r, p, whileRecovering)
}

// liesIn has the kvol API name the backend that a recovered volume was moved to.
func (s *Service) liesIn(o recovery.Order) func(*catalog.Tx, block.Volume) error {
	return func(tx *catalog.Tx, v block.Volume) error {
		if o.Rowkey == 0 {
			return nil
		}
		row, err := tx.DRJob(o.Kind, o.Rowkey)
		if err != nil {
			return err
		}
		b, _ := s.backends.Backend(v.Backend)
		row.DestinationSVM = b.SVMName
		return tx.UpdateDRJob(row)
	}
}

// tryElsewhere gives a volume that is being made another backend, if one will do and
// not too many were tried. What the failed one has of it is removed by a job.
func (s *Service) tryElsewhere(ctx context.Context, j block.JobID, of block.Volume, want placement.Request, p placed,
	in []block.VolumeStatus) (moved bool, err error) {
	if err := s.measureRooms(ctx); err != nil {
		return false, err
	}
	err = s.finish(ctx, of.ID, in, func(tx *catalog.Tx, v block.Volume) error {
		r := want
		before, err := tx.Placements(v.ID, 0, s.cfg.Placing.attempts())
		if err != nil {
			return err
		}
		p.volume, p.decision = v, placement.Decision{}
		b, _ := s.backends.Backend(v.Backend)
		r.Tried = append(slices.Clone(r.Tried), b.Store)
		for _, e := range before {
			b, _ := s.backends.Backend(e.Failed)
			r.Tried = append(r.Tried, b.Store)
		}
		if len(before)+1 >= s.cfg.Placing.attempts() {
			return nil
		}
		if p.decision, err = s.place(tx, r, s.protected(v.TypeID)); err != nil || p.decision.Backend() == "" {
			return err
		}
		from := v.Backend
		v.Backend = p.decision.Backend()
		s.inZoneOf(&v)
		if p.also != nil {
			if err := p.also(tx, v); err != nil {
				return err
			}
		}
		return first(tx.UpdateVolume(v), p.keep(tx), endMove(tx, moveEndArgs{Job: j, Volume: v.ID, From: from, To: from}))
	})
	if err != nil || p.decision.Backend() == "" {
		return false, err
	}
	s.tellPlaced(ctx, p)
	return true, nil
}

// otherBackend reports whether another backend may help a job that failed.
func otherBackend(ctx context.Context, place *placement.Request, cause error) bool {
	var failed errBackend
	return place != nil && ctx.Err() == nil && !job.Waits(cause) && !errors.Is(cause, errUnwanted) &&
		!errors.Is(cause, errNoScratch) &&
		(errors.As(cause, &failed) || block.Is(cause, block.NoSpace))
}
