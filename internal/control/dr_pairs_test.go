package control

import (
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/replication"
)

// TestPairStatus goes through what a source may see of a pair. A pair is active
// only where all that it should do is being done.
func TestPairStatus(t *testing.T) {
	now := time.Date(2018, 9, 11, 2, 37, 41, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	link := func(state catalog.LinkState, current, updated time.Time) SourceLink {
		return SourceLink{Link: catalog.Link{Protection: 2, State: state, Current: current, UpdatedAt: updated}}
	}
	good := link(catalog.LinkCurrent, ago(time.Second), ago(time.Second))
	busy := link(catalog.LinkSending, ago(2*time.Minute), now) // for long, and nothing comes of it
	busy.Confirmed.ID = "point"
	failed := link(catalog.LinkError, ago(time.Second), now)
	failed.Error = "no space"
	gone, others := failed, failed
	gone.Gone, others.Protection = true, 3
	const second = time.Second
	for _, c := range []struct {
		name     string
		disabled bool
		interval time.Duration
		links    []SourceLink
		contact  time.Time
		want     string
	}{
		{"all current", false, second, []SourceLink{good, good}, time.Time{}, PairActive},
		{"disabled", true, second, []SourceLink{good}, now, PairInactive},
		{"one fails", false, second, []SourceLink{good, failed}, now, PairInactive},
		{"a failure without text", false, second, []SourceLink{link(catalog.LinkError, now, now)}, now, PairInactive},
		{"one fell silent", false, second, []SourceLink{good, link(catalog.LinkCurrent, ago(2*time.Minute), now)},
			now, PairInactive},
		{"one is being sent, and no point comes", false, second, []SourceLink{good, busy}, now, PairInactive},
		{"a long interval", false, time.Hour, []SourceLink{link(catalog.LinkCurrent, ago(3*time.Hour), now)}, now,
			PairActive},
		{"a long interval, long over", false, time.Hour, []SourceLink{link(catalog.LinkCurrent, ago(5*time.Hour), now)}, now,
			PairInactive},
		{"the first copy is under way", false, second, []SourceLink{link(catalog.LinkSending, time.Time{}, ago(time.Second))},
			now, PairActive},
		{"the first copy stands still", false, second, []SourceLink{link(catalog.LinkSending, time.Time{}, ago(time.Hour))},
			now, PairInactive},
		{"a volume is new", false, second, []SourceLink{good, link(catalog.LinkNew, time.Time{}, now)}, now, PairActive},
		{"never begun", false, second, []SourceLink{link(catalog.LinkNew, time.Time{}, ago(time.Hour))}, now, PairInactive},
		{"of a volume that is deleted", false, second, []SourceLink{good, gone}, now, PairActive},
		{"of another pair", false, second, []SourceLink{good, others}, now, PairActive},
		{"a volume that was recovered", false, time.Second,
			[]SourceLink{good, link(catalog.LinkFenced, time.Time{}, time.Time{})}, now, PairActive},
		{"no volume, and the peer answers", false, second, nil, ago(10 * time.Second), PairActive},
		{"no volume, and the peer is silent", false, second, nil, ago(2 * time.Minute), PairInactive},
		{"no volume, and the peer never answered", false, second, nil, time.Time{}, PairInactive},
	} {
		p := block.Protection{Seq: 2, Enabled: !c.disabled, Interval: c.interval}
		h := healthOf(p, c.links, c.contact, now)
		if got := PairStatus(p, h, now); got != c.want {
			t.Errorf("%s: %s, want %s (%+v)", c.name, got, c.want, h)
		}
		if got := PairStatus(p, h, now.Add(24*time.Hour)); got != PairInactive {
			t.Errorf("%s: %s a day later", c.name, got)
		}
	}
}

// TestLinkNow: what the sender knows is newer than what the catalog keeps.
func TestLinkNow(t *testing.T) {
	now := time.Date(2018, 9, 11, 2, 37, 41, 0, time.UTC)
	before := now.Add(-time.Hour)
	p := block.Protection{Seq: 2, Enabled: true, Interval: time.Second}
	for _, c := range []struct {
		name  string
		kept  catalog.Link
		known replication.LinkStatus
		want  string
	}{
		{"heartbeats", catalog.Link{State: catalog.LinkCurrent, Current: before}, replication.LinkStatus{ReplicatedTo: now},
			PairActive},
		{"nothing new", catalog.Link{State: catalog.LinkCurrent, Current: before}, replication.LinkStatus{}, PairInactive},
		{"a first copy for an hour", catalog.Link{State: catalog.LinkNew, UpdatedAt: before},
			replication.LinkStatus{Sending: true}, PairActive},
		{"it just failed", catalog.Link{State: catalog.LinkCurrent, Current: now},
			replication.LinkStatus{Sending: true, LastError: "refused"}, PairInactive},
	} {
		l := SourceLink{Link: c.kept}
		l.Protection = p.Seq
		l.now(c.known, now)
		if got := PairStatus(p, healthOf(p, []SourceLink{l}, now, now), now); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// TestLinksAreNotReadForEachDocument: what took long to find out is told again for a
// while, and then found out anew.
func TestLinksAreNotReadForEachDocument(t *testing.T) {
	z := newHealthZone(t)
	looks, takes := 0, 100*time.Millisecond
	z.cfg.DR.Replicating = func() []replication.LinkStatus {
		looks++
		z.clock.pass(takes)
		return nil
	}
	tell := func(want int) []DocumentProtection {
		t.Helper()
		d, err := z.Document(t.Context())
		if err != nil || len(d.Protections) != 1 || d.Protections[0].Health.Volumes != 1 {
			t.Fatalf("%+v, %v", d.Protections, err)
		}
		if looks != want {
			t.Errorf("the links were read %d times, and not %d", looks, want)
		}
		return d.Protections
	}
	tell(1)[0].Health.Volumes = 7 // the teller keeps its own
	z.clock.pass(1900 * time.Millisecond)
	tell(1)
	z.clock.pass(200 * time.Millisecond)
	tell(2)
	z.clock.pass(-time.Hour) // it is set back
	takes = time.Minute
	tell(3)
	z.clock.pass(maxToldAge - time.Second)
	tell(3)
	z.clock.pass(2 * time.Second)
	takes = 0
	tell(4)
	tell(5) // what takes no time is not kept
}
