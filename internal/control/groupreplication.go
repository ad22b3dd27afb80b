package control

import (
	"context"
	"slices"
	"strings"

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

// groupReplication is how the replication of a group's volumes stands.
func (s *Service) groupReplication(g block.Group, members []block.Volume) string {
	covered := len(g.VolumeTypes) > 0
	for _, t := range g.VolumeTypes {
		covered = covered && s.protected(t)
	}
	count := map[string]int{}
	for _, v := range members {
		count[v.ReplicationStatus]++
	}
	switch {
	case len(members) > 0 && count[block.FailedOver] == len(members):
		return block.FailedOver
	case count[block.FailingOver]+count[block.FailedOver] > 0:
		return block.FailingOver
	case g.Unreplicated || !covered:
		return block.ReplicationDisabled
	case count["error"] > 0:
		return "error"
	}
	return block.ReplicationEnabled
}

// EnableGroupReplication has a group's volumes replicated again after
// DisableGroupReplication: what was written meanwhile is sent as a difference,
// if the store still has what the other zone has. What a zone protects is its
// operator's to say: a group of which not all types are protected is refused.
func (s *Service) EnableGroupReplication(ctx context.Context, c block.Caller, id block.GroupID) error {
	g, err := s.replicatedGroup(ctx, c, id, "group:enable_replication")
	if err != nil {
		return err
	}
	if len(s.groupTargets(g)) == 0 {
		return invalidGroup("Group %s has volume types that this zone replicates to no common zone. "+
			"Cannot enable replication.", id)
	}
	return s.replicateGroup(ctx, c, id, true)
}

// DisableGroupReplication ends the replication of a group's volumes. What other
// zones have of them stays as it is, and grows old.
func (s *Service) DisableGroupReplication(ctx context.Context, c block.Caller, id block.GroupID) error {
	if _, err := s.replicatedGroup(ctx, c, id, "group:disable_replication"); err != nil {
		return err
	}
	return s.replicateGroup(ctx, c, id, false)
}

// replicateGroup switches the replication of a group's volumes on or off
// (cinder/group/api.py, enable_replication and disable_replication).
func (s *Service) replicateGroup(ctx context.Context, c block.Caller, id block.GroupID, on bool) error {
	verb, valid := "disable", []string{block.ReplicationEnabled, "error"}
	if on {
		verb, valid = "enable", []string{block.ReplicationDisabled, block.ReplicationEnabled, "error"}
	}
	var members []block.Volume
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		g, err := groupOf(tx, c, id)
		if err != nil {
			return err
		}
		if members, err = tx.VolumesOfGroup(id); err != nil {
			return err
		}
		if g.Status != block.GroupAvailable {
			return invalidGroup("Group %s status must be ['available'], but current status is: %s. "+
				"Cannot %s replication.", id, g.Status, verb)
		}
		if now := s.groupReplication(g, members); !slices.Contains(valid, now) {
			return invalidGroup("Group %s replication status must be ['%s'], but current status is: %s. "+
				"Cannot %s replication.", id, strings.Join(valid, "', '"), now, verb)
		}
		return first(tx.SetGroupReplication(id, on), tx.InsertAudit(block.Audit{User: string(c.User),
			Call: "group " + verb + " replication", Params: string(id), Code: 202}))
	})
	if err != nil {
		return err
	}
	for _, v := range members {
		s.changed(v.ID)
	}
	s.log.Info("the replication of a group was switched", "group", id, "on", on)
	return nil
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
	if g.Unreplicated {
		return invalidGroup("Group %s replication status must be ['enabled'], but current status is: disabled. "+
			"Cannot failover replication.", id)
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
