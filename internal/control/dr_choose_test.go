package control

import (
	"testing"
	"time"

	"kvol/internal/block"
)

// TestAnInstantIsWhole: of cuts the newest that all members have; where there is
// none, the newest that all have who were cut; never one that only some have,
// and never points that are of the same time by chance.
func TestAnInstantIsWhole(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	point := func(cut string, minute, members int) block.Point {
		p := block.Point{ID: block.PointID(block.NewID()), At: start.Add(time.Duration(minute) * time.Minute)}
		if cut != "" {
			p.Cut = &block.GroupCut{ID: cut, Members: members, Of: 3}
		}
		return p
	}
	of := func(points ...block.Point) candidate { return candidate{points: points} }
	for _, c := range []struct {
		name    string
		members []candidate
		want    string // the cut; "" for none
		n       int
	}{
		{"the newest that all have", []candidate{
			of(point("a", 1, 2), point("b", 2, 2)), of(point("a", 1, 2), point("b", 2, 2))}, "b", 2},
		{"one is late", []candidate{of(point("a", 1, 2), point("b", 2, 2)), of(point("a", 1, 2))}, "a", 2},
		{"by chance", []candidate{of(point("", 1, 0)), of(point("", 1, 0))}, "", 0},
		{"a new member", []candidate{of(), of(point("a", 1, 2)), of(point("a", 1, 2))}, "a", 2},
		{"all before some", []candidate{of(point("a", 1, 2)), of(point("a", 1, 2), point("b", 2, 1))}, "a", 2},
		{"only some", []candidate{of(), of(point("a", 1, 2))}, "", 0},
	} {
		points, ok := chooseInstant(c.members, block.PointChoice{})
		cut := ""
		for _, p := range points {
			cut = p.Cut.ID
		}
		if ok != (c.want != "") || cut != c.want || len(points) != c.n {
			t.Errorf("%s: %+v, %t", c.name, points, ok)
		}
	}
}
