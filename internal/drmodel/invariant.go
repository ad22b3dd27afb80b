package drmodel

import "fmt"

// Check returns what does not hold in a state, or "".
func (sc Scope) Check(s *State) string {
	if bad := sc.writers(s); bad != "" {
		return bad
	}
	for i := range int8(sc.Volumes) {
		v := s.Volumes[i]
		if v.Role == Absent {
			continue
		}
		if lost := v.Acked &^ (v.Content | v.Undo); lost != 0 && v.Role != Failed {
			return fmt.Sprintf("acknowledged writes %b of volume %d are destroyed", lost, i)
		}
		if v.Epoch > 0 && v.From != None {
			from := s.Volumes[v.From]
			if lost := from.Acked &^ v.Begin; v.Planned && from.Role != Deleted && lost != 0 {
				return fmt.Sprintf("the planned failover to volume %d lost acknowledged writes %b", i, lost)
			}
			c := s.Copies[v.From][v.Zone]
			if known := from.at(c.Known); c.Known != None && from.Role != Deleted && known&^v.Begin != 0 {
				return fmt.Sprintf("volume %d has less than was reported as replicated, %b", i, known)
			}
		}
		for z, c := range s.Copies[i] {
			if c.Fence == None && c.Known > c.Have {
				return fmt.Sprintf("the copy of volume %d in zone %d fell back to point %d from %d", i, z, c.Have, c.Known)
			}
			if k := c.Fence; k != None && v.Role != Deleted && v.at(c.Have) != s.Volumes[k].Begin {
				return fmt.Sprintf("a point of volume %d was committed in zone %d after the promotion of %d", i, z, k)
			}
		}
	}
	return ""
}

// writers checks who may write.
func (sc Scope) writers(s *State) string {
	for k := range int8(sc.Volumes) {
		for i := range k {
			if !sc.Writable(s, i) || !sc.Writable(s, k) {
				continue
			}
			a, b := s.Volumes[i], s.Volumes[k]
			if a.Epoch == b.Epoch {
				return fmt.Sprintf("volumes %d and %d take writes under one epoch, %d", i, k, a.Epoch)
			}
			missed := uint8(0)
			for _, x := range s.Volumes {
				missed |= x.Missed
			}
			if a.Excused&(1<<b.Zone)|b.Excused&(1<<a.Zone) != 0 {
				continue
			}
			if a.Zone == b.Zone || missed&(1<<a.Zone|1<<b.Zone) == 0 {
				return fmt.Sprintf("volumes %d and %d take writes, and nobody was cut off at a forced recovery", i, k)
			}
		}
	}
	return ""
}

// CheckStep returns what does not hold of a step, or "".
func (sc Scope) CheckStep(s *State, step *Step) string {
	for i, v := range s.Volumes {
		next := step.Next.Volumes[i]
		if v.Role == Stale && next.Role != Stale && next.Role != Deleted {
			return fmt.Sprintf("stale volume %d became %v", i, next.Role)
		}
		if v.Role == Stale && next.Content != v.Content && next.Role == Stale {
			return fmt.Sprintf("stale volume %d was written to", i)
		}
		if next.Compared && !v.Compared && next.Acked&^(next.Undo|step.Next.Volumes[next.To].Begin) != 0 {
			return fmt.Sprintf("what only stale volume %d has is not kept", i)
		}
		if next.Role != Absent && v.Role != Absent && v.Epoch > next.Epoch {
			return fmt.Sprintf("the epoch of volume %d fell", i)
		}
	}
	if step.Name == "drill" || step.Name == "end drill" {
		plain := step.Next
		plain.Drills = s.Drills
		if plain != *s {
			return "a drill changed something"
		}
	}
	return ""
}

// CheckDrill compares what can happen beside a drill with what could without
// it, or returns "".
func (sc Scope) CheckDrill(s *State, steps []Step) string {
	if s.Drills == [MaxZones]bool{} {
		return ""
	}
	plain := *s
	plain.Drills = [MaxZones]bool{}
	plainly := sc.Next(plain)
	n := 0
	for _, step := range steps {
		if step.Name == "drill" || step.Name == "end drill" {
			continue
		}
		for n < len(plainly) && plainly[n].Name == "drill" {
			n++
		}
		if n == len(plainly) || plainly[n].Name != step.Name || plainly[n].Who != step.Who || plainly[n].Zone != step.Zone {
			return fmt.Sprintf("%s (%d) can happen only beside a drill", step.Name, step.Who)
		}
		n++
	}
	if n < len(plainly) && plainly[n].Name != "drill" {
		return fmt.Sprintf("%s (%d) can't happen beside a drill", plainly[n].Name, plainly[n].Who)
	}
	return ""
}

// Settled reports whether nothing is left to be done: everything runs, nobody
// waits, at most one volume takes writes, and all other zones have all of it.
func (sc Scope) Settled(s *State) bool {
	primaries := 0
	for z := range sc.Zones {
		if !s.Up[z] || s.Cut != [MaxZones][MaxZones]bool{} || s.Asked[z] != 1<<sc.Zones-1 || s.Drills[z] {
			return false
		}
	}
	for i, v := range s.Volumes[:sc.Volumes] {
		if v.Role == Filling || v.Role == Stale && !v.Compared || s.moving(i) != None {
			return false
		}
		if v.Role != Primary {
			continue
		}
		primaries++
		for z, c := range s.Copies[i][:sc.Zones] {
			if int8(z) != v.Zone && c.Known != v.points() {
				return false
			}
		}
	}
	return primaries <= 1
}
