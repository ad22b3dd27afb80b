package control

import (
	"encoding/json"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/recovery"
)

// candidate is a replica with its committed points from old to new.
type candidate struct {
	block.Replica
	points  []block.Point
	suspect *block.Suspicion // nil for none
	damaged int              // points that are not among points, since they are damaged
}

// newest is the newest point that is not known to be damaged.
func (c candidate) newest() (block.Point, error) {
	p, err := recovery.Newest(c.Replica)
	if err != nil || c.damaged == 0 {
		return p, err
	}
	if len(c.points) == 0 {
		return p, block.Errorf(block.Unavailable, "All %d points of volume %s here are damaged.", c.damaged, c.Source)
	}
	return c.points[len(c.points)-1], nil
}

// load reads what a choice among a replica's points depends on.
func (c *candidate) load(tx *catalog.Tx) (err error) {
	all, err := tx.Points(c.ID)
	if err == nil {
		c.points, c.damaged, err = whole(tx, c.ID, all)
	}
	if err != nil {
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
	newest, err := c.newest()
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
// volumes are of the same instant: the group snapshot, or the common cut.
func (c candidate) instants() map[string]block.Point {
	all := map[string]block.Point{}
	for _, p := range c.points {
		if p.Cut != nil {
			all[p.Cut.ID] = p
		}
		i := slices.IndexFunc(c.Entry.Snapshots, func(s block.Snapshot) bool { return block.PointID(s.ID) == p.ID })
		if i >= 0 && c.Entry.Snapshots[i].GroupSnapshotID != nil {
			all[string(*c.Entry.Snapshots[i].GroupSnapshotID)] = p
		}
	}
	return all
}

// chooseInstant finds the newest instant that all members of a group have a
// point of, and that is not younger than a choice wants. Where there is none, it
// is one of which all volumes have their point that were cut then: others were
// new, or failed. The points are by the index of the member.
func chooseInstant(members []candidate, choice block.PointChoice) (best map[int]block.Point, ok bool) {
	all := map[string]map[int]block.Point{}
	for i, m := range members {
		for key, p := range m.instants() {
			if choice.At != nil && p.At.After(*choice.At) || choice.LastClean && !clean(members, p) {
				continue
			}
			if all[key] == nil {
				all[key] = map[int]block.Point{}
			}
			all[key][i] = p
		}
	}
	var bestAt time.Time
	for _, points := range all {
		var one block.Point
		for _, p := range points {
			one = p
		}
		whole := len(points) == len(members)
		if !whole && (one.Cut == nil || len(points) < one.Cut.Members) {
			continue
		}
		if better := whole && len(best) < len(members); best == nil || better ||
			whole == (len(best) == len(members)) && one.At.After(bestAt) {
			best, bestAt = points, one.At
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
