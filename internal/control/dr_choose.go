package control

import (
	"encoding/json"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/recovery"
)

// candidate is a replica with its committed points from old to new.
type candidate struct {
	block.Replica
	points  []block.Point
	suspect *block.Suspicion // nil for none
}

// load reads what a choice among a replica's points depends on.
func (c *candidate) load(tx *catalog.Tx) (err error) {
	if c.points, err = tx.Points(c.ID); err != nil {
		return err
	}
	var meter json.RawMessage
	c.suspect, err = tx.Churn(c.ID, &meter)
	return err
}

// lastClean is the newest point that is older than what looks like sudden
// encryption.
func (c candidate) lastClean() (block.Point, error) {
	for _, p := range slices.Backward(c.points) {
		if c.suspect == nil || p.At.Before(c.suspect.Since) {
			return p, nil
		}
	}
	return block.Point{}, block.Errorf(block.NotFound, "No point of volume %s is left from before %s, when it began to "+
		"look as if it were being encrypted.", c.Source, c.suspect.Since.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// group is the group of the source, "" for none.
func (c candidate) group() block.GroupID {
	if id := c.Entry.Volume.GroupID; id != nil {
		return *id
	}
	return ""
}

// choosePoint finds the point that a choice means among a replica's: NotFound
// where none is as old, or called so, Unavailable where there is none at all.
func choosePoint(c candidate, choice block.PointChoice) (block.Point, error) {
	newest, err := recovery.Newest(c.Replica)
	switch {
	case err != nil:
		return block.Point{}, err
	case choice.LastClean:
		return c.lastClean()
	case choice.Name != "":
		return c.named(choice.Name)
	case choice.At == nil || !newest.At.After(*choice.At):
		return newest, nil
	}
	for _, p := range slices.Backward(c.points) {
		if !p.At.After(*choice.At) {
			return p, nil
		}
	}
	return block.Point{}, block.Errorf(block.NotFound, "No point of volume %s is as old; the oldest is of %s.",
		c.Source, c.points[0].At.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// named finds a point by its id, or by a tenant's snapshot or group snapshot.
func (c candidate) named(name string) (block.Point, error) {
	var found []block.Point
	for _, p := range c.points {
		if string(p.ID) == name {
			return p, nil
		}
		i := slices.IndexFunc(c.Entry.Snapshots, func(s block.Snapshot) bool { return block.PointID(s.ID) == p.ID })
		if i < 0 {
			continue
		}
		s := c.Entry.Snapshots[i]
		if s.Name != nil && *s.Name == name || s.GroupSnapshotID != nil && string(*s.GroupSnapshotID) == name {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return block.Point{}, block.Errorf(block.NotFound, "Volume %s has no point called %q here.", c.Source, name)
	case 1:
		return found[0], nil
	}
	return block.Point{}, block.Errorf(block.Conflict, "Volume %s has %d points called %q; an id says which.", c.Source,
		len(found), name)
}

// instants are the points of a replica by what tells that those of other
// volumes are of the same instant: the group snapshot, or the time of a common
// cut.
func (c candidate) instants() map[string]block.Point {
	all := map[string]block.Point{}
	for _, p := range c.points {
		all[p.At.UTC().String()] = p
		i := slices.IndexFunc(c.Entry.Snapshots, func(s block.Snapshot) bool { return block.PointID(s.ID) == p.ID })
		if i >= 0 && c.Entry.Snapshots[i].GroupSnapshotID != nil {
			all[string(*c.Entry.Snapshots[i].GroupSnapshotID)] = p
		}
	}
	return all
}

// chooseInstant finds the newest instant that all members of a group have a
// point of, and that is not younger than a choice wants. The points are in the
// order of the members.
func chooseInstant(members []candidate, choice block.PointChoice) (best []block.Point, ok bool) {
	all := make([]map[string]block.Point, len(members))
	for i, m := range members {
		all[i] = m.instants()
	}
	for key, p := range all[0] {
		late := choice.At != nil && p.At.After(*choice.At) || choice.LastClean && !clean(members, p)
		if late || best != nil && !p.At.After(best[0].At) {
			continue
		}
		points := make([]block.Point, 0, len(members))
		for _, instants := range all {
			if p, ok := instants[key]; ok {
				points = append(points, p)
			}
		}
		if len(points) == len(members) {
			best = points
		}
	}
	return best, best != nil
}

// clean reports whether a point is older than what looks suspicious in any of
// some volumes.
func clean(members []candidate, p block.Point) bool {
	return !slices.ContainsFunc(members, func(c candidate) bool {
		return c.suspect != nil && !p.At.Before(c.suspect.Since)
	})
}

// candidatesOf are the replicas of the volumes that a scope means and a caller
// may see: for each volume that with the newest point. Whole zones, projects and
// groups leave out what was deleted in its zone.
func candidatesOf(tx *catalog.Tx, c block.Caller, scope block.RecoveryScope) ([]candidate, error) {
	all, err := tx.Replicas(scope.Zone)
	if err != nil {
		return nil, err
	}
	type source struct {
		zone   block.Zone
		volume block.VolumeID
	}
	best := map[source]int{}
	var found []candidate
	for _, r := range all {
		if !sees(c, r.Entry.Volume.Project) || !inScope(scope, r) {
			continue
		}
		key := source{r.SourceZone, r.Source}
		i, again := best[key]
		if again && !r.Newest.At.After(found[i].Newest.At) {
			continue
		}
		one := candidate{Replica: r}
		if err := one.load(tx); err != nil {
			return nil, err
		}
		if again {
			found[i] = one
			continue
		}
		best[key] = len(found)
		found = append(found, one)
	}
	return found, nil
}

// inScope reports whether a scope means a replica's source.
func inScope(scope block.RecoveryScope, r block.Replica) bool {
	v := r.Entry.Volume
	switch {
	case len(scope.Volumes) > 0:
		return slices.Contains(scope.Volumes, r.Source)
	case !r.DeletedAt.IsZero():
		return false
	case scope.Group != "":
		return v.GroupID != nil && *v.GroupID == scope.Group
	case scope.Project != "":
		return v.Project == scope.Project
	}
	return true
}
