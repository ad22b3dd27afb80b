package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// MaxKeeps is how many pins and holds the points of a replica may have, and
// MaxProjectKeeps those of a project's volumes together. What the zone keeps by
// itself is beside them.
const (
	MaxKeeps        = 64
	MaxProjectKeeps = 1000

	maxKeepName = 255                       // bytes
	maxHold     = 10 * 365 * 24 * time.Hour // that a hold may last from now on
	holdTick    = time.Minute               // how often the hold clock is moved
	maxTick     = 2 * holdTick              // that it is moved at once
	endedAtOnce = 1000                      // holds
	keepRule    = "kvol:keep"
)

// KeepRequest asks for a point to be kept: pinned, or held where Until or For is
// given. Point is a point's id, the id or the name of a tenant's snapshot,
// "newest" or "last_clean".
type KeepRequest struct {
	Zone   block.Zone
	Volume block.VolumeID
	Point  string
	Name   string
	Until  time.Time
	For    time.Duration // from now on; 0 for none
}

// KeepPoint pins or holds a recovery point of a volume of another zone.
func (s *Service) KeepPoint(ctx context.Context, c block.Caller, req KeepRequest) (k block.Keep, err error) {
	if len(req.Name) > maxKeepName {
		return k, block.Errorf(block.Invalid, "A name has at most %d bytes.", maxKeepName)
	}
	policies := s.protectionsInto(req.Zone)
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		r, p, err := keptPoint(tx, c, policies, req)
		if err != nil {
			return err
		}
		project := r.Entry.Volume.Project
		if err := authorize(c, keepRule, membersRule, owned(project, "")); err != nil {
			return err
		}
		k = block.Keep{ID: block.NewID(), Kind: block.KeepPin, SourceZone: r.SourceZone, Source: r.Source, Replica: r.ID,
			Point: p.ID, Project: project, User: c.User, Name: req.Name}
		return first(hold(tx, &k, req.Until, req.For), roomForKeep(tx, k), tx.InsertKeep(&k), auditKeep(tx, c, "keep", k))
	})
	return k, err
}

// keptPoint finds the replica and the point that a request means.
func keptPoint(tx *catalog.Tx, c block.Caller, policies []block.Protection, req KeepRequest) (
	best block.Replica, point block.Point, err error,
) {
	err = block.Errorf(block.NotFound, "A replica of volume %s of zone %s could not be found.", req.Volume, req.Zone)
	for _, policy := range policies {
		r, found := tx.ReplicaOf(req.Zone, req.Volume, policy.Seq)
		if block.Is(found, block.NotFound) || found == nil && !sees(c, r.Entry.Volume.Project) {
			continue
		}
		if found != nil {
			return best, point, found
		}
		one := candidate{Replica: r}
		if err := one.load(tx); err != nil {
			return best, point, err
		}
		choice := block.PointChoice{Name: req.Point}
		switch req.Point {
		case "newest":
			choice = block.PointChoice{}
		case "last_clean":
			choice = block.PointChoice{LastClean: true}
		}
		p, why := choosePoint(one, choice)
		if why == nil && (err != nil || p.At.After(point.At)) {
			best, point, err = r, p, nil
		} else if why != nil && err != nil {
			err = why
		}
	}
	return best, point, err
}

// hold makes a keep one that lasts until a time, where one is given. It never
// makes it shorter.
func hold(tx *catalog.Tx, k *block.Keep, until time.Time, lasts time.Duration) error {
	if until.IsZero() && lasts == 0 {
		return nil
	}
	if lasts != 0 {
		until = tx.Now.Add(lasts)
	}
	lasts = until.Sub(tx.Now)
	switch {
	case lasts <= 0:
		return block.Errorf(block.Invalid, "A hold ends in the future.")
	case lasts > maxHold:
		return block.Errorf(block.Invalid, "A hold lasts at most %d days.", maxHold/(24*time.Hour))
	case k.Kind == block.KeepHold && until.Before(k.Until):
		return block.Errorf(block.Conflict, "A hold can't be made shorter; this one lasts until %s.",
			k.Until.UTC().Format(time.RFC3339))
	}
	clock, err := tx.HoldClock()
	k.Kind, k.Until = block.KeepHold, until.UTC()
	k.Ends = max(k.Ends, clock.Tick(lasts, lasts).Reading)
	return err
}

