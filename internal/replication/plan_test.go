package replication

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kvol/internal/block"
)

// points reads a list from old to new; names of tenants' snapshots begin with
// "@": "1 2 @a 3".
func points(s string) (all []block.Point) {
	for i, f := range strings.Fields(s) {
		p := block.Point{ID: block.PointID(f), Sequence: uint64(i + 1), Epoch: 1, Size: 4096}
		if strings.HasPrefix(f, "@") {
			p.Name = f
		}
		all = append(all, p)
	}
	return all
}

func (a Agenda) String() string {
	var parts []string
	for _, s := range a.Steps {
		parts = append(parts, fmt.Sprintf("%s>%s", s.Base.ID, s.Target.ID))
	}
	for _, id := range a.Drop {
		parts = append(parts, "-"+string(id))
	}
	return strings.Join(parts, " ")
}

func TestPlan(t *testing.T) {
	for _, c := range []struct{ have, want, agenda string }{
		{"", "1", ">1"},
		{"", "@a 1", ">@a @a>1"},
		{"1", "1 2", "1>2"},
		{"1", "1 @a @b 2", "1>@a @a>@b @b>2"},
		{"1", "1", ""},
		{"1", "@a 1 2", "1>2"},     // older than the base: never
		{"@a 1", "1 2", "1>2 -@a"}, // deleted at the source
		{"@a 1", "@a 3", "@a>3"},   // the newest is gone at the source
		{"1 2", "3", ">3"},         // nothing in common
		{"1", "1 2 3", "1>3"},      // points without names are left out
		{"1 @a", "1 @a 2", "@a>2"}, // interrupted before the last step
		{"1 2", "1 @a 2 @b 4", "2>@b @b>4"},
	} {
		if got := Plan(points(c.have), points(c.want)).String(); got != c.agenda {
			t.Errorf("have %q, want %q: %q instead of %q", c.have, c.want, got, c.agenda)
		}
	}
}

// TestPlanLeads follows plans on a model of a target, cut short anywhere, and
// checks that they lead there.
func TestPlanLeads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var have, want []block.Point
		serial := 0
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			for range rapid.IntRange(0, 3).Draw(t, "snapshots") {
				serial++
				id := fmt.Sprintf("@%d", serial)
				want = append(want, block.Point{ID: block.PointID(id), Name: id})
			}
			want = slices.DeleteFunc(want, func(block.Point) bool { return rapid.IntRange(0, 5).Draw(t, "gone") == 0 })
			serial++
			want = append(want, block.Point{ID: block.PointID(fmt.Sprint(serial))})
			a := Plan(have, want)
			done := rapid.IntRange(0, len(a.Steps)).Draw(t, "done")
			base := a.Base
			for i, s := range a.Steps {
				if s.Base.ID != base.ID || (base.ID != "" && i == 0 && !has(have, base.ID)) {
					t.Fatalf("step %d begins at %q and not at %q", i, s.Base.ID, base.ID)
				}
				if has(have, s.Target.ID) || (len(have) > 0 && s.Target.Sequence <= have[len(have)-1].Sequence) {
					t.Fatalf("step to %q, sequence %d", s.Target.ID, s.Target.Sequence)
				}
				if base = s.Target; i < done {
					have = append(have, s.Target)
				}
			}
			if done < len(a.Steps) {
				continue
			}
			if len(have) == 0 || have[len(have)-1].ID != want[len(want)-1].ID {
				t.Fatal("the newest point is missing")
			}
			if again := Plan(have, want); len(again.Steps) != 0 {
				t.Fatalf("all was done, and yet: %s", again)
			}
			newer := false
			for _, p := range want {
				if newer && p.Name != "" && !has(have, p.ID) {
					t.Fatalf("snapshot %s was left out", p.ID)
				}
				newer = newer || p.ID == a.Base.ID || a.Base.ID == ""
			}
		}
	})
}

func has(all []block.Point, id block.PointID) bool {
	return slices.ContainsFunc(all, func(p block.Point) bool { return p.ID == id })
}

func TestThin(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var all []block.Point
	for i := range 600 { // one each 100 ms for a minute, the newest now
		p := block.Point{ID: block.PointID(fmt.Sprint(i)), At: now.Add(-time.Duration(599-i) * 100 * time.Millisecond)}
		if i == 3 {
			p.Name = "tenant's"
		}
		all = append(all, p)
	}
	keep := block.Retention{Tiers: []block.RetentionTier{
		{Step: 100 * time.Millisecond, For: 5 * time.Second}, {Step: time.Second, For: 30 * time.Second}}}
	left := slices.DeleteFunc(slices.Clone(all), func(p block.Point) bool {
		return slices.Contains(Thin(all, keep, now), p.ID)
	})
	// 51 of the last five seconds, one of each of the 25 seconds before, the named one.
	if len(left) < 51+25+1 || len(left) > 51+26+1 {
		t.Errorf("%d points are left", len(left))
	}
	if !has(left, "599") || !has(left, "3") {
		t.Error("the newest or the named one is gone")
	}
	if again := Thin(left, keep, now); len(again) != 0 {
		t.Errorf("thinning again takes %v", again)
	}
	if old := Thin(all, keep, now.Add(time.Hour)); len(old) != 598 {
		t.Errorf("an hour later %d go", len(old))
	}
	if got := Thin(all[:2], block.Retention{}, now); len(got) != 1 || got[0] != "0" {
		t.Errorf("without tiers %v go", got)
	}
}
