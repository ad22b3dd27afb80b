package drmodel

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var rewrite = flag.Bool("update", false, "rewrite the end of docs/states.md")

// The scopes: what is deep in one is narrow in another.
var (
	faults = Scope{Zones: 2, Volumes: 2, Moves: 1, Writes: 1, Crashes: 1, Cuts: 1, Forced: 1}
	again  = Scope{Zones: 2, Volumes: 2, Moves: 2, Writes: 1, Cuts: 0, Forced: 1}
	back   = Scope{Zones: 2, Volumes: 3, Moves: 1, Writes: 1, Forced: 1}
	three  = Scope{Zones: 3, Volumes: 2, Moves: 1, Writes: 1}
	rivals = Scope{Zones: 3, Volumes: 3, Cuts: 1, Forced: 2, NoDrills: true, Narrow: true, Whole: true}
	killed = Scope{Zones: 3, Volumes: 3, Crashes: 1, Forced: 2, NoDrills: true, Narrow: true, Whole: true}
	died   = Scope{Zones: 3, Volumes: 3, Moves: 1, Crashes: 1, Forced: 1, NoDrills: true, Narrow: true, Whole: true}
	moved  = Scope{Zones: 3, Volumes: 3, Moves: 1, Cuts: 1, Forced: 1, NoDrills: true, Narrow: true, Whole: true}
)

var scopes = []struct {
	name  string
	scope Scope
}{{"zones die and are cut off", faults}, {"failovers one after the other", again}, {"there and back", back},
	{"three zones", three}, {"two zones recover", rivals},
	{"two zones recover, and one dies", killed}, {"recovered while it is moved", moved},
	{"recovered while it is moved, and one dies", died}}

// explored is what all scopes show.
var explored = sync.OnceValue(func() (all []Found) {
	for _, s := range scopes {
		all = append(all, s.scope.Explore())
	}
	return all
})

// TestModelHolds looks at every state.
func TestModelHolds(t *testing.T) {
	for n, f := range explored() {
		t.Logf("%s: %d states, %d steps; %d are settled, %d have two writers after a forced recovery", scopes[n].name,
			f.States, f.Steps, f.Settled, f.TwoWriters)
		if f.Bad != "" || f.Settled == 0 {
			t.Errorf("%s: %s", scopes[n].name, f.Bad)
		}
	}
}

// TestDocument compares the end of docs/states.md with the model; -update
// writes it.
func TestDocument(t *testing.T) {
	seen := map[Change]bool{}
	for _, f := range explored() {
		maps.Copy(seen, f.Changes)
	}
	path := filepath.Join("..", "..", "docs", "states.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, got, _ := strings.Cut(string(text), Heading)
	want := strings.TrimPrefix(Document(seen), Heading)
	if *rewrite {
		if err := os.WriteFile(path, []byte(strings.TrimRight(before, "\n")+"\n\n"+Heading+want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("%s is not what the model shows; go test ./internal/drmodel -update writes it", path)
	}
	for _, d := range stepDocs {
		if !strings.Contains(want, "| "+d.name+" |") {
			t.Errorf("step %s is not drawn", d.name)
		}
	}
}

// TestBrokenRuleIsCaught breaks one rule after the other.
func TestBrokenRuleIsCaught(t *testing.T) {
	for _, c := range []struct {
		rule   string
		scope  Scope
		breaks func(*Rules)
		want   string
	}{
		{"the target checks the epoch of a point", faults, func(r *Rules) { r.NoEpochCheck = true }, "after the promotion"},
		{"points go forward", faults, func(r *Rules) { r.OldCommit = true }, "fell back"},
		{"the last point is confirmed first", faults, func(r *Rules) { r.NoDrain = true }, "lost acknowledged"},
		{"nobody writes while it is moved", faults, func(r *Rules) { r.WriteWhileMoved = true }, "take writes"},
		{"a silent destination is asked to leave", faults, func(r *Rules) { r.BackUnasked = true }, ""},
		{"who leaves writes it down", faults, func(r *Rules) { r.LeaveForgets = true }, ""},
		{"who is done looks at the epoch", back, func(r *Rules) { r.NoFinishCheck = true }, ""},
		{"what only a stale volume has is kept", faults, func(r *Rules) { r.NoUndo = true }, "is not kept"},
		{"the way back makes a clone", faults, func(r *Rules) { r.Overwrite = true }, ""},
		{"who returns asks first", faults, func(r *Rules) { r.NoAsking = true }, "take writes"},
		{"a forced recovery tells first", faults, func(r *Rules) { r.NoTelling = true }, "take writes"},
		{"a drill stops nothing", faults, func(r *Rules) { r.DrillStops = true }, "beside a drill"},
		{"a drill promotes nobody", faults, func(r *Rules) { r.DrillPromotes = true }, "a drill changed"},
		{"who is told nothing asks again", faults, func(r *Rules) { r.NoRetry = true }, "nothing settled"},
		{"a stale volume is read-only", faults, func(r *Rules) { r.StaleWrites = true }, ""},
		{"who recovers asks third zones", rivals, func(r *Rules) { r.NoBids = true }, "take writes"},
		{"who takes over as planned asks third zones", moved, func(r *Rules) { r.NoBids = true }, "take writes"},
		{"who grants writes it down", moved, func(r *Rules) { r.GrantForgets = true }, "take writes"},
		{"a bid that was outdone is not used", rivals, func(r *Rules) { r.NoStanding = true }, "take writes"},
		{"of two the lower epoch gives way", rivals, func(r *Rules) { r.NoMeeting = true }, "nothing settled"},
		{"what a failed recovery left is never opened", rivals, func(r *Rules) { r.FailedOpens = true }, "take writes"},
		{"no two zones have one epoch", rivals, func(r *Rules) { r.EqualEpochs = true }, "under one epoch"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			c.breaks(&c.scope.Rules)
			f := c.scope.Explore()
			if f.Bad == "" || !strings.Contains(f.Bad, c.want) {
				t.Fatalf("not caught in %d states: %s", f.States, f.Bad)
			}
			first, _, _ := strings.Cut(f.Bad, "\n")
			t.Logf("after %d states: %s", f.States, first)
		})
	}
}
