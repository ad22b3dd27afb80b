package rbd

import (
	"slices"
	"testing"
)

// TestSweeperOrder has images that can't go be tried when they may be able to, and what
// keeps them be news once.
func TestSweeperOrder(t *testing.T) {
	s := sweeper{wanted: make(chan struct{}, 1), under: map[string]int{}, held: map[string]holder{}}
	there := []trashed{{"1", "kvol-stood"}, {"2", "kvol-open"}, {"3", "somebody's"}, {"4", "kvol-new"}}
	order := func(all bool, want ...string) {
		t.Helper()
		var got []string
		for _, i := range s.order(there, all) {
			got = append(got, i.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("images %v are tried, want %v", got, want)
		}
	}
	try := func(id string, by holder, news bool) {
		t.Helper()
		if !s.begin(id) || s.begin(id) {
			t.Errorf("image %s is not removed once at a time", id)
		}
		if got := s.done(id, by); got != news {
			t.Errorf("that image %s is held by %d is news: %t", id, by, got)
		}
	}
	order(true, "1", "2", "4")
	try("1", heldByClone, true)
	if s.waits() {
		t.Error("no client has an image open")
	}
	try("2", heldByClient, true)
	try("2", heldByClient, false)
	if !s.waits() {
		t.Error("a client has an image open")
	}
	order(false, "4", "2")
	order(true, "4", "1", "2")
	try("4", 0, false)
	try("2", 0, true)
	there = there[:3]
	order(false, "2")
	if s.waits() || len(s.wanted) != 0 {
		t.Error("an end without a cause had it look again")
	}
	s.begin("1")
	s.changed()
	<-s.wanted
	if s.done("1", heldByClone); len(s.wanted) != 1 {
		t.Error("what stood on an image may have gone while it was tried")
	}
}
