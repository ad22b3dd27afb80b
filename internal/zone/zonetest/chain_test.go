package zonetest_test

import (
	"slices"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

const last = "kilo2" // of the chain source, to, last

// chained has volumes of the first zone sent to the second alone, and from there
// on to the third.
func chained(cfg *zone.Config) {
	if cfg.Zone == source {
		cfg.Protections = slices.DeleteFunc(
			cfg.Protections,
			func(p zone.ProtectionConfig) bool { return p.Destination != to },
		)
	}
	if cfg.Zone == to {
		cfg.Relays = []zone.RelayConfig{{Seq: 100, SourceZone: source, Follows: 2, Destination: last,
			BackupBackend: zone.BackendConfig{Name: last + "-backup"}, Interval: 100 * time.Millisecond}}
	}
}

// pointsIn are the points that a zone has of a volume of the first one.
func pointsIn(t *testing.T, c *zonetest.Cloud, zone, volume string) []client.Point {
	t.Helper()
	replicas, err := c.Session(zone, zonetest.Admin).ReplicasOf(t.Context(), source, volume)
	if client.IsStatus(err, 404) {
		return nil
	}
	if err != nil || len(replicas) != 1 {
		t.Fatalf("%s has %+v, %v", zone, replicas, err)
	}
	return replicas[0].Points
}

// arrived waits until the last zone of the chain has what was written.
func arrived(t *testing.T, c *zonetest.Cloud, j *zonetest.Journey) []client.Point {
	t.Helper()
	var points []client.Point
	if err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
		points = pointsIn(t, c, last, j.Volume)
		return len(points) > 0 && points[len(points)-1].Root == j.Root(), nil
	}); err != nil {
		t.Fatalf("nothing came through: %v, %+v", err, points)
	}
	return points
}

// TestChainSendsTheSamePointsOn: what the second zone has of a volume comes to
// the third by the same names, tenants' snapshots and their deletion with it,
// also when the second zone is killed in between; with the first two dead the
// third recovers it.
func TestChainSendsTheSamePointsOn(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, chained)
	j := zonetest.NewJourney(t, c, source, 64, 21)
	j.WriteHere(0, 64)
	s := c.Session(source, zonetest.Alice)
	snap, err := s.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: j.Volume, Name: "named"})
	if err != nil {
		t.Fatal(err)
	}
	j.WriteHere(0, 8)
	arrived(t, c, j)
	c.Kill(to)
	j.WriteHere(8, 8)
	c.Start(to)
	points := arrived(t, c, j)
	named := false
	for _, p := range points {
		named = named || p.Name == snap.ID
	}
	if !named {
		t.Errorf("the snapshot did not come through: %+v", points)
	}
	there := map[string]client.Point{}
	for _, p := range pointsIn(t, c, to, j.Volume) {
		there[p.ID] = p
	}
	newest := points[len(points)-1]
	if p := there[newest.ID]; p.Root != newest.Root || !p.At.Equal(newest.At) || p.Sequence != newest.Sequence ||
		p.Epoch != newest.Epoch {
		t.Errorf("the newest point is %+v in the last zone and %+v before it", newest, p)
	}
	if err := s.DeleteSnapshot(t.Context(), snap.ID); err != nil {
		t.Fatal(err)
	}
	if err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
		return !slices.ContainsFunc(pointsIn(t, c, last, j.Volume), func(p client.Point) bool { return p.ID == snap.ID }), nil
	}); err != nil {
		t.Errorf("the deletion does not come through: %v", err)
	}
	j.WriteHere(20, 4)
	arrived(t, c, j)
	c.Kill(source)
	c.Kill(to)
	admin := c.Session(last, zonetest.Admin)
	op, _, err := admin.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Zone: source},
		AcceptLoss: true, AcceptRivals: []string{to}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := admin.WaitDurable(t.Context(), op.ID, nil)
	if err != nil || d.Status != "succeeded" || len(d.Steps) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if root := j.Root(); d.Steps[0].Point == nil || d.Steps[0].Point.Root != root {
		t.Errorf("recovered was %+v, written %s", d.Steps[0].Point, root)
	}
	j.Zone, j.Volume = last, d.Steps[0].NewVolume
	j.Check()
}

// TestChainGoesOnAfterAPromotion: the first zone is lost and the second takes its
// volume over; the third gets what is new, and nothing of what it has.
func TestChainGoesOnAfterAPromotion(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, chained)
	j := zonetest.NewJourney(t, c, source, 256, 22)
	j.WriteHere(0, 256)
	j.AwaitReplica(to)
	arrived(t, c, j)
	c.Kill(source)
	j.Recover(to)
	j.WriteHere(3, 5)
	if link := j.AwaitReplica(last); link.BytesSent > 32*zonetest.BlockSize {
		t.Errorf("%d bytes were sent to the last zone for 5 blocks that are new: %q", link.BytesSent, link.WholeReason)
	}
}

// TestRelaysGoSideBySide: a volume that the last zone is slow to take holds up no
// other one.
func TestRelaysGoSideBySide(t *testing.T) {
	t.Parallel()
	gate := zonetest.NewGate(mem.New(mem.Options{}))
	c := zonetest.NewOn(t, map[string]driver.Driver{last: gate}, chained)
	came, open := gate.Catch(zonetest.BeforeSnapshot)
	var journeys []*zonetest.Journey
	for seed := range uint64(2) {
		j := zonetest.NewJourney(t, c, source, 4, 50+seed)
		j.WriteHere(0, 4)
		journeys = append(journeys, j)
	}
	select {
	case <-came:
	case <-time.After(long):
		t.Fatal("nothing comes to the last zone")
	}
	eventually(t, "the other one comes through", func() bool {
		return len(pointsIn(t, c, last, journeys[0].Volume))+len(pointsIn(t, c, last, journeys[1].Volume)) > 0
	})
	open(nil)
	for _, j := range journeys {
		arrived(t, c, j)
	}
}
