package zonetest_test

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// Tests that docs/dr-rules.md names and that belong to no other file.

// makeVolume waits for a volume of Alice's.
func makeVolume(t *testing.T, s *client.Session, n client.NewVolume) client.Volume {
	t.Helper()
	v, err := s.CreateVolume(t.Context(), n)
	if err == nil {
		v, err = s.WaitVolume(t.Context(), v.ID, nil, "available")
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// upToDate waits until a zone has all of a volume that is older than now.
func upToDate(t *testing.T, c *zonetest.Cloud, volume string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	now, s := time.Now(), c.Session(to, zonetest.Admin)
	err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		all, err := s.ReplicasOf(ctx, source, volume)
		if client.IsStatus(err, http.StatusNotFound) {
			return false, nil
		}
		return len(all) == 1 && len(all[0].Points) > 0 && all[0].ReplicatedUpTo.After(now), err
	})
	if err != nil {
		t.Fatalf("volume %s: %v", volume, err)
	}
}

// TestCloneIsReplicatedWithWhatItInherits: a volume that was made of a snapshot,
// of which a part was overwritten, comes back whole in the other zone, though the
// snapshot is deleted and its parent is another one by then.
func TestCloneIsReplicatedWithWhatItInherits(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	parent := protect(t, c, 1)[0]
	s := c.Session(source, zonetest.Alice)
	sn, err := s.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: parent.Volume, Force: true})
	if err == nil {
		sn, err = s.WaitSnapshot(t.Context(), sn.ID, "available")
	}
	if err != nil {
		t.Fatal(err)
	}
	clone := makeVolume(t, s, client.NewVolume{Name: "clone", SnapshotID: sn.ID, Size: 1})
	own := bytes.Repeat([]byte{0xc1}, zonetest.BlockSize)
	conn := c.Open(source, clone.ID)
	if _, err := conn.WriteAt(own, 3*zonetest.BlockSize); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	want := make([][]byte, 8) // what the parent had, and what the clone wrote
	for b := range want {
		want[b] = bytes.Clone(parent.Block(b))
	}
	want[3] = own
	parent.WriteHere(0, 8)
	if err := s.DeleteSnapshot(t.Context(), sn.ID); err != nil {
		t.Fatal(err)
	}
	upToDate(t, c, clone.ID)
	c.Kill(source)
	admin := c.Session(to, zonetest.Admin)
	op, _, err := admin.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Volumes: []string{clone.ID}},
		AcceptLoss: true})
	if err != nil {
		t.Fatal(err)
	}
	d, err := admin.WaitDurable(t.Context(), op.ID, nil)
	if err != nil || len(d.Steps) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	for b, content := range want {
		if got := c.Block(to, d.Steps[0].NewVolume, b); !bytes.Equal(got, content) {
			t.Errorf("block %d of the clone is not what it was", b)
		}
	}
}

