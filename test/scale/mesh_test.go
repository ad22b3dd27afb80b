package main

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

// together is a mesh of a size in a test, with all first copies made.
func together(t *testing.T, zones, each int) *mesh {
	t.Helper()
	s := size{zones: zones, each: each, interval: time.Second, target: time.Second, projects: 3, rounds: 3, ended: 10,
		waiting: 10}
	m, err := join(t.Context(), s, t.TempDir(), &paper{quiet: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	})
	m.start()
	if err := m.firstCopies(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// number is what was noted of something.
func number(t *testing.T, p *paper, what string) float64 {
	t.Helper()
	text, ok := p.value(what).(string)
	n, err := strconv.ParseFloat(text, 64)
	if !ok || err != nil {
		t.Fatalf("%s: %v", what, p.value(what))
	}
	return n
}

// TestZonesCostWhatTheirLinksCost: a zone with links to three others does for each
// of them what one with as many links to a single other does, and its health is as
// many statements, but for one of each protection.
func TestZonesCostWhatTheirLinksCost(t *testing.T) {
	pair, four := together(t, 2, 12), together(t, 4, 4)
	for _, m := range []*mesh{pair, four} {
		since := time.Now()
		for { // heartbeats come from each to each
			beaten := 0
			for _, one := range m.members {
				for _, st := range one.sender.Status() {
					if st.ReplicatedTo.After(since) {
						beaten++
					}
				}
			}
			if beaten == 12*len(m.members) {
				break
			}
			select {
			case <-t.Context().Done():
				t.Fatalf("of %d links %d are current", 12*len(m.members), beaten)
			case <-time.After(50 * time.Millisecond):
			}
		}
		all, err := m.watchIdle(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := m.questions(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.halt()
		if err := errors.Join(m.tidying(t.Context()), m.health(t.Context())); err != nil {
			t.Fatal(err)
		}
		if n := number(t, m.paper, "tidying a replica, once a minute, statements"); n == 0 {
			t.Error("no replica was tidied")
		}
		var out bytes.Buffer
		m.print(all, &out)
		for i, one := range m.members {
			if !strings.Contains(out.String(), string(one.name)) || len(all[i].ages) != 12 || all[i].rows < 5*12 ||
				all[i].dialled == 0 {
				t.Errorf("of %s only this is known: %+v\n%s", one.name, all[i], out.String())
			}
			if one.seen.beats < 12 {
				t.Errorf("%s heard %d heartbeats", one.name, one.seen.beats)
			}
		}
	}
	const copies = "statements for a first copy, both ends"
	// On a machine with much else to do, heartbeats and looks come between the copies.
	if one, more := number(t, pair.paper, copies), number(t, four.paper, copies); more > 1.6*one+20 {
		t.Errorf("a first copy between two zones is %.1f statements, and among four %.1f", one, more)
	}
	const asked = "health, statements"
	for _, one := range four.members {
		n, before := number(t, one.paper, asked), number(t, pair.members[0].paper, asked)
		if policies := float64(len(four.members) - 2); n > before+policies {
			t.Errorf("the health of %s is %.0f statements, and of two zones %.0f", one.name, n, before)
		}
	}
}
