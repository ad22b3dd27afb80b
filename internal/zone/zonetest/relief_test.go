package zonetest_test

import (
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// TestADeadTargetDoesNotFillTheStore: one of two backup zones is gone for long,
// and the store of the source has not the room to keep what it has: that is given
// up, hosts go on writing, the other backup zone gets everything; when the lost
// one is back it gets the difference to the newest snapshot that both have.
func TestADeadTargetDoesNotFillTheStore(t *testing.T) {
	t.Parallel()
	const all, half, other = 512, 256, "kilo2"
	c := zonetest.NewSmall(t, map[string]int64{source: (4 << 20) + 40*zonetest.BlockSize})
	j := zonetest.NewJourney(t, c, source, all, 5)
	j.WriteHere(0, all)
	s, admin := c.Session(source, zonetest.Alice), c.Session(source, zonetest.Admin)
	if _, err := s.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: j.Volume, Name: "both have it"}); err != nil {
		t.Fatal(err)
	}
	j.WriteHere(0, half)
	before := j.AwaitReplica(to).BytesSent
	j.AwaitReplica(other)
	c.Cut(source, to)
	j.WriteHere(0, half)
	j.AwaitReplica(other)
	c.SetClock(source, 2*time.Minute) // that long it is dead
	var given client.Link
	if err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		links, err := admin.Links(t.Context())
		for _, l := range links {
			if l.VolumeID == j.Volume && l.Destination == to {
				given = l
			}
		}
		return given.Confirmed == nil, err
	}); err != nil {
		t.Fatalf("what the dead zone has is kept: %v, %+v", err, given)
	}
	if !strings.Contains(given.WholeReason, "was given up") {
		t.Errorf("the reason is %q", given.WholeReason)
	}
	if text := metricsOf(t, c.URL(source)); !strings.Contains(text, "kvol_replication_points_given_up_total 1") {
		t.Error("no metric tells it")
	}
	for range 3 { // more than there was room for
		j.WriteHere(0, half)
		j.AwaitReplica(other)
	}
	c.Mend(source, to)
	if sent := j.AwaitReplica(to).BytesSent - before; sent > (all+half)/2*zonetest.BlockSize {
		t.Errorf("%d bytes were sent to the zone that was gone, for %d that differ", sent, half*zonetest.BlockSize)
	}
}
