package control

import (
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	ratelimit "kvol/internal/pace"
	"kvol/internal/replication"
)

// TestALimitThatIsTooTightIsSaidBefore: the changes take 1 MiB of the link in a
// second, which has no limit, then one that is enough, then one that is enough
// now and will not be in the morning, then one that is too tight.
func TestALimitThatIsTooTightIsSaidBefore(t *testing.T) {
	z := newHealthZone(t) // 12:00
	z.look()
	for range 20 {
		z.clock.pass(time.Second)
		z.ObserveSource(replication.Advance{SourceZone: "b", Volume: ownVolume, Protection: 7, At: z.clock.now(),
			UpTo: z.clock.now(), Bytes: 2 << 20, Wire: 1 << 20, Span: time.Second, Took: time.Second / 10})
		z.links = []replication.LinkStatus{{Volume: ownVolume, Protection: 7, ReplicatedTo: z.clock.now()}}
	}
	limit := func(seq int64, l ratelimit.Limit) {
		t.Helper()
		if err := z.SetLinkLimit(t.Context(), everybody, "a", seq, l); err != nil {
			t.Fatal(err)
		}
	}
	say := func(when string, want block.HealthState, advice string) {
		t.Helper()
		z.clock.pass(time.Second)
		z.look()
		if p := z.pair(7); p.State != want || !strings.Contains(p.Advice, advice) || (advice == "") != (p.Advice == "") {
			t.Errorf("%s: %s, %q; it needs %.0f of %d", when, p.State, p.Advice, p.Needs, p.Limit)
		}
	}
	say("without a limit", block.HealthOK, "")
	limit(0, ratelimit.Limit{Rate: 2 << 20})
	say("twice what is needed", block.HealthOK, "")
	limit(
		7,
		ratelimit.Limit{Schedule: ratelimit.Schedule{Windows: []ratelimit.Window{{From: "08:00", To: "18:00", Rate: 2 << 20},
			{From: "03:00", To: "04:00", Rate: 1 << 19}}}},
	)
	say("too little tomorrow", block.HealthCannotHold, "From 2026-03-02 03:00 UTC on no more than 524288 bytes")
	limit(7, ratelimit.Limit{Rate: 1 << 20})
	say("as much as is needed", block.HealthCannotHold, "Give the link more bandwidth")
	if v := z.of(ownVolume); v.State != block.HealthCannotHold || !strings.Contains(v.Reason, "limited to 1048576") {
		t.Errorf("%s: %s", v.State, v.Reason)
	}
}
