package zonetest_test

import (
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// damagedNewest is a volume whose newest point in the other zone is known to be damaged,
// and what the one before has is what the journey has; it tells the damaged one's root.
func damagedNewest(t *testing.T, c *zonetest.Cloud) (j *zonetest.Journey, root string) {
	t.Helper()
	j = protect(t, c, 1)[0]
	s := c.Session(source, zonetest.Alice)
	if _, err := s.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: j.Volume, Name: "whole"}); err != nil {
		t.Fatal(err)
	}
	there := c.Session(to, zonetest.Admin)
	points := func(last string) func() bool { // with the snapshot's
		return func() bool {
			replicas, err := there.ReplicasOf(t.Context(), source, j.Volume)
			if err != nil || len(replicas) != 1 || len(replicas[0].Points) < 2 {
				return false
			}
			root = replicas[0].Points[len(replicas[0].Points)-1].Root
			return (root == j.Root()) == (last == "whole")
		}
	}
	eventually(t, "the snapshot is there", points("whole"))
	j.WriteLost(0, 4)
	eventually(t, "a newer point is there", points("newer"))
	c.Cut(source, to) // nothing newer comes
	c.Stop(to)
	c.Catalog(to, func(tx *catalog.Tx) error {
		all, err := tx.Replicas(source)
		for _, r := range all {
			points, err := tx.Points(r.ID)
			if err != nil {
				return err
			}
			for _, p := range points {
				if p.Root.String() == j.Root() {
					continue
				}
				if err := tx.MarkPoint(r.ID, p.ID, "a bit is another one"); err != nil {
					return err
				}
				root = p.Root.String()
			}
		}
		return err
	})
	c.Start(to)
	return j, root
}

// TestRecoveryPassesDamageOver: what is recovered, and drilled, is what the forecast has
// shown: the newest point that is whole.
func TestRecoveryPassesDamageOver(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j, _ := damagedNewest(t, c)
	s := c.Session(to, zonetest.Alice)
	scope := client.RecoveryScope{Zone: source, Volumes: []string{j.Volume}}
	r := drilled(t, s, begun(t, s, client.Drill{Scope: scope}))
	if r.Verdict != "pass" || len(r.Volumes) != 1 || r.Volumes[0].Root != j.Root() {
		t.Errorf("a drill serves %+v, whole is %s", r.Volumes, j.Root())
	}
	c.Kill(source)
	op, _, err := s.Recover(t.Context(), client.Recovery{Scope: scope, AcceptLoss: true})
	if err != nil {
		t.Fatal(err)
	}
	recovered(t, c, s, op.ID, []*zonetest.Journey{j})
}

// TestFailoverOntoDamageGoesBack: the destination has the content by its root, and knows
// that its bytes are others: the volume stays where it is whole.
func TestFailoverOntoDamageGoesBack(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j, root := damagedNewest(t, c)
	c.Mend(source, to)
	s := c.Session(source, zonetest.Alice)
	f, err := j.BeginFailover(s, to)
	if err != nil {
		t.Fatal(err)
	}
	f, err = s.WaitFailover(t.Context(), f.ID, nil)
	if err == nil || f.Status != "fail" || f.Point == nil || f.Point.Root != root {
		t.Errorf("it went on from %s, which is damaged: %v; %+v", root, err, f)
	}
	conn := c.Open(source, j.Volume)
	defer conn.Close()
	if _, err := conn.WriteAt(make([]byte, zonetest.BlockSize), 0); err != nil {
		t.Errorf("it takes no writes at home: %v", err)
	}
}

// TestFailoverTakesItsTime: a destination that says that it is at it is waited for, as
// where it has to copy the volume to another store.
func TestFailoverTakesItsTime(t *testing.T) {
	t.Parallel()
	x := gated(t, 77)
	open := x.begin("kilo1", zonetest.BeforeClone)
	x.phase(block.FailoverPromoting)
	x.c.SetClock(source, 10*time.Minute)
	before := x.c.Sent(source, "kilo1")
	eventually(t, "it is asked again", func() bool { return x.c.Sent(source, "kilo1") > before+20_000 })
	x.phase(block.FailoverPromoting)
	open(nil)
	f, err := x.s.WaitFailover(t.Context(), x.f.ID, nil)
	if err != nil {
		t.Fatalf("%v: %+v", err, f)
	}
	x.j.Zone, x.j.Volume = "kilo1", f.NewVolume
	x.j.Check()
}
