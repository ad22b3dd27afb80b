package drmodel

// machine makes the steps of a scope.
type machine struct {
	Scope
	from State
	out  []Step
}

// Next lists every step from a state.
func (sc Scope) Next(s State) []Step {
	m := machine{Scope: sc, from: s}
	for i := range int8(sc.Volumes) {
		if s.Volumes[i].Role == Absent {
			continue
		}
		m.hosts(i)
		for z := range int8(sc.Zones) {
			if z != s.Volumes[i].Zone {
				m.replicate(i, z)
				m.ask(i, z)
				if m.Zones > 2 {
					m.bids(i, z)
				}
				m.tell(i, z)
			}
		}
		for n := range int8(sc.Moves) {
			m.source(i, n)
			m.destination(i, n)
		}
		m.fill(i)
	}
	m.zones()
	return m.out
}

// add makes a step of what change does to the state; one that changes nothing
// is none.
func (m *machine) add(name string, kind Kind, who, zone int8, change func(s *State)) {
	next := m.from
	change(&next)
	if next != m.from {
		m.out = append(m.out, Step{name, kind, who, zone, next})
	}
}

// Writable reports whether kvol takes a host's write to an incarnation.
func (sc Scope) Writable(s *State, i int8) bool {
	v := s.Volumes[i]
	return (v.Role == Primary || v.Role == Stale && sc.Rules.StaleWrites) && s.Up[v.Zone] &&
		(s.moving(int(i)) == None || sc.Rules.WriteWhileMoved) && s.Asked[v.Zone] == 1<<sc.Zones-1
}

// hosts are the steps of a volume's hosts and its owner.
func (m *machine) hosts(i int8) {
	v := m.from.Volumes[i]
	if m.from.Writes < m.Writes && m.Writable(&m.from, i) {
		m.add("write", User, i, v.Zone, func(s *State) {
			bit := uint8(1) << s.Writes
			s.Volumes[i].Content |= bit
			s.Volumes[i].Acked |= bit
			s.Writes++
		})
	}
	if v.Role == Stale && v.Compared && m.from.Up[v.Zone] {
		m.add("delete", User, i, v.Zone, func(s *State) {
			s.Volumes[i].Role, s.Volumes[i].Undo, s.Volumes[i].Content, s.Volumes[i].Acked = Deleted, 0, v.Begin, v.Begin
		})
	}
	if v.Role == Stale && !v.Compared && m.from.Up[v.Zone] {
		m.add("compare", System, i, v.Zone, func(s *State) {
			s.Volumes[i].Compared = true
			if v.Content&^s.Volumes[v.To].Begin != 0 && !m.Rules.NoUndo {
				s.Volumes[i].Undo = v.Content
			}
		})
	}
}

// replicate are the steps between a volume and its copy in another zone.
func (m *machine) replicate(i, z int8) {
	v, c := m.from.Volumes[i], m.from.Copies[i][z]
	sends := v.Role == Primary && m.from.linked(v.Zone, z)
	if m.Whole {
		if sends && (v.points() > c.Known || c.Fence != None || c.Lives != None) {
			m.add("commit", System, i, z, func(s *State) { m.arrive(s, i, z) })
		}
		return
	}
	if n := v.points(); sends && n > c.Known {
		m.add("send", System, i, z, func(s *State) {
			s.Copies[i][z].Sent |= 1 << n
			if v.From != None && s.Volumes[v.From].Zone == z {
				m.heard(s, z, i) // the first offer on the way back says what the volume continues
			}
		})
	}
	for n := range int8(8) {
		if c.Sent&(1<<n) == 0 || !m.from.Up[z] || n == c.Have || n < c.Have && !m.Rules.OldCommit {
			continue
		}
		if (c.Epoch > v.Epoch || c.Lives != None) && !m.Rules.NoEpochCheck || m.Rules.DrillStops && m.from.Drills[z] {
			continue
		}
		m.add("commit", System, i, z, func(s *State) {
			s.Copies[i][z].Have, s.Copies[i][z].Epoch = n, max(c.Epoch, v.Epoch)
			if from := v.From; m.Rules.Overwrite && n == 0 && from != None && s.Volumes[from].Zone == z {
				s.Volumes[from].Content = v.Begin
			}
		})
	}
	if !sends {
		return
	}
	m.add("hear", System, i, z, func(s *State) {
		switch {
		case c.Fence != None:
			s.fence(i, c.Fence)
		case c.Lives != None:
			s.fence(i, c.Lives)
		case c.Epoch <= v.Epoch:
			s.Copies[i][z].Known = max(c.Known, c.Have)
		}
	})
}

// arrive is send, commit and hear at once.
func (m *machine) arrive(s *State, i, z int8) {
	v, c := &s.Volumes[i], &s.Copies[i][z]
	for _, by := range []int8{c.Fence, c.Lives} {
		if by != None {
			s.fence(i, by)
			return
		}
	}
	if c.Epoch > v.Epoch {
		return
	}
	if v.From != None && s.Volumes[v.From].Zone == z {
		m.heard(s, z, i)
	}
	c.Have, c.Known, c.Epoch = v.points(), v.points(), v.Epoch
}

