package zonetest_test

import (
	"testing"
	"time"

	"kvol/internal/client"
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
			checkStale(t, c, lost.Volume, j.Volume)
			if first := c.Block(lost.Zone, lost.Volume, 0); string(first) != string(j.Lost(0)) {
				t.Error("the stale primary has lost what only it had")
			}
			if first := c.Block(lost.Zone, lost.Volume, 512); string(first) == string(j.Block(512)) {
				t.Error("the stale primary was written to")
			}
		})
	}
}

// checkStale: the 64 blocks that only the stale volume has are kept, and listed.
func checkStale(t *testing.T, c *zonetest.Cloud, volume, now string) {
	t.Helper()
	s := c.Session(source, zonetest.Alice)
	var all []client.Stale
	err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
		var err error
		all, err = s.Stale(t.Context())
		return len(all) == 1 && all[0].State != "comparing", err
	})
	if err != nil {
		t.Fatalf("%+v, %v", all, err)
	}
	v := all[0]
	if v.VolumeID != volume || v.Zone != "kilo1" || v.NewVolume != now || v.State != "kept" || v.UndoSnapshot == "" ||
		v.DivergedBytes != 64*zonetest.BlockSize || len(v.Ranges) != 1 || v.Ranges[0].Offset != 0 ||
		v.Ranges[0].Length != v.DivergedBytes || v.KeptUntil == nil || time.Until(*v.KeptUntil) < 6*24*time.Hour {
		t.Errorf("%+v", v)
	}
	if others, err := c.Session(source, zonetest.Bob).Stale(t.Context()); err != nil || len(others) != 0 {
		t.Errorf("somebody else sees %+v, %v", others, err)
	}
}
