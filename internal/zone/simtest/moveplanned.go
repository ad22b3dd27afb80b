package simtest

import (
	"errors"
	"slices"

	"kvol/internal/block"
	"kvol/internal/control"
)

// planned moves the volumes to another zone; nothing may be lost.
func (s *saga) planned(to block.Zone) {
	if s.group != "" && s.lines[0].home.zone == "a" && s.n(2) == 0 {
		s.plannedGroup(to)
		return
	}
	for _, v := range s.lines {
		if v.home.zone != to && !s.broken() {
			s.plannedOne(v, to)
		}
	}
}

func (s *saga) plannedOne(v *line, to block.Zone) {
	var f block.Failover
	s.call(v.home.zone, "fail over", func(l *life) (err error) {
		f, err = l.control.Failover(l.ctx, tenant, control.FailoverRequest{Volume: v.home.volume, Destination: to})
		if err != nil { // it may have begun, and nobody was told
			if begun, unknown := s.begunFor(l, v); unknown == nil {
				f, err = begun, nil
			}
		}
		return err
	})
	s.followed(v, f, to)
}

// begunFor is the failover of a volume that was begun last.
func (s *saga) begunFor(l *life, v *line) (block.Failover, error) {
	all, err := l.control.Failovers(l.ctx, tenant)
	i := slices.IndexFunc(all, func(f block.Failover) bool { return f.Volume == v.home.volume })
	if err == nil && i < 0 {
		err = block.Errorf(block.NotFound, "no failover of volume %s was begun", v.home.volume)
	}
	if err != nil {
		return block.Failover{}, err
	}
	return all[i], nil
}

// followed waits for the end of a planned failover, and looks at what came of it.
func (s *saga) followed(v *line, f block.Failover, to block.Zone) {
	old := v.home
	s.await("the planned failover", func() bool {
		l := s.nodes[old.zone].now()
		if l == nil {
			return false
		}
		var err error
		if f, err = l.control.FailoverOf(l.ctx, tenant, f.ID); err != nil {
			return false
		}
		return f.Phase.Ended()
	})
	s.schedule.note("the failover: %s %s", f.Phase, f.Message)
	if s.broken() {
		return
	}
	s.tally.add("failovers " + string(f.Phase))
	if f.Phase == block.FailoverDone {
		s.moved(v, place{to, f.Recovered.Volume}, s.nodes[old.zone].clock.now())
	}
}

// plannedGroup moves all volumes of the group to another zone.
func (s *saga) plannedGroup(to block.Zone) {
	var moves []block.Failover
	s.call("a", "fail a group over", func(l *life) error {
		refused := l.control.FailoverGroup(l.ctx, tenant, s.group, to, true)
		moves = nil
		for _, v := range s.lines { // it may have begun, and nobody was told
			f, err := s.begunFor(l, v)
			if err != nil {
				return errors.Join(refused, err)
			}
			moves = append(moves, f)
		}
		return nil
	})
	for i, v := range s.lines {
		if !s.broken() {
			s.followed(v, moves[i], to)
		}
	}
	s.tally.add("failovers of groups")
}
