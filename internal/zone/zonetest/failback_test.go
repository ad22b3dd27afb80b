package zonetest_test

import (
	"testing"

	"kvol/internal/zone/zonetest"
)

// TestReturnedZoneIsSentOnlyTheDifference: after a forced recovery the zone
// that was lost comes back with writes that nobody else has. The way back to it
// costs what was written since the recovery point and not the volume, and what
// the stale primary has stays as it is.
func TestReturnedZoneIsSentOnlyTheDifference(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *zonetest.Cloud{
		"memory": zonetest.New, "embedded": zonetest.NewEmbedded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			j := zonetest.NewJourney(t, c, source, 2048, 1)
			j.WriteHere(0, 2048)
			j.AwaitReplica("kilo1")
			lost := *j
			c.Cut(source, "kilo1")
			c.Cut(source, "kilo2")
			j.WriteLost(0, 64) // of no other zone
			c.Stop(source)
			c.Mend(source, "kilo1")
			c.Mend(source, "kilo2")
			j.Recover("kilo1")
			j.Check()
			const written = 1024
			j.WriteHere(512, written)
			c.Start(source)
			link := j.AwaitReplica(source)
			if link.WholeReason != "" || link.BytesSent > written*zonetest.BlockSize*105/100 {
				t.Errorf("%d bytes went back for %d that were written: %+v", link.BytesSent, written*zonetest.BlockSize, link)
			}
			t.Logf("%d bytes went back for %d that were written, %.3f of it", link.BytesSent,
				written*zonetest.BlockSize, float64(link.BytesSent)/(written*zonetest.BlockSize))
			if first := c.Block(lost.Zone, lost.Volume, 0); string(first) != string(j.Lost(0)) {
				t.Error("the stale primary has lost what only it had")
			}
			if first := c.Block(lost.Zone, lost.Volume, 512); string(first) == string(j.Block(512)) {
				t.Error("the stale primary was written to")
			}
		})
	}
}
