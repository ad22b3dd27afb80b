package zonetest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// to is where the tests of recoveries recover.
const to = "kilo1"

// changing are the tables in which a recovery leaves something.
var changing = []string{"volumes", "dr_operations", "dr_operation_steps", "dr_jobs", "fences", "pins", "points",
	"replicas", "cuts", "audit", "jobs", "sequences", "dr_plans"}

// protect makes volumes of Alice's with something in them, and waits until the
// other zone has all of it.
func protect(t *testing.T, c *zonetest.Cloud, n int) (all []*zonetest.Journey) {
	t.Helper()
	for i := range n {
		j := zonetest.NewJourney(t, c, source, 8, uint64(i+1))
		j.WriteHere(0, 8)
		all = append(all, j)
	}
	for _, j := range all {
		j.AwaitReplica(to)
	}
	return all
}

func ids(all []*zonetest.Journey) (list []string) {
	for _, j := range all {
		list = append(list, j.Volume)
	}
	return list
}

// recovered waits for the end of a recovery, and wants each volume to be what
// was written, with a proof.
func recovered(t *testing.T, c *zonetest.Cloud, s *client.Session, id string, all []*zonetest.Journey) client.Durable {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d, err := s.WaitDurable(ctx, id, nil)
	if err != nil {
		t.Fatalf("%v; %+v", err, d)
	}
	for _, j := range all {
		i := slices.IndexFunc(d.Steps, func(step client.DurableStep) bool { return step.Source == j.Volume })
		if i < 0 {
			t.Fatalf("volume %s is not in %+v", j.Volume, d.Steps)
		}
		step := d.Steps[i]
		var e struct {
			Served string `json:"served_root"`
			Equal  bool   `json:"equal"`
			Root   string `json:"root"`
		}
		if err := json.Unmarshal(step.Evidence, &e); err != nil {
			t.Fatalf("%v: %s", err, step.Evidence)
		}
		if !e.Equal || e.Served != e.Root || e.Root != j.Root() || step.Point == nil || step.Point.Root != e.Root {
			t.Errorf("the proof of volume %s is %s, its point %+v, written was %s", j.Volume, step.Evidence, step.Point,
				j.Root())
		}
		if step.Loss == nil || step.Loss.Since == nil || step.Loss.Since.Before(step.Point.At) {
			t.Errorf("its loss is %+v", step.Loss)
		}
		j.Zone, j.Volume = to, step.NewVolume
		j.Check()
	}
	if d.ServedAt == nil || d.Cancelable || d.BytesDone != d.BytesTotal {
		t.Errorf("%+v", d)
	}
	return d
}

func wantRefused(t *testing.T, err error, status int, says string) {
	t.Helper()
	if !client.IsStatus(err, status) || !strings.Contains(err.Error(), says) {
		t.Errorf("%v, want %d and %q", err, status, says)
	}
}

// TestDeadZoneIsRecoveredInOneCall: nothing of the dead zone is needed. A dry
// run before tells what is lost and changes nothing, and no loss is forced that
// nobody accepted. A recovery that is asked for twice with one key is one.
func TestDeadZoneIsRecoveredInOneCall(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	all := protect(t, c, 4)
	s := c.Session(to, zonetest.Alice)
	c.Kill(source)
	c.Cut(source, to)
	req := client.Recovery{Scope: client.RecoveryScope{Zone: source}, DryRun: true, IdempotencyKey: "the night"}
	before := c.Rows(to, changing...)
	_, f, err := s.Recover(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Possible || !f.NeedsAcceptLoss || f.Loss.Seconds <= 0 || f.Loss.Unreplicated != nil || len(f.Volumes) != 4 {
		t.Errorf("%+v", f)
	}
	for _, v := range f.Volumes {
		if v.Point == nil || v.Loss == nil || v.Loss.Later != 0 || v.Way != "clone" || v.Type != zonetest.TypeName ||
			v.Project != c.Projects[zonetest.Alice] || v.SizeGiB != 1 || v.SourceZone != source {
			t.Errorf("%+v", v)
		}
	}
	if after := c.Rows(to, changing...); !slices.Equal(before, after) {
		t.Errorf("a dry run changed the catalog: %d rows, then %d", len(before), len(after))
	}
	req.DryRun = false
	_, _, err = s.Recover(t.Context(), req)
	wantRefused(t, err, http.StatusConflict, "accept_loss")
	req.AcceptLoss = true
	op, _, err := s.Recover(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again, _, err := s.Recover(t.Context(), req)
		if err != nil || again.ID != op.ID {
			t.Errorf("with the same key %+v, %v", again, err)
		}
	}
	other := req
	other.Parallel = 3
	_, _, err = s.Recover(t.Context(), other)
	wantRefused(t, err, http.StatusConflict, "another request")
	recovered(t, c, s, op.ID, all)
	if list, err := s.Durables(t.Context(), "recover"); err != nil || len(list) != 1 {
		t.Errorf("%d operations, %v", len(list), err)
	}
	req.IdempotencyKey = ""
	_, _, err = s.Recover(t.Context(), req)
	wantRefused(t, err, http.StatusConflict, "was recovered already")
	if volumes, err := s.Volumes(t.Context(), false); err != nil || len(volumes) != 4 {
		t.Errorf("%d volumes, %v", len(volumes), err)
	}
	bob := c.Session(to, zonetest.Bob)
	_, _, err = bob.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Zone: source}, AcceptLoss: true})
	wantRefused(t, err, http.StatusNotFound, "replicated to zone")
	if _, err = bob.Durable(t.Context(), op.ID); !client.IsStatus(err, http.StatusNotFound) {
		t.Errorf("somebody else sees it: %v", err)
	}
}

