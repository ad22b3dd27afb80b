package zonetest_test

import (
	"slices"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// TestTheWayBackClaimsNothingByTheOldClock: the clock of the volume's first zone
// is ahead, and by it the point is dated with which the way back begins. Neither
// end says that more is replicated than can be.
func TestTheWayBackClaimsNothingByTheOldClock(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	c.SetClock(source, 10*time.Minute)
	j := zonetest.NewJourney(t, c, source, 16, 61)
	j.WriteHere(0, 16)
	j.AwaitReplica(to)
	j.Recover(to)
	link := j.AwaitReplica(source)
	if link.ReplicatedUpTo.After(time.Now()) {
		t.Errorf("the new zone says that it sent all up to %v", link.ReplicatedUpTo)
	}
	replicas, err := c.Session(source, zonetest.Admin).ReplicasOf(t.Context(), to, j.Volume)
	if err != nil || len(replicas) != 1 || replicas[0].ReplicatedUpTo.After(time.Now()) {
		t.Errorf("the old zone says %+v, %v", replicas, err)
	}
}

// TestLossIsNotHiddenByClocksApart: the clock of a dead zone was ahead. What may
// be lost grows with the time that goes by, and somebody has to accept it.
func TestLossIsNotHiddenByClocksApart(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	c.SetClock(source, 10*time.Minute)
	j := zonetest.NewJourney(t, c, source, 16, 62)
	j.WriteHere(0, 16)
	j.AwaitReplica(to)
	admin := c.Session(to, zonetest.Admin)
	eventually(t, "the zone knows of the other one's clock", func() bool {
		found, err := admin.Doctor(t.Context(), false)
		return err == nil && slices.ContainsFunc(found.Findings, func(f client.Finding) bool {
			return f.Kind == "clocks-apart" && f.Peer == source
		})
	})
	c.Kill(source)
	req := client.Recovery{Scope: client.RecoveryScope{Volumes: []string{j.Volume}}, DryRun: true}
	eventually(t, "the loss grows", func() bool {
		_, f, err := admin.Recover(t.Context(), req)
		if err != nil || !f.NeedsAcceptLoss || f.Loss.Seconds >= (10*time.Minute).Seconds() {
			t.Fatalf("%+v, %v", f, err)
		}
		return f.Loss.Seconds > 0.1
	})
	req.DryRun = false
	_, _, err := admin.Recover(t.Context(), req)
	wantRefused(t, err, 409, "accept_loss must say")
}
