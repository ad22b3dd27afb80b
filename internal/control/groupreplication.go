package control

import (
	"context"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// replicatedGroup returns a group whose type and whose volumes' types say that
// it is replicated, and refuses others (cinder/group/api.py, _check_type).
func (s *Service) replicatedGroup(ctx context.Context, c block.Caller, id block.GroupID, rule string) (g block.Group,
	err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if g, err = groupOf(tx, c, id); err != nil {
			return err
		}
		if err := authorize(c, rule, membersRule, owned(g.Project, g.User)); err != nil {
			return err
		}
		t, err := tx.GroupType(g.Type)
		if err != nil {
			return err
		}
		if !t.Replicated() {
			return block.Errorf(block.Invalid, "Invalid group type: Group %s is not a replication group type.", id)
		}
		for _, of := range g.VolumeTypes {
			vt, err := tx.Type(of)
			if err != nil {
				return err
			}
			if vt.ExtraSpecs["replication_enabled"] != "<is> True" {
				return block.Errorf(block.Invalid, "Invalid volume type: Volume type %s does not have "+
					"'replication_enabled' spec key set to '<is> True'.", of)
			}
		}
		return nil
	})
	return g, err
}

// EnableGroupReplication succeeds for a group that is replicated: all of whose
// types the zone protects. What a zone protects is its operator's to say, so
// nothing is changed here, and any other group is refused.
func (s *Service) EnableGroupReplication(ctx context.Context, c block.Caller, id block.GroupID) error {
	g, err := s.replicatedGroup(ctx, c, id, "group:enable_replication")
	if err != nil {
		return err
	}
	if g.Status != block.GroupAvailable {
		return invalidGroup("Group %s status must be ['available'], but current status is: %s. "+
			"Cannot enable replication.", id, g.Status)
	}
	if len(s.groupTargets(g)) == 0 {
		return invalidGroup("Group %s has volume types that this zone replicates to no common zone. "+
			"Cannot enable replication.", id)
	}
	return nil
}

// DisableGroupReplication is refused: types are protected, not single groups.
func (s *Service) DisableGroupReplication(ctx context.Context, c block.Caller, id block.GroupID) error {
	if _, err := s.replicatedGroup(ctx, c, id, "group:disable_replication"); err != nil {
		return err
	}
	return invalidGroup("Group %s is replicated because its volume types are. Cannot disable replication.", id)
}

// FailoverGroup begins to move all volumes of a group to another zone without
// loss: no host writes to any of them from the commit of one transaction on.
// "" is the only zone to which all of them are replicated. Each goes on there
// as a volume of its own. Volumes that hosts use are refused unless attached
// says that they may be (cinder/group/api.py, failover_replication). Going back
// is said of volumes, in the other zone.
func (s *Service) FailoverGroup(ctx context.Context, c block.Caller, id block.GroupID, to block.Zone,
	attached bool) error {
	g, err := s.replicatedGroup(ctx, c, id, "group:failover_replication")
	if err != nil {
		return err
	}
	if g.Status != block.GroupAvailable {
		return invalidGroup("Group %s status must be ['available'], but current status is: %s. "+
			"Cannot failover replication.", id, g.Status)
	}
	targets := s.groupTargets(g)
	if to == "" && len(targets) == 1 {
		to = targets[0]
	}
	if !slices.Contains(targets, to) {
		return invalidGroup("Group %s has no replication target '%s'. Cannot failover replication.", id, to)
	}
	moves, err := s.groupMoves(ctx, c, id, to, attached)
	if err != nil {
		return err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		for i := range moves {
			v, err := volumeOf(tx, c, moves[i].Volume)
			if err == nil {
				err = s.beginFailover(tx, c, v, &moves[i])
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range moves {
		s.exports.revokeWritable(f.Volume)
		s.changed(f.Volume)
	}
	s.log.Info("a planned failover of a group began", "group", id, "peer", to, "volumes", len(moves))
	return nil
}

// groupMoves plans the failovers of a group's volumes.
func (s *Service) groupMoves(ctx context.Context, c block.Caller, id block.GroupID, to block.Zone, attached bool) (
	moves []block.Failover, err error,
) {
	var volumes []block.Volume
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		volumes, err = tx.VolumesOfGroup(id)
		return err
	})
	if err == nil && len(volumes) == 0 {
		err = invalidGroup("Group %s has no volumes. Cannot failover replication.", id)
	}
	if err != nil {
		return nil, err
	}
	if err := s.reached(ctx, to); err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if err := authorize(c, "kvol:failover", membersRule, volumeTarget(v)); err != nil {
			return nil, err
		}
		if v.Attached() && !attached {
			return nil, invalidGroup("Volume %s of group %s is attached and allow_attached_volume is not set. "+
				"Cannot failover replication.", v.ID, id)
		}
		f, err := s.planFailover(ctx, v, FailoverRequest{Volume: v.ID, Destination: to})
		if err != nil {
			return nil, err
		}
		moves = append(moves, f)
	}
	return moves, nil
}

// GroupReplicationTargets are the zones into which all types of a group's
// volumes are replicated, by name.
func (s *Service) GroupReplicationTargets(ctx context.Context, c block.Caller, id block.GroupID) ([]block.Zone, error) {
	g, err := s.replicatedGroup(ctx, c, id, "group:list_replication_targets")
	return s.groupTargets(g), err
}

func (s *Service) groupTargets(g block.Group) (zones []block.Zone) {
	for i, t := range g.VolumeTypes {
		var into []block.Zone
		for _, p := range s.ownProtections() {
			if p.Enabled && p.SourceType == t && !slices.Contains(into, p.Destination) {
				into = append(into, p.Destination)
			}
		}
		if i == 0 {
			zones = into
		}
		zones = slices.DeleteFunc(zones, func(z block.Zone) bool { return !slices.Contains(into, z) })
	}
	slices.Sort(zones)
	return zones
}
