package zonetest_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
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
	both, err := s.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: j.Volume, Name: "both have it"})
	if err == nil {
		_, err = s.WaitSnapshot(t.Context(), both.ID, "available")
	}
	if err != nil {
		t.Fatal(err)
	}
	j.WriteHere(0, half)
	before := j.AwaitReplica(to).BytesSent
	j.AwaitReplica(other)
	awaitSnapshot(t, c, j.Volume, both.ID)
	awaitSnapshots(t, c, j.Volume, 3) // the tenant's, and one of each link
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
		awaitSnapshots(t, c, j.Volume, 2)
		j.WriteHere(0, half)
		j.AwaitReplica(other)
	}
	c.Mend(source, to)
	if sent := j.AwaitReplica(to).BytesSent - before; sent > (all+half)/2*zonetest.BlockSize {
		t.Errorf("%d bytes were sent to the zone that was gone, for %d that differ", sent, half*zonetest.BlockSize)
	}
}

// awaitSnapshots waits until the source keeps no more snapshots of a volume than so many:
// a point that is confirmed takes the place of the one before, which goes a little later.
func awaitSnapshots(t *testing.T, c *zonetest.Cloud, volume string, most int) {
	t.Helper()
	eventually(t, "replaced points are gone", func() bool {
		all, err := c.Store(source).Snapshots(t.Context(), block.VolumeID(volume))
		if err != nil {
			t.Fatal(err)
		}
		return len(all) <= most
	})
}

// TestADeltaGoesOnWithoutACommonPoint: what the source kept for a zone that is
// gone for long had to be given up, and no snapshot is left that both have. When
// the zone is back both compare what they have, and what differs is sent, no more;
// also when the connection breaks in the midst.
func TestADeltaGoesOnWithoutACommonPoint(t *testing.T) {
	t.Parallel()
	const all, few, other = 2048, 24, "kilo2"
	c := zonetest.NewSmall(t, map[string]int64{source: (all + all/4 + 100) * zonetest.BlockSize})
	j := zonetest.NewJourney(t, c, source, all, 6)
	j.WriteHere(0, all)
	before := j.AwaitReplica(to).BytesSent
	j.AwaitReplica(other)
	c.Cut(source, to)
	c.SetClock(source, 2*time.Minute) // that long it is dead
	admin := c.Session(source, zonetest.Admin)
	j.WriteHere(0, all/4) // after which little room is left
	j.AwaitReplica(other)
	if err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		links, err := admin.Links(t.Context())
		return slices.ContainsFunc(links, func(l client.Link) bool {
			return l.VolumeID == j.Volume && l.Destination == to && l.Confirmed == nil
		}), err
	}); err != nil {
		t.Fatalf("what the dead zone has is kept: %v", err)
	}
	j.WriteHere(all-few, few)
	j.AwaitReplica(other)
	c.Shape(source, to, 256<<10) // of 2 MiB that differ: it takes seconds
	c.Mend(source, to)
	there := c.Session(to, zonetest.Admin)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := client.Poll(ctx, time.Millisecond, func() (bool, error) {
		replicas, err := there.Replicas(ctx)
		return len(replicas) > 0 && replicas[0].Receiving, err
	}); err != nil {
		t.Fatalf("nothing comes: %v", err)
	}
	c.Cut(source, to)
	c.Shape(source, to, 0)
	c.Mend(source, to)
	differ := int64(all/4+few) * zonetest.BlockSize
	if sent := j.AwaitReplica(to).BytesSent - before; sent > differ+differ/2 {
		t.Errorf("%d bytes were sent to the zone that was gone, for %d that differ", sent, differ)
	}
	j.WriteHere(1, 2)
	if points := pointsIn(t, c, to, j.Volume); len(points) == 0 || points[len(points)-1].Root == "" {
		t.Errorf("%+v", points)
	}
	j.AwaitReplica(to)
	c.Kill(source)
	j.Recover(to)
	j.Check()
}
