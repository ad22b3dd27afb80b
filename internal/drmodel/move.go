package drmodel

// source are the steps of a planned failover in the volume's zone.
func (m *machine) source(i, n int8) {
	v, f := m.from.Volumes[i], m.from.Moves[i][n]
	if !f.Phase.underWay() || !m.from.Up[v.Zone] {
		return
	}
	step := func(name string, change func(s *State, f *Move)) {
		m.add(name, System, i, f.To, func(s *State) { change(s, &s.Moves[i][n]) })
	}
	back := func(_ *State, f *Move) { f.Phase = Back }
	reach := m.from.linked(v.Zone, f.To)
	switch f.Phase {
	case Draining:
		known := m.from.Copies[i][f.To].Known
		if v.Role == Stale {
			step("recovered meanwhile", back)
			return
		}
		step("drain late", back)
		if known == v.points() || m.Rules.NoDrain {
			step("drained", func(_ *State, f *Move) { f.Phase, f.Point, f.Ordered = Promoting, known, true })
		}
	case Promoting:
		if reach && !(m.Rules.NoRetry && f.Row != RowNone) {
			step("order", func(s *State, f *Move) {
				taken := m.promote(s, i, n)
				switch {
				case f.Row == RowSuccess:
					s.fence(i, f.New)
					f.Phase = Done
				case f.Row == RowFail || !taken:
					f.Phase, f.Leaving = Returning, true
				}
			})
		}
		if !m.Rules.NoRetry {
			step("silence", func(_ *State, f *Move) { f.Phase, f.Leaving = Returning, true })
		}
	default:
		if m.Rules.BackUnasked {
			step("ask to leave", back)
		}
		if reach {
			step("ask to leave", func(s *State, f *Move) {
				if m.leave(s, i, n); f.Row == RowSuccess {
					s.fence(i, f.New)
					f.Phase = Done
					return
				}
				f.Phase = Back
			})
		}
	}
}

// destination are orders whose answers nobody hears.
func (m *machine) destination(i, n int8) {
	f := m.from.Moves[i][n]
	if f.To == None || !m.from.Up[f.To] {
		return
	}
	if f.Ordered {
		m.add("late order", System, i, f.To, func(s *State) { m.promote(s, i, n) })
	}
	if f.Leaving {
		m.add("late leave", System, i, f.To, func(s *State) { m.leave(s, i, n) })
	}
}

// promote is what a destination does that is asked to take over; taken is false
// if it refuses.
func (m *machine) promote(s *State, i, n int8) (taken bool) {
	v, f := s.Volumes[i], &s.Moves[i][n]
	if f.Row != RowNone {
		return f.Row != RowFail
	}
	c, k := s.Copies[i][f.To], m.free()
	if c.Have != f.Point || c.Epoch != v.Epoch || k == None {
		return false
	}
	set := v.at(f.Point)
	s.Volumes[k] = Volume{
		Role:    Filling,
		Zone:    f.To,
		From:    i,
		Planned: true,
		Begin:   set,
		Acked:   set,
		Content: set,
		To:      None,
	}
	f.Row, f.New = RowRunning, k
	return true
}

// leave is what a destination does that is asked to leave the volume.
func (m *machine) leave(s *State, i, n int8) {
	f := &s.Moves[i][n]
	if f.Row == RowSuccess || f.Row == RowNone && m.Rules.LeaveForgets {
		return
	}
	if f.Row == RowRunning {
		s.Volumes[f.New].Role = Failed
	}
	f.Row = RowFail
}

// fill are the ends of a job that fills an incarnation.
func (m *machine) fill(k int8) {
	v := m.from.Volumes[k]
	if v.Role != Filling || !m.from.Up[v.Zone] {
		return
	}
	i, n := v.From, int8(None)
	for j, f := range m.from.Moves[i] {
		if f.New == k {
			n = int8(j)
		}
	}
	m.add("fail", Fault, k, v.Zone, func(s *State) {
		s.Volumes[k].Role = Failed
		if n != None {
			s.Moves[i][n].Row = RowFail
		}
	})
	m.add("take over", System, k, v.Zone, func(s *State) {
		if !v.Planned {
			m.open(s, k)
			return
		}
		c, f := &s.Copies[i][v.Zone], &s.Moves[i][n]
		if (c.Epoch != s.Volumes[i].Epoch || c.Have != f.Point) && !m.Rules.NoFinishCheck {
			s.Volumes[k].Role, f.Row = Failed, RowFail
			return
		}
		epoch := NextEpoch(c.Epoch, v.Zone)
		c.Epoch, c.Fence = epoch, k
		s.Volumes[k].Epoch, s.Volumes[k].Role, f.Row = epoch, Primary, RowSuccess
	})
}

// open ends a forced recovery: the zone of the old volume is told if it can be
// reached, and only then the new one is opened.
func (m *machine) open(s *State, k int8) {
	v := &s.Volumes[k]
	p := s.Volumes[v.From].Zone
	if v.Role = Primary; !s.linked(v.Zone, p) {
		v.Missed |= 1 << p
	} else if !m.Rules.NoTelling {
		s.heard(p, k)
	}
}
