package zonetest_test

import (
	"testing"

	"kvol/internal/zone/zonetest"
)

// TestForcedRecoveryStopsALivingSourceFirst recovers a volume by force though
// its zone lives. When the new volume can be opened, hosts write to the old one
// no more.
func TestForcedRecoveryStopsALivingSourceFirst(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 16, 9)
	j.WriteHere(0, 16)
	j.AwaitReplica("kilo1")
	conn := c.Open(source, j.Volume)
	defer conn.Close()
	j.Recover("kilo1")
	if _, err := conn.WriteAt(make([]byte, zonetest.BlockSize), 0); err == nil {
		t.Error("both volumes take writes")
	}
	j.WriteHere(4, 4)
	j.Check()
}
