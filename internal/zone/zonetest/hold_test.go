package zonetest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// TestAHoldOutlivesWhatItsOwnerCanDo: a tenant holds a point, and then wants to be
// rid of it: by the hold itself, by deleting the snapshot, the volume and its type,
// with administrators' help by ending the protection, by the doctor, by setting
// the clock, by removing the tenant. A replica beside it, of which nothing is
// held, goes; the held point is there, and is recovered.
func TestAHoldOutlivesWhatItsOwnerCanDo(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	all := protect(t, c, 2)
	held, other := all[0], all[1]
	s, there := c.Session(source, zonetest.Alice), c.Session(to, zonetest.Alice)
	sn, err := s.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: held.Volume, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	awaitSnapshot(t, c, held.Volume, sn.ID)
	const days = 100 * 24 * 60 * 60
	hold, err := there.KeepPoint(t.Context(), source, held.Volume, sn.ID, client.KeepRequest{Seconds: days})
	if err != nil || hold.Kind != "hold" || hold.PointID != sn.ID {
		t.Fatalf("%+v, %v", hold, err)
	}
	held.WriteHere(0, 8) // what is held is older than what is there
	held.AwaitReplica(to)
	soon := time.Now().Add(time.Minute)
	for _, session := range []*client.Session{there, c.Session(to, zonetest.Admin)} {
		wantRefused(t, session.ReleaseKeep(t.Context(), hold.ID), http.StatusConflict, "A hold can't be taken off")
		_, err = session.ChangeKeep(t.Context(), hold.ID, client.KeepRequest{Seconds: 60})
		wantRefused(t, err, http.StatusConflict, "can't be made shorter")
		_, err = session.ChangeKeep(t.Context(), hold.ID, client.KeepRequest{Until: &soon})
		wantRefused(t, err, http.StatusConflict, "can't be made shorter")
	}
	if err := s.DeleteSnapshot(t.Context(), sn.ID); err != nil {
		t.Fatal(err)
	}
	for _, j := range all {
		if err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
			volumes, err := s.Volumes(t.Context(), false)
			i := slices.IndexFunc(volumes, func(v client.Volume) bool { return v.ID == j.Volume })
			if i < 0 || err != nil {
				return err == nil, err
			}
			_ = s.DeleteVolume(t.Context(), j.Volume) // refused while its snapshot goes
			return false, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	gone := func() bool { // at the target, too
		n := 0
		for _, row := range c.Rows(to, "replicas") {
			if strings.Contains(row, held.Volume) || strings.Contains(row, other.Volume) {
				n++
			}
		}
		return n == 1
	}
	if err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		links, err := c.Session(source, zonetest.Admin).Links(t.Context())
		return len(links) == 0, err
	}); err != nil {
		t.Fatal(err)
	}
	c.Configure(source, func(cfg *zone.Config) {
		cfg.Protections, cfg.VolumeTypes[0].Name = nil, "renamed"
		cfg.DefaultVolumeType = "renamed"
	})
	_, _ = tryAsk(
		t,
		c.Session(source, zonetest.Admin),
		http.MethodDelete,
		"volumev3",
		"/types/"+zonetest.TypeID(source),
		"",
	)
	c.SetClock(to, 40*24*time.Hour) // replicas of deleted volumes are kept for a day
	c.Configure(to, func(cfg *zone.Config) {
		without := func(user string) bool { return user == zonetest.Alice }
		cfg.Identity.Users = slices.DeleteFunc(cfg.Identity.Users, func(u zone.UserConfig) bool { return without(u.Name) })
		cfg.Identity.Projects = slices.DeleteFunc(cfg.Identity.Projects,
			func(p zone.ProjectConfig) bool { return without(p.Name) })
	})
	fix(t, c, to)
	if err := client.Poll(t.Context(), 50*time.Millisecond, func() (bool, error) { return gone(), nil }); err != nil {
		t.Fatalf("the replica of which nothing is held is there: %v; %q", err, c.Rows(to, "replicas"))
	}
	fix(t, c, to)
	c.Stop(to)
	c.Start(to) // which tidies up
	admin := c.Session(to, zonetest.Admin)
	keeps, err := admin.Keeps(t.Context())
	if err != nil || len(keeps) != 1 || keeps[0].ID != hold.ID || keeps[0].Until.Before(*hold.Until) {
		t.Fatalf("%+v, %v", keeps, err)
	}
	op, _, err := admin.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Volumes: []string{held.Volume}},
		Point: client.RecoveryPoint{Name: sn.ID}, AcceptLoss: true, AcceptRivals: []string{source, last},
		Mapping: client.RecoveryMapping{Project: map[string]string{"*": c.Projects[zonetest.Admin]}}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := admin.WaitDurable(t.Context(), op.ID, nil)
	if err != nil || d.Status != "succeeded" || d.Steps[0].Point.ID != sn.ID {
		t.Fatalf("%+v, %v", d, err)
	}
}
