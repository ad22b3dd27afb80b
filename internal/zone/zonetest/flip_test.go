package zonetest_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// TestFlips moves a volume to and fro between two zones, with writes between:
// KVOL_FLIPS times, or a few dozen. Each time what arrives has the root hash of
// all that was written, the side that was left takes no write, and only what
// changed has travelled. The owner deletes what is left behind.
func TestFlips(t *testing.T) {
	t.Parallel()
	flips := 24
	if n, err := strconv.Atoi(os.Getenv("KVOL_FLIPS")); err == nil {
		flips = n
	}
	c := zonetest.New(t)
	const blocks = 256
	j := zonetest.NewJourney(t, c, source, blocks, 3)
	j.WriteHere(0, blocks)
	j.AwaitReplica("kilo1")
	began := time.Now()
	for n := range flips {
		to := []string{"kilo1", source}[n%2]
		conn := c.Open(j.Zone, j.Volume)
		const changed = 16
		j.Write(conn, (n*changed)%(blocks-changed), changed)
		left := *j
		j.Failover(to)
		if _, err := conn.WriteAt(make([]byte, zonetest.BlockSize), 0); err == nil {
			t.Fatalf("flip %d: the side that was left took a write", n)
		}
		conn.Close()
		if n%50 == 0 {
			j.Check()
		}
		if link := j.AwaitReplica(left.Zone); link.WholeReason != "" || link.BytesSent > blocks*zonetest.BlockSize/2 {
			t.Fatalf("flip %d: the reverse protection sent %d bytes: %q", n, link.BytesSent, link.WholeReason)
		}
		s := c.Session(left.Zone, zonetest.Alice)
		if err := s.DeleteVolume(t.Context(), left.Volume); err != nil {
			t.Fatalf("flip %d: %v", n, err)
		}
	}
	j.Check()
	t.Logf("%d flips with equal hashes in %v", flips, time.Since(began).Round(time.Second))
}

// TestPlannedFailoverRefusesWhatCannotBePlanned: an unreachable peer, a zone
// that the volume is not replicated to, a volume that lives elsewhere. Nothing
// of the volume changes by it.
func TestPlannedFailoverRefusesWhatCannotBePlanned(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 16, 4)
	j.WriteHere(0, 16)
	j.AwaitReplica("kilo1")
	j.AwaitReplica("kilo2")
	s := c.Session(source, zonetest.Alice)
	refused := func(status int, volume string, to client.FailoverTo) {
		t.Helper()
		if f, err := s.Failover(t.Context(), volume, to); !client.IsStatus(err, status) {
			t.Errorf("%+v: %+v, %v; want %d", to, f, err, status)
		}
	}
	refused(400, j.Volume, client.FailoverTo{})
	refused(400, j.Volume, client.FailoverTo{Destination: "nowhere"})
	refused(400, j.Volume, client.FailoverTo{Destination: "kilo1", DestinationType: zonetest.TypeID("kilo2")})
	c.Kill("kilo1")
	refused(503, j.Volume, client.FailoverTo{Destination: "kilo1"})
	if _, err := s.Failback(t.Context(), j.Volume, client.FailoverTo{}); !client.IsStatus(err, 400) {
		t.Errorf("a way back of what never left: %v", err)
	}
	bob := c.Session(source, zonetest.Bob)
	if _, err := bob.Failover(t.Context(), j.Volume, client.FailoverTo{Destination: "kilo2"}); !client.IsStatus(err, 404) {
		t.Errorf("somebody else's volume: %v", err)
	}
	j.WriteHere(0, 4)
	left := j.Volume
	j.Failover("kilo2")
	refused(400, left, client.FailoverTo{Destination: "kilo2"})
	if all, err := bob.Failovers(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("somebody else sees %+v, %v", all, err)
	}
	j.Check()
}