// fence has a volume's own zone know of the one that lives on. A lower epoch
// than is known changes nothing.
func (s *State) fence(i, by int8) {
	v, k := &s.Volumes[i], s.Volumes[by]
	if v.To != None && s.Volumes[v.To].Epoch >= k.Epoch || v.Epoch >= k.Epoch {
		return
	}
	switch v.Role {
	case Primary:
		v.Role, v.To = Stale, by
	case Stale, Filling:
		v.To = by
	}
}

// heard has a zone know of a promotion in another one. One of its own volumes is
// fenced; of another zone's it is written down, and if it took that over as well
// under a lower epoch, it gives way.
func (m *machine) heard(s *State, p, by int8) {
	k := s.Volumes[by]
	if k.From == None || k.Epoch == 0 {
		return
	}
	i := k.From
	if s.Volumes[i].Zone == p {
		s.fence(i, by)
		return
	}
	c := &s.Copies[i][p]
	if c.Fence == None {
		if c.Lives == None || s.Volumes[c.Lives].Epoch < k.Epoch {
			c.Lives = by
		}
		return
	}
	if !m.Rules.NoMeeting {
		s.fence(c.Fence, by)
	}
}

// tell is how a zone hears of a promotion some time.
func (m *machine) tell(by, p int8) {
	if m.from.linked(m.from.Volumes[by].Zone, p) {
		m.add("tell", System, by, p, func(s *State) { m.heard(s, p, by) })
	}
}

// free is an incarnation that is not there yet, or None.
func (m *machine) free() int8 {
	for i := range int8(m.Volumes) {
		if m.from.Volumes[i].Role == Absent {
			return i
		}
	}
	return None
}

// ask are what a tenant or an operator asks for.
func (m *machine) ask(i, z int8) {
	v, c, n := m.from.Volumes[i], m.from.Copies[i][z], int8(0)
	for n < int8(m.Moves) && m.from.Moves[i][n].Phase != NotBegun {
		n++
	}
	if v.Role == Primary && n < int8(m.Moves) && !(m.Narrow && i > 0) && m.from.moving(int(i)) == None &&
		m.from.linked(v.Zone, z) &&
		c.Known != None {
		m.add("fail over", User, i, z, func(s *State) {
			s.Moves[i][n] = Move{Phase: Draining, To: z, Point: None, New: None}
		})
	}
	if k := m.free(); m.Zones == 2 && m.recoverable(i, z) {
		m.add("recover", User, i, z, func(s *State) {
			s.force(i, z, k, m.epoch(c.Epoch, z))
			s.Forced++
		})
	}
}

// recoverable reports whether somebody may ask for a recovery by force.
func (m *machine) recoverable(i, z int8) bool {
	c := m.from.Copies[i][z]
	return m.from.Forced < m.Forced && m.free() != None && m.from.Up[z] && c.Have != None && c.Fence == None &&
		m.from.Volumes[i].Role != Failed
}

// zones are what befalls zones and links.
func (m *machine) zones() {
	all := uint8(1)<<m.Zones - 1
	for z := range int8(m.Zones) {
		switch {
		case !m.from.Up[z]:
			m.add("start", Repair, z, z, func(s *State) {
				s.Up[z], s.Asked[z] = true, 1<<z
				if m.Rules.NoAsking {
					s.Asked[z] = all
				}
				for i := range s.Volumes {
					s.Volumes[i].Missed &^= 1 << z // it asks
				}
			})
		case m.from.Crashes < m.Crashes:
			m.add("kill", Fault, z, z, func(s *State) {
				s.Up[z], s.Asked[z] = false, 0
				for i := range s.Copies {
					s.Copies[i][z].Asks, s.Copies[i][z].Heard = false, 0
				}
				s.Crashes++
			})
		}
		for p := range int8(m.Zones) {
			if p < z {
				m.link(p, z)
			}
			if p != z && m.from.linked(z, p) {
				m.add("ask", System, z, p, func(s *State) {
					s.Asked[z] |= 1 << p
					for k := range int8(m.Volumes) {
						if s.Volumes[k].Zone == p {
							m.heard(s, z, k)
						}
					}
				})
			}
		}
	}
	if !m.NoDrills {
		m.drill(1)
	}
}

func (m *machine) link(a, b int8) {
	cut := m.from.Cut[a][b]
	name, kind := "cut", Fault
	if cut {
		name, kind = "mend", Repair
	} else if m.from.Cuts == m.Cuts || m.Narrow && a == 0 {
		return
	}
	m.add(name, kind, a, b, func(s *State) {
		s.Cut[a][b], s.Cut[b][a] = !cut, !cut
		if !cut {
			s.Cuts++
		}
	})
}

// drill is that of the newest point in a zone. It is on a clone, and so nothing
// of the volume, its copies or the right to write has a part in it.
func (m *machine) drill(z int8) {
	if !m.from.Up[z] {
		return
	}
	if m.from.Drills[z] {
		m.add("end drill", System, z, z, func(s *State) { s.Drills[z] = false })
		return
	}
	for i := range m.Volumes {
		if m.from.Copies[i][z].Have != None {
			m.add("drill", User, z, z, func(s *State) {
				s.Drills[z] = true
				if m.Rules.DrillPromotes {
					s.Copies[i][z].Epoch++
				}
			})
			return
		}
	}
}