// TestWhatDoesNotFitIsSaidBefore: a quota that is too small, a type that is not
// there and a volume without a point are reported before anything begins.
func TestWhatDoesNotFitIsSaidBefore(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	all := protect(t, c, 3)
	c.Kill(source)
	admin, s := c.Session(to, zonetest.Admin), c.Session(to, zonetest.Alice)
	before := c.Rows(to, "volumes", "dr_operations", "fences")
	req := client.Recovery{Scope: client.RecoveryScope{Volumes: ids(all)}, AcceptLoss: true}
	missing := req
	missing.Mapping.Type = map[string]string{"*": "nvme"}
	_, _, err := s.Recover(t.Context(), missing)
	wantRefused(t, err, http.StatusConflict, "nvme could not be found")
	missing.DryRun = true
	_, f, err := s.Recover(t.Context(), missing)
	if err != nil || f.Possible || f.Volumes[0].Problems[0].Kind != "type" {
		t.Errorf("%+v, %v", f, err)
	}
	if err := admin.SetQuotas(t.Context(), c.Projects[zonetest.Alice], map[string]int64{"volumes": 2}); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Recover(t.Context(), req)
	wantRefused(t, err, http.StatusRequestEntityTooLarge, "Maximum number of volumes allowed (2)")
	unknown := req
	unknown.Scope.Volumes = append(ids(all)[:1:1], "11111111-1111-4111-8111-111111111111")
	_, _, err = s.Recover(t.Context(), unknown)
	wantRefused(t, err, http.StatusConflict, "1 of 2 volumes")
	old := time.Now().Add(-time.Hour)
	past := req
	past.Point.At = &old
	_, _, err = s.Recover(t.Context(), past)
	wantRefused(t, err, http.StatusConflict, "is as old")
	theirs := req
	theirs.Mapping.Project = map[string]string{"*": c.Projects[zonetest.Bob]}
	_, _, err = s.Recover(t.Context(), theirs)
	wantRefused(t, err, http.StatusForbidden, "Only an administrator")
	_, _, err = s.Recover(t.Context(), client.Recovery{})
	wantRefused(t, err, http.StatusBadRequest, "scope must name")
	if after := c.Rows(to, "volumes", "dr_operations", "fences"); !slices.Equal(before, after) {
		t.Errorf("something began: %v", after)
	}
	unknown.SkipUnrecoverable = true
	op, _, err := s.Recover(t.Context(), unknown)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := s.WaitDurable(t.Context(), op.ID, nil)
	if d.Status != "partly" || d.Steps[0].Status != "skipped" || d.Steps[1].Status != "succeeded" {
		t.Errorf("%+v", d)
	}
	theirs.Scope.Volumes, theirs.Mapping.Name = ids(all)[1:2], "{name} of {zone}"
	op, _, err = admin.Recover(t.Context(), theirs)
	if err != nil {
		t.Fatal(err)
	}
	recovered(t, c, admin, op.ID, nil)
	volumes, err := c.Session(to, zonetest.Bob).Volumes(t.Context(), false)
	if err != nil || len(volumes) != 1 || *volumes[0].Name != "journey of "+source {
		t.Errorf("%+v, %v", volumes, err)
	}
}

