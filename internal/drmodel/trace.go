package drmodel

import "fmt"

// Seen is what can be seen of a State from outside: the rows that zones write
// down. Messages, links and what hosts wrote are not in it.
type Seen struct {
	Volumes [MaxVolumes]SeenVolume
	Moves   [MaxVolumes]SeenMove // the first planned failover of each
}

// SeenVolume is an incarnation as its zone's row has it.
type SeenVolume struct {
	Role  Role
	Zone  int8
	Epoch uint8 // 0 while it is filled for a planned failover, and where it failed
	To    int8
}

// SeenMove is a planned failover as the rows of both zones have it.
type SeenMove struct {
	Phase Phase
	Row   Row
}

// Unseen is nothing seen.
func Unseen() (seen Seen) {
	for i := range seen.Volumes {
		seen.Volumes[i] = SeenVolume{Zone: None, To: None}
	}
	return seen
}

// Seen is what a state looks like from outside.
func (s *State) Seen() Seen {
	seen := Unseen()
	for i, v := range s.Volumes {
		if v.Role == Absent {
			continue
		}
		seen.Volumes[i] = SeenVolume{Role: v.Role, Zone: v.Zone, Epoch: v.Epoch, To: v.To}
		if v.Role == Failed {
			seen.Volumes[i].Epoch, seen.Volumes[i].To = 0, None
		}
		if v.Role == Deleted {
			seen.Volumes[i] = SeenVolume{Role: Deleted, Zone: v.Zone, To: None}
		}
		seen.Moves[i] = SeenMove{s.Moves[i][0].Phase, s.Moves[i][0].Row}
	}
	return seen
}

// Machine is a scope that was explored, to hold traces against.
type Machine struct {
	seen []Seen
	next [][]int32
}

// Machine explores a scope, and keeps what of it a Trace needs.
func (sc Scope) Machine() *Machine {
	e := explorer{Scope: sc, index: map[State]int32{}, found: Found{Changes: map[Change]bool{}}}
	e.visit(Begin(sc.Zones), -1, cause{})
	m := &Machine{}
	for at := int32(0); int(at) < len(e.order); at++ {
		s := e.order[at]
		m.seen = append(m.seen, s.Seen())
		var next []int32
		for _, step := range sc.Next(s) {
			next = append(next, e.visit(step.Next, at, cause{step.Name, step.Who, step.Zone}))
		}
		m.next = append(m.next, next)
	}
	return m
}

// Trace follows a run of the code through the states of a Machine: those in
// which the machine may be, by all that was seen so far.
type Trace struct {
	machine *Machine
	may     []bool
	last    Seen
}

// Trace begins at the machine's first state.
func (m *Machine) Trace() *Trace {
	t := &Trace{machine: m, may: make([]bool, len(m.seen)), last: m.seen[0]}
	t.may[0] = true
	return t
}

// See takes an observation. It is an error if no state that looks like it can
// be reached from where the machine may be; between two observations any number
// of steps may have been taken.
func (t *Trace) See(seen Seen) error {
	var todo []int32
	for at, may := range t.may {
		if may {
			todo = append(todo, int32(at))
		}
	}
	reached := t.may
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, to := range t.machine.next[at] {
			if !reached[to] {
				reached[to], todo = true, append(todo, to)
			}
		}
	}
	t.may = make([]bool, len(reached))
	found := false
	for at, ok := range reached {
		if ok && t.machine.seen[at] == seen {
			t.may[at], found = true, true
		}
	}
	if !found {
		return fmt.Errorf("the model has no way from %+v to %+v", t.last, seen)
	}
	t.last = seen
	return nil
}