// TestRecoveryInTheMiddleOfAPoint: while a point is under way, and its link is as
// slow as can be, the volume is recovered. It has the point before, whole and
// nothing of the next, and what still comes in changes nothing.
func TestRecoveryInTheMiddleOfAPoint(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 1024, 1)
	j.WriteHere(0, 64)
	j.AwaitReplica(to)
	admin := c.Session(source, zonetest.Admin)
	if _, err := admin.SetLimit(t.Context(), client.Limit{Zone: to, Rate: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	j.WriteLostApart(0, 1024, to)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	there := c.Session(to, zonetest.Admin)
	err := client.Poll(ctx, time.Millisecond, func() (bool, error) {
		all, err := there.Replicas(ctx)
		return slices.ContainsFunc(all, func(r client.Replica) bool { return r.VolumeID == j.Volume && r.Receiving }), err
	})
	if err != nil {
		t.Fatalf("no point is under way: %v", err)
	}
	j.Recover(to)
	j.Check()
	if err := admin.DeleteLimit(t.Context(), to, 0); err != nil {
		t.Fatal(err)
	}
	j.Check()
	report, err := there.VerifyAudit(t.Context())
	if err != nil || !report.Whole {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestCopyAtTheReplicaDisturbsNothing: a volume is made of a replicated snapshot
// in the backup zone and written to. Points keep coming there, by what changed,
// and neither side sees anything of the other.
func TestCopyAtTheReplicaDisturbsNothing(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 256, 1)
	j.WriteHere(0, 256)
	j.AwaitReplica(to)
	s := c.Session(source, zonetest.Alice)
	sn, err := s.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: j.Volume, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	awaitSnapshot(t, c, j.Volume, sn.ID)
	first := bytes.Clone(j.Block(0))
	sent := j.AwaitReplica(to).BytesSent
	k := c.Kvol(to)
	rowkey, err := k.Create(t.Context(), client.Elsewhere{SrcZone: source, SrcType: zonetest.TypeID(source),
		Snapshot: sn.ID, DstZone: to, DstProject: c.Projects[zonetest.Alice], DstType: zonetest.TypeID(to)})
	var job client.KvolJob
	if err == nil {
		job, err = k.Wait(t.Context(), "create", rowkey, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	j.WriteHere(0, 1)
	conn := c.Open(to, *job.NewVolumeID)
	scratch := bytes.Repeat([]byte{0xd1}, zonetest.BlockSize)
	if _, err := conn.WriteAt(scratch, zonetest.BlockSize); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if got := c.Block(to, *job.NewVolumeID, 0); !bytes.Equal(got, first) {
		t.Error("the copy changed with its source")
	}
	link := j.AwaitReplica(to) // its root is what was written here, and nothing of the copy
	if whole := int64(256 * zonetest.BlockSize); link.BytesSent-sent > whole/2 {
		t.Errorf("%d bytes went to the zone for one block", link.BytesSent-sent)
	}
	there := c.Session(to, zonetest.Alice)
	if err := there.DeleteVolume(t.Context(), *job.NewVolumeID); err != nil {
		t.Fatal(err)
	}
	j.WriteHere(5, 1)
	j.AwaitReplica(to)
	find(t, c, to, "leaked-pin", false)
	j.Check()
}

// TestWritesBecomePointsByThemselves: nobody takes a snapshot, and each write is
// a point in the other zones, for what it changed.
func TestWritesBecomePointsByThemselves(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 256, 1)
	j.WriteHere(0, 256)
	sent := j.AwaitReplica(to).BytesSent
	seen := map[string]bool{}
	var last client.Link
	for b := range 8 {
		j.WriteHere(b, 1)
		last = j.AwaitReplica(to)
		seen[last.Confirmed.ID] = true
	}
	if all, err := c.Session(source, zonetest.Alice).Snapshots(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("snapshots %+v, %v", all, err)
	}
	if len(seen) != 8 {
		t.Errorf("%d points of 8 writes", len(seen))
	}
	if n := last.BytesSent - sent; n > 128*zonetest.BlockSize {
		t.Errorf("%d bytes for 8 blocks", n)
	}
}

// TestRecoveryTakesWhatIsNewestWhenItBegins: a recovery waits for consent, and
// points come meanwhile. What is recovered is the newest point of when it begins,
// and the step says which that is.
func TestRecoveryTakesWhatIsNewestWhenItBegins(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.SecondConsent = true
		cfg.Identity.Users = append(cfg.Identity.Users, zone.UserConfig{Name: "second", Password: zonetest.Password,
			Roles: []zone.RoleConfig{{Project: zonetest.Admin, Role: "admin"}}})
	})
	c.Projects["second"] = c.Projects[zonetest.Admin]
	all := protect(t, c, 1)
	admin, second := c.Session(to, zonetest.Admin), c.Session(to, "second")
	op, _, err := admin.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Volumes: ids(all)},
		AcceptLoss: true})
	if err != nil || op.Status != "waiting for consent" {
		t.Fatalf("%+v, %v", op, err)
	}
	all[0].WriteHere(0, 8)
	newest := all[0].AwaitReplica(to)
	c.Kill(source)
	if _, err := second.ConsentDurable(t.Context(), op.ID); err != nil {
		t.Fatal(err)
	}
	d := recovered(t, c, admin, op.ID, all) // what was written last
	if p := d.Steps[0].Point; p == nil || p.Root != newest.Confirmed.Root {
		t.Errorf("the step tells of %+v, the newest point was %+v", p, newest.Confirmed)
	}
	calls, err := admin.Audits(t.Context(), client.AuditQuery{Operation: op.ID})
	names := make([]string, 0, len(calls))
	for _, a := range calls {
		names = append(names, a.Call)
		if a.Call == "operation consent" && (a.User == "" || a.Consent == "" || a.Remote != "127.0.0.1" ||
			!slices.Contains(a.Roles, "admin")) {
			t.Errorf("%+v", a)
		}
	}
	if err != nil || !slices.Contains(names, "operation recover") || !slices.Contains(names, "operation consent") ||
		!slices.Contains(names, "recovery begins") || !slices.Contains(names, "operation succeeded") {
		t.Errorf("the audit log has %v, %v", names, err)
	}
}