// roomForKeep refuses a keep that is one too many.
func roomForKeep(tx *catalog.Tx, k block.Keep) error {
	ofReplica, ofProject, err := tx.CountKeeps(k.Replica, k.Project)
	switch {
	case err != nil:
		return err
	case ofReplica >= MaxKeeps:
		return block.Errorf(block.OverLimit, "The points of a replica have at most %d pins and holds.", MaxKeeps)
	case ofProject >= MaxProjectKeeps:
		return block.Errorf(block.OverLimit, "A project has at most %d pins and holds.", MaxProjectKeeps)
	}
	return nil
}

// ChangeKeep renames a keep, lengthens a hold, or makes a hold of a pin. name is
// nil for the one it has.
func (s *Service) ChangeKeep(ctx context.Context, c block.Caller, id string, name *string, until time.Time,
	lasts time.Duration,
) (k block.Keep, err error) {
	if name != nil && len(*name) > maxKeepName {
		return k, block.Errorf(block.Invalid, "A name has at most %d bytes.", maxKeepName)
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if k, err = keepOf(tx, c, id); err != nil {
			return err
		}
		if name != nil {
			k.Name = *name
		}
		return first(hold(tx, &k, until, lasts), tx.UpdateKeep(k), auditKeep(tx, c, "lengthen", k))
	})
	return k, err
}

// ReleaseKeep takes a pin off. A hold is a Conflict, for everybody: it ends by
// itself.
func (s *Service) ReleaseKeep(ctx context.Context, c block.Caller, id string) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		k, err := keepOf(tx, c, id)
		if err != nil {
			return err
		}
		if k.Kind == block.KeepHold {
			return block.Errorf(block.Conflict, "A hold can't be taken off; this one lasts until %s.",
				k.Until.UTC().Format(time.RFC3339))
		}
		return first(tx.DeleteKeep(k), auditKeep(tx, c, "release", k))
	})
}

// keepOf returns a keep that the caller may change.
func keepOf(tx *catalog.Tx, c block.Caller, id string) (block.Keep, error) {
	k, err := tx.Keep(id)
	if err == nil && !sees(c, k.Project) {
		err = block.Errorf(block.NotFound, "Pin or hold %s could not be found.", id)
	}
	if err == nil {
		err = authorize(c, keepRule, membersRule, owned(k.Project, k.User))
	}
	if err != nil {
		return block.Keep{}, err
	}
	return k, nil
}

func auditKeep(tx *catalog.Tx, c block.Caller, call string, k block.Keep) error {
	params := fmt.Sprintf("%s %s point=%s volume=%s", k.ID, k.Kind, k.Point, k.Source)
	if k.Kind == block.KeepHold {
		params += " until=" + k.Until.UTC().Format(time.RFC3339)
	}
	return tx.InsertAudit(block.Audit{User: string(c.User), Call: "point " + call, Params: params, Code: 200})
}

// Keeps lists pins and holds of points in this zone, at most 10,000: all for
// administrators, for others those of their project's volumes.
func (s *Service) Keeps(ctx context.Context, c block.Caller) (all []block.Keep, err error) {
	const most = 10000
	project := c.Project
	if c.Admin() {
		project = ""
	} else if project == "" {
		return nil, nil
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err = tx.Keeps(project, most)
		return err
	})
	slices.SortFunc(all, func(a, b block.Keep) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return all, err
}

// RunKeeps moves the zone's hold clock, and ends holds whose time is over, until
// ctx ends.
func (s *Service) RunKeeps(ctx context.Context) error {
	tick := time.NewTicker(holdTick)
	defer tick.Stop()
	before := s.now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := s.now()
		if err := s.EndHolds(ctx, now.Sub(before)); err != nil && ctx.Err() == nil {
			s.log.Error("holds of recovery points could not be looked at", "err", err)
		}
		before = now
	}
}

// EndHolds moves the hold clock by what passed since the last time, as the clock
// of the machine has it, and takes off what is over.
func (s *Service) EndHolds(ctx context.Context, passed time.Duration) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		clock, err := tx.HoldClock()
		if err != nil {
			return err
		}
		clock = clock.Tick(passed, maxTick)
		ended, err := tx.EndedHolds(clock, endedAtOnce)
		if err := first(err, tx.SetHoldClock(clock)); err != nil {
			return err
		}
		if err := tx.EndLeases(tx.Now, ""); err != nil {
			return err
		}
		for _, k := range ended {
			if err := first(tx.DeleteKeep(k), auditKeep(tx, block.Caller{}, "hold ended", k)); err != nil {
				return err
			}
		}
		return nil
	})
}
