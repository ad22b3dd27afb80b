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
				case f.Row == RowFail && s.elsewhere(i, f.To):
					f.Phase = Back
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
				s.elsewhere(i, f.To)
				f.Phase = Back
			})
		}
	}
}

// elsewhere has a volume's zone hear from a destination that did not take it over
// where it was recovered otherwise, if the destination knows.
func (s *State) elsewhere(i, to int8) bool {
	c := s.Copies[i][to]
	for _, by := range []int8{c.Fence, c.Lives} {
		if by != None && s.Volumes[by].Epoch > s.Volumes[i].Epoch {
			s.fence(i, by)
			return true
		}
	}
	return false
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
	if m.Zones > 2 && !m.contest(s, i, f.To) {
		f.Row = RowFail
		return true
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
	if m.Rules.FailedOpens && v.Role == Failed && v.Epoch > 0 {
		m.add("reset", User, k, v.Zone, func(s *State) { s.Volumes[k].Role = Primary })
	}
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
			s.Copies[i][v.Zone].Bid = 0
		}
	})
	if !v.Planned && m.from.Cuts < m.Cuts && m.from.linked(v.Zone, m.from.Volumes[i].Zone) {
		m.add("take over untold", Fault, k, v.Zone, func(s *State) {
			s.Cuts++
			m.open(s, k, true)
		})
	}
	m.add("take over", System, k, v.Zone, func(s *State) {
		if !v.Planned {
			m.open(s, k, false)
			return
		}
		c, f := &s.Copies[i][v.Zone], &s.Moves[i][n]
		outdone := m.Zones > 2 && !s.stands(i, v.Zone) && !m.Rules.NoBids && !m.Rules.NoStanding
		if (outdone || c.Epoch != s.Volumes[i].Epoch || c.Have != f.Point) && !m.Rules.NoFinishCheck {
			s.Volumes[k].Role, f.Row, c.Bid = Failed, RowFail, 0
			return
		}
		epoch := max(m.epoch(c.Epoch, v.Zone), c.Bid)
		c.Epoch, c.Fence, c.Lives, c.Bid = epoch, k, None, 0
		s.Volumes[k].Epoch, s.Volumes[k].Role, f.Row = epoch, Primary, RowSuccess
	})
}

// open ends a forced recovery: the zone of the old volume is told if it can be
// reached and answers in time, and only then the new one is opened.
func (m *machine) open(s *State, k int8, late bool) {
	v := &s.Volumes[k]
	p := s.Volumes[v.From].Zone
	if v.Role = Primary; v.To != None {
		v.Role = Stale // of rivals it is the lower one
	}
	if late || !s.linked(v.Zone, p) {
		v.Missed |= 1 << p
	} else if !m.Rules.NoTelling {
		m.heard(s, p, k)
	}
}
