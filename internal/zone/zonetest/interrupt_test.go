package zonetest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// TestInterruptedFailoverEnds kills the source or the destination of a planned
// failover, or cuts the link between them, as it has come to each phase and a
// little after. Whatever happened, it ends; then exactly one side takes writes,
// and that has all that was written.
func TestInterruptedFailoverEnds(t *testing.T) {
	for _, fault := range []string{"source killed", "destination killed", "link cut"} {
		for looks := range 2 { // how often the failover is looked at before
			t.Run(fmt.Sprintf("%s after %d looks", fault, looks), func(t *testing.T) {
				t.Parallel()
				interrupt(t, fault, looks)
			})
		}
	}
}

func interrupt(t *testing.T, fault string, looks int) {
	const to = "kilo1"
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 64, uint64(looks))
	j.WriteHere(0, 64)
	j.AwaitReplica(to)
	s := c.Session(source, zonetest.Alice)
	f, err := j.BeginFailover(s, to)
	for range looks {
		if err == nil {
			_, err = s.FailoverByID(t.Context(), f.ID)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	switch fault {
	case "source killed":
		c.Kill(source)
		c.Start(source)
		s = c.Session(source, zonetest.Alice)
	case "destination killed":
		c.Kill(to)
		c.Start(to)
	default:
		c.Cut(source, to)
		c.Mend(source, to)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	end := f
	if err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		end, err = s.FailoverByID(ctx, f.ID)
		return end.Status != "running", err
	}); err != nil {
		t.Fatalf("it does not end: %v; %+v", err, end)
	}
	left := *j
	if end.Status == "success" {
		j.Zone, j.Volume = to, end.NewVolume
		conn := c.Open(left.Zone, left.Volume)
		if _, err := conn.WriteAt(make([]byte, zonetest.BlockSize), 0); err == nil {
			t.Error("both sides take writes")
		}
		conn.Close()
	} else if volumes, err := c.Session(to, zonetest.Alice).Volumes(t.Context(), false); err != nil {
		t.Error(err)
	} else {
		for _, v := range volumes {
			if v.Status == "available" {
				t.Errorf("it went back and left volume %s in %s", v.ID, to)
			}
		}
	}
	j.WriteHere(8, 8)
	j.Check()
	t.Logf("%s: %s", end.Status, end.Error)
}
