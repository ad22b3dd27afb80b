package drmodel

// bids are the steps by which a zone recovers a volume by force where there are
// third zones: it bids, they grant, and then the epoch rises. The volume's own
// zone is not asked: it may be lost.
func (m *machine) bids(i, z int8) {
	v, c := m.from.Volumes[i], m.from.Copies[i][z]
	if !m.from.Up[z] {
		return
	}
	if m.recoverable(i, z) && !c.Asks {
		m.add("bid", User, i, z, func(s *State) {
			m.place(s, i, z)
			s.Copies[i][z].Asks, s.Copies[i][z].Heard = true, 0
			s.Forced++
		})
	}
	if !c.Asks {
		return
	}
	missing := uint8(0)
	for p := range int8(m.Zones) {
		if p == z || p == v.Zone || c.Heard&(1<<p) != 0 {
			continue
		}
		if missing |= 1 << p; m.from.linked(z, p) {
			m.grant(i, z, p)
		}
	}
	m.add("give up", System, i, z, func(s *State) { s.withdraw(i, z) })
	silent := true // who is missing is cut off or dead, and an operator answers for it
	for p := range int8(m.Zones) {
		silent = silent && (missing&(1<<p) == 0 || !m.from.linked(z, p))
	}
	if k := m.free(); (silent || m.Rules.NoBids) && k != None && c.Fence == None {
		m.add("recover", User, i, z, func(s *State) {
			if !s.stands(i, z) && !m.Rules.NoStanding {
				s.withdraw(i, z)
				return
			}
			s.force(i, z, k, c.Bid)
			if silent {
				s.Volumes[k].Excused = missing
			}
		})
	}
}

// grant is what a zone says to another one's bid.
func (m *machine) grant(i, z, p int8) {
	bid := m.from.Copies[i][z].Bid
	granted, above := m.from.decide(i, z, p, bid)
	m.add("grant", System, i, p, func(s *State) {
		switch {
		case granted:
			s.Copies[i][z].Heard |= 1 << p
			m.note(s, i, z, p, bid)
		case above > 0:
			s.Copies[i][z].Bid, s.Copies[i][z].Heard = m.epoch(max(above, s.seen(i, z)), z), 0
		default:
			s.withdraw(i, z)
		}
	})
	if granted {
		m.add("late grant", System, i, p, func(s *State) { m.note(s, i, z, p, bid) })
	}
}

// note is a grant that is written down.
func (m *machine) note(s *State, i, z, p int8, bid uint8) {
	if !m.Rules.GrantForgets {
		s.Copies[i][p].Granted[z] = bid
	}
}

// decide is what zone p says to a bid of zone z: that it grants it, above which
// epoch it would, or neither.
func (s *State) decide(i, z, p int8, bid uint8) (granted bool, above uint8) {
	c := s.Copies[i][p]
	if c.Fence != None && !s.Volumes[c.Fence].gone() || c.Lives != None && s.Volumes[c.Lives].Zone != z {
		return false, 0
	}
	for _, f := range s.Moves[i] {
		if f.To == p && f.Row == RowRunning {
			return false, 0
		}
	}
	if c.Asks && c.Bid > bid {
		return false, 0
	}
	above = max(c.Epoch, c.Bid)
	for q, e := range c.Granted {
		if int8(q) != z {
			above = max(above, e)
		}
	}
	return above < bid, above
}

// seen is the highest epoch that a zone knows of a volume's, beside its own bid.
func (s *State) seen(i, z int8) uint8 {
	c := s.Copies[i][z]
	e := c.Epoch
	for _, g := range c.Granted {
		e = max(e, g)
	}
	if c.Lives != None {
		e = max(e, s.Volumes[c.Lives].Epoch)
	}
	return e
}

// place writes a zone's bid down; a former one serves if it is above all that is
// known.
func (m *machine) place(s *State, i, z int8) {
	if seen := s.seen(i, z); s.Copies[i][z].Bid <= seen {
		s.Copies[i][z].Bid = m.epoch(seen, z)
	}
}

// epoch is the next one of a zone.
func (m *machine) epoch(known uint8, z int8) uint8 {
	if m.Rules.EqualEpochs {
		return known + 1
	}
	return NextEpoch(known, z)
}

// stands reports whether a zone granted no higher bid since its own, and heard
// of no higher epoch.
func (s *State) stands(i, z int8) bool {
	c := s.Copies[i][z]
	for _, e := range c.Granted {
		if e > c.Bid {
			return false
		}
	}
	return c.Bid > 0 && (c.Lives == None || s.Volumes[c.Lives].Epoch < c.Bid)
}

// withdraw ends a bid, as far as others can be told.
func (s *State) withdraw(i, z int8) {
	c := &s.Copies[i][z]
	for p := range s.Copies[i] {
		if int8(p) != z && s.Copies[i][p].Granted[z] == c.Bid && s.linked(z, int8(p)) {
			s.Copies[i][p].Granted[z] = 0
		}
	}
	c.Bid, c.Asks, c.Heard = 0, false, 0
}

// force begins a recovery whose right to write is taken over at once.
func (s *State) force(i, z, k int8, epoch uint8) {
	c := &s.Copies[i][z]
	set := s.Volumes[i].at(c.Have)
	s.Volumes[k] = Volume{Role: Filling, Zone: z, Epoch: epoch, From: i, Begin: set, Acked: set, Content: set, To: None}
	c.Epoch, c.Fence, c.Lives = epoch, k, None
	c.Bid, c.Asks, c.Heard = 0, false, 0
}

// contest has the destination of a planned failover ask the third zones, all at
// once; false where the volume must not be taken over. Who is silent hinders only
// if the destination knows that it bid, or took the volume.
func (m *machine) contest(s *State, i, to int8) bool {
	if m.Rules.NoBids {
		return true
	}
	m.place(s, i, to)
	bid := s.Copies[i][to].Bid
	for p := range int8(m.Zones) {
		if p == to || p == s.Volumes[i].Zone {
			continue
		}
		lives := s.Copies[i][to].Lives
		if !s.linked(to, p) {
			if s.Copies[i][to].Granted[p] > 0 || lives != None && s.Volumes[lives].Zone == p {
				s.withdraw(i, to)
				return false
			}
			continue
		}
		granted, above := s.decide(i, to, p, bid)
		if !granted && above == 0 {
			s.withdraw(i, to)
			return false
		}
		if above >= bid {
			bid = m.epoch(above, to)
			s.Copies[i][to].Bid = bid
		}
		m.note(s, i, to, p, bid)
	}
	return true
}