// TestAnyRetainedPointCanBeChosen by its time or by the name of a snapshot, and
// what newer points have is counted as lost.
func TestAnyRetainedPointCanBeChosen(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := protect(t, c, 1)[0]
	s := c.Session(to, zonetest.Alice)
	snap, err := c.Session(source, zonetest.Alice).CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: j.Volume,
		Name: "before the change", Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Session(source, zonetest.Alice).WaitSnapshot(t.Context(), snap.ID, "available"); err != nil {
		t.Fatal(err)
	}
	want := j.Root()
	j.WriteLostApart(0, 4, to) // j still is what the old points have
	old := *j
	latest := func() client.Replica {
		replicas, err := s.ReplicasOf(t.Context(), source, j.Volume)
		if err != nil {
			t.Fatal(err)
		}
		return replicas[0]
	}
	if err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
		r := latest()
		named := slices.ContainsFunc(r.Points, func(p client.Point) bool { return p.ID == snap.ID })
		return named && r.Points[len(r.Points)-1].Root != want, nil
	}); err != nil {
		t.Fatal(err)
	}
	c.Kill(source)
	// Retention may have let go of others of the same second, never of this one.
	points := latest().Points
	at := points[slices.IndexFunc(points, func(p client.Point) bool { return p.ID == snap.ID })].At
	for _, point := range []client.RecoveryPoint{{At: &at}, {Name: snap.ID}, {Name: "before the change"}} {
		req := client.Recovery{Scope: client.RecoveryScope{Volumes: []string{old.Volume}}, Point: point, DryRun: true,
			Again: true}
		_, f, err := s.Recover(t.Context(), req)
		if err != nil || f.Volumes[0].Point == nil || f.Volumes[0].Point.Root != want ||
			f.Loss.Later < 4*zonetest.BlockSize {
			t.Fatalf("%+v, %v", f, err)
		}
		req.DryRun, req.AcceptLoss = false, true
		op, _, err := s.Recover(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		one := old
		recovered(t, c, s, op.ID, []*zonetest.Journey{&one})
	}
	// Nothing looked like encryption: the last clean point is the newest.
	_, f, err := s.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Volumes: []string{old.Volume}},
		Point: client.RecoveryPoint{LastClean: true}, DryRun: true, Again: true})
	if newest := points[len(points)-1]; err != nil || f.Volumes[0].Point == nil || f.Volumes[0].Point.ID != newest.ID {
		t.Errorf("%+v, %v, want %+v", f, err, newest)
	}
}

// TestSecondPersonAgrees: where the zone wants it, a forced loss waits for
// another administrator, and nothing has begun before.
func TestSecondPersonAgrees(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.SecondConsent = true
		cfg.Identity.Users = append(cfg.Identity.Users, zone.UserConfig{Name: "second", Password: zonetest.Password,
			Roles: []zone.RoleConfig{{Project: zonetest.Admin, Role: "admin"}}})
	})
	all := protect(t, c, 1)
	c.Projects["second"] = c.Projects[zonetest.Admin]
	c.Kill(source)
	admin, second := c.Session(to, zonetest.Admin), c.Session(to, "second")
	_, err := c.Kvol(to).Recovery(t.Context(), client.Elsewhere{SrcZone: source, SrcType: zonetest.TypeID(source),
		Volume: all[0].Volume, DstZone: to, DstProject: c.Projects[zonetest.Alice], DstType: zonetest.TypeID(to)})
	wantRefused(t, err, http.StatusBadRequest, "second administrator") // nor a way around it
	req := client.Recovery{Scope: client.RecoveryScope{Zone: source}, AcceptLoss: true}
	for range 2 { // the first one is canceled
		op, _, err := admin.Recover(t.Context(), req)
		if err != nil || op.Status != "waiting for consent" {
			t.Fatalf("%+v, %v", op, err)
		}
		_, err = admin.ConsentDurable(t.Context(), op.ID)
		wantRefused(t, err, http.StatusForbidden, "Another person")
		_, err = c.Session(to, zonetest.Alice).ConsentDurable(t.Context(), op.ID)
		wantRefused(t, err, http.StatusNotFound, "could not be found")
		if fences := c.Rows(to, "fences"); len(fences) > 0 {
			t.Errorf("it began before anybody agreed: %v", fences)
		}
		if len(all) > 0 && req.IdempotencyKey == "" {
			req.IdempotencyKey = "again"
			if got, err := admin.CancelDurable(t.Context(), op.ID); err != nil || got.Status != "canceled" {
				t.Errorf("%+v, %v", got, err)
			}
			_, err = second.ConsentDurable(t.Context(), op.ID)
			wantRefused(t, err, http.StatusConflict, "canceled")
			continue
		}
		if got, err := second.ConsentDurable(t.Context(), op.ID); err != nil || got.ConsentBy == "" {
			t.Errorf("%+v, %v", got, err)
		}
		recovered(t, c, admin, op.ID, all)
	}
}
