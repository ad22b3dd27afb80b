package simtest

import (
	"context"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// groupType is the type of the sagas' groups.
const groupType = block.GroupTypeID("together")

// lineOf finds a volume by what it is called where it lives.
func (s *saga) lineOf(id block.VolumeID) *line {
	i := slices.IndexFunc(s.lines, func(v *line) bool { return v.home.volume == id })
	return s.lines[max(i, 0)]
}

// unite puts the volumes into a group.
func (s *saga) unite() {
	s.call("a", "make a group", func(l *life) error {
		return l.catalog.Update(l.ctx, func(tx *catalog.Tx) error {
			if _, err := tx.GroupType(groupType); err != nil {
				err := tx.InsertGroupType(block.GroupType{ID: groupType, Name: "together", Public: true,
					Specs: map[string]string{"consistent_group_replication_enabled": "<is> True"}})
				if err != nil {
					return err
				}
			}
			if _, err := tx.Group(s.group); err != nil {
				err := tx.InsertGroup(block.Group{ID: s.group, Project: tenant.Project, User: tenant.User,
					Status: block.GroupAvailable, AvailabilityZone: "a", Type: groupType, VolumeTypes: []block.TypeID{typeName}})
				if err != nil {
					return err
				}
			}
			for _, v := range s.lines {
				row, err := tx.Volume(v.home.volume)
				if err != nil {
					return err
				}
				row.GroupID = &s.group
				if err := tx.UpdateVolume(row); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// united reports whether a zone has all volumes as of one instant.
func (s *saga) united(zone block.Zone) bool {
	var have map[block.VolumeID]map[block.PointID]block.Point
	err := s.nodes[zone].catalog.View(context.Background(), func(tx *catalog.Tx) (err error) {
		_, have, err = pointsHere(tx)
		return err
	})
	if err != nil {
		s.violated("zone %s: %w", zone, err)
	}
	var all []block.VolumeID
	for _, v := range s.lines {
		all = append(all, v.home.volume)
	}
	return slices.ContainsFunc(instantsAmong(have), func(in instant) bool { return in.has(all) })
}

// oneCut checks that a group was recovered as of one instant.
func (s *saga) oneCut(steps []block.OperationStep) {
	in := instant{points: map[block.VolumeID]block.Point{}}
	for _, step := range steps {
		if step.Status != block.StepSucceeded {
			return // nothing is served as a group
		}
		if step.Point == nil || step.Point.Cut == nil {
			s.violated("volume %s of a group is recovered as of an instant of its own", step.Source)
			return
		}
		in.points[step.Source] = *step.Point
		if other := steps[0].Point.Cut.ID; step.Point.Cut.ID != other {
			s.violated("the volumes of a group are recovered as of cuts %s and %s", other, step.Point.Cut.ID)
			return
		}
	}
	if len(in.points) != len(s.lines) {
		s.violated("%d volumes of a group of %d are recovered", len(in.points), len(s.lines))
	}
	if err := s.oneInstant(in); err != nil {
		s.violated("a group was recovered: %w", err)
	}
}
