package drmodel

import (
	"fmt"
	"strings"
)

// Found is what an exploration saw.
type Found struct {
	States, Steps int
	Settled       int
	TwoWriters    int             // states in which a forced recovery left two, until they hear of each other
	Bad           string          // the first violation, with the way there; "" for none
	Changes       map[Change]bool // of roles, phases and rows, for the document
}

// Change is one that a step makes.
type Change struct{ Of, From, Step, To string }

// explorer visits states breadth first.
type explorer struct {
	Scope
	index map[State]int32
	order []State
	from  []int32 // the state before
	by    []cause
	back  [][2]int32
	found Found
}

// cause is the step that led to a state.
type cause struct {
	name      string
	who, zone int8
}

// Explore visits every state of a scope that can be reached, checks each, and
// then that each has a way to a settled state by what kvol does itself once
// everything is repaired.
func (sc Scope) Explore() Found {
	e := explorer{Scope: sc, index: map[State]int32{}, found: Found{Changes: map[Change]bool{}}}
	e.visit(Begin(sc.Zones), -1, cause{})
	for at := int32(0); int(at) < len(e.order) && e.found.Bad == ""; at++ {
		e.expand(at)
	}
	e.found.States = len(e.order)
	if e.found.Bad == "" {
		e.settle()
	}
	return e.found
}

func (e *explorer) visit(s State, from int32, by cause) int32 {
	at, known := e.index[s]
	if !known {
		at = int32(len(e.order))
		e.index[s] = at
		e.order, e.from, e.by = append(e.order, s), append(e.from, from), append(e.by, by)
	}
	return at
}

func (e *explorer) expand(at int32) {
	s := e.order[at]
	bad := e.Check(&s)
	steps := e.Next(s)
	if bad == "" {
		bad = e.CheckDrill(&s, steps)
	}
	if bad != "" {
		e.found.Bad = bad + "\n" + e.way(at)
		return
	}
	writers := 0
	for i := range int8(e.Volumes) {
		if e.Writable(&s, i) {
			writers++
		}
	}
	if writers > 1 {
		e.found.TwoWriters++
	}
	for n := range steps {
		to := e.visit(steps[n].Next, at, cause{steps[n].Name, steps[n].Who, steps[n].Zone})
		e.found.Steps++
		e.note(&s, &steps[n])
		if bad := e.CheckStep(&s, &steps[n]); bad != "" {
			e.found.Bad = bad + "\n" + e.way(at) + steps[n].Name + "\n" + steps[n].Next.String()
			return
		}
		if steps[n].Kind == System || steps[n].Kind == Repair {
			e.back = append(e.back, [2]int32{to, at})
		}
	}
}

// note keeps the changes of roles, phases and rows, for the document.
func (e *explorer) note(s *State, step *Step) {
	for i := range s.Volumes {
		if a, b := s.Volumes[i].Role, step.Next.Volumes[i].Role; a != b {
			e.found.Changes[Change{"role", a.String(), step.Name, b.String()}] = true
		}
		for n := range s.Moves[i] {
			a, b := s.Moves[i][n], step.Next.Moves[i][n]
			if a.Phase != b.Phase {
				e.found.Changes[Change{"phase", a.Phase.String(), step.Name, b.Phase.String()}] = true
			}
			if a.Row != b.Row {
				e.found.Changes[Change{"row", a.Row.String(), step.Name, b.Row.String()}] = true
			}
		}
	}
}

// settle looks for states from which nothing settled can be reached.
func (e *explorer) settle() {
	before := make([][]int32, len(e.order))
	for _, edge := range e.back {
		before[edge[0]] = append(before[edge[0]], edge[1])
	}
	good := make([]bool, len(e.order))
	var todo []int32
	for at := range e.order {
		if e.Settled(&e.order[at]) {
			good[at], todo = true, append(todo, int32(at))
		}
	}
	e.found.Settled = len(todo)
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, b := range before[at] {
			if !good[b] {
				good[b], todo = true, append(todo, b)
			}
		}
	}
	for at := range good {
		if !good[at] {
			e.found.Bad = "nothing settled can be reached from here\n" + e.way(int32(at))
			return
		}
	}
}

// way tells how a state was reached, and what it is.
func (e *explorer) way(at int32) string {
	var steps []cause
	for n := at; n >= 0; n = e.from[n] {
		steps = append(steps, e.by[n])
	}
	var b strings.Builder
	for n := len(steps) - 2; n >= 0; n-- {
		fmt.Fprintf(&b, "%s (%d, zone %d)\n", steps[n].name, steps[n].who, steps[n].zone)
	}
	return b.String() + e.order[at].String()
}
