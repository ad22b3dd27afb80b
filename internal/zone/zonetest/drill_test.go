package zonetest_test

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// stored are the volumes in a zone's store.
func stored(t *testing.T, c *zonetest.Cloud, name string) (all []block.VolumeID) {
	t.Helper()
	for v, err := range c.Store(name).Volumes(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v.ID)
	}
	slices.Sort(all)
	return all
}

// drillPins are the pins of drills.
func drillPins(c *zonetest.Cloud, name string) []string {
	return slices.DeleteFunc(c.Rows(name, "pins"), func(row string) bool { return !strings.Contains(row, "drill/") })
}

// wantClean wants nothing of a drill to be left but what was there before.
func wantClean(t *testing.T, c *zonetest.Cloud, before []block.VolumeID) {
	t.Helper()
	slices.Sort(before)
	if after := stored(t, c, to); !slices.Equal(before, after) {
		t.Errorf("the store has %v, before it had %v", after, before)
	}
	if rows := append(c.Rows(to, "drill_clones"), drillPins(c, to)...); len(rows) > 0 {
		t.Errorf("left are %q", rows)
	}
}

// drilled waits for a drill's end and returns its report.
func drilled(t *testing.T, s *client.Session, id string) client.DrillReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d, err := s.WaitDurable(ctx, id, nil)
	if !d.Ended() {
		t.Fatalf("%v: %+v", err, d)
	}
	r, err := s.DrillReport(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// begun begins a drill.
func begun(t *testing.T, s *client.Session, d client.Drill) string {
	t.Helper()
	d.WatchSeconds = cmp.Or(d.WatchSeconds, 1)
	op, err := s.StartDrill(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return op.ID
}

// sent is how many bytes a zone's links sent of some volumes.
func sent(t *testing.T, c *zonetest.Cloud, all []*zonetest.Journey) (bytes int64) {
	t.Helper()
	links, err := c.Session(source, zonetest.Admin).Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Destination == to && slices.Contains(ids(all), l.VolumeID) {
			bytes += l.BytesSent
		}
	}
	return bytes
}

// TestDrillLeavesReplicationAlone: while a drill looks at two volumes, one of
// them is written to. Both clones are their points, replication goes on from
// where it was, nothing is sent again, and nothing is left; the report says all
// of that. Nobody else sees the drill or its clones.
func TestDrillLeavesReplicationAlone(t *testing.T) {
	t.Parallel()
	goOn := filepath.Join(t.TempDir(), "go on")
	told := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		told <- string(text)
	}))
	defer hook.Close()
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.Probes = []zone.ProbeConfig{{HookConfig: zone.HookConfig{Name: "wait", Command: []string{"/bin/sh", "-c",
			`cat; echo " at $KVOL_NBD_URI"; until [ -e "` + goOn + `" ]; do sleep 0.05; done`}}, Tenants: true},
			{HookConfig: zone.HookConfig{Name: "tell", URL: hook.URL}, Tenants: true},
			{HookConfig: zone.HookConfig{Name: "secret", URL: hook.URL}}}
	})
	all := protect(t, c, 2)
	before, bytes := stored(t, c, to), sent(t, c, all)
	s := c.Session(to, zonetest.Alice)
	_, err := s.StartDrill(t.Context(), client.Drill{Scope: client.RecoveryScope{Zone: source},
		Probes: []client.DrillProbe{{Kind: "http", Name: "secret"}}})
	wantRefused(t, err, http.StatusBadRequest, "for you")
	id := begun(t, s, client.Drill{Scope: client.RecoveryScope{Zone: source}, Probes: []client.DrillProbe{{Kind: "verify"},
		{Kind: "command", Name: "wait"}, {Kind: "http", Name: "tell"}}})
	bob := c.Session(to, zonetest.Bob)
	awaitStep(t, s, id, "probe", "running", "command wait")
	if clones := stored(t, c, to); len(clones) != len(before)+2 {
		t.Errorf("%d volumes in the store while the drill runs, %d before", len(clones), len(before))
	}
	all[0].WriteHere(2, 3)
	all[0].AwaitReplica(to)
	if volumes, err := s.Volumes(t.Context(), false); err != nil || len(volumes) > 0 {
		t.Errorf("clones are volumes: %+v, %v", volumes, err)
	}
	if replicas := c.Rows("kilo2", "replicas"); len(replicas) != 2 {
		t.Errorf("clones are replicated: %q", replicas)
	}
	for _, err := range []error{second(bob.Durable(t.Context(), id)), second(bob.DrillReport(t.Context(), id)),
		second(bob.CancelDrill(t.Context(), id))} {
		wantRefused(t, err, http.StatusNotFound, "could not be found")
	}
	_, err = s.DrillReport(t.Context(), id)
	wantRefused(t, err, http.StatusConflict, "when it ends")
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := drilled(t, s, id)
	if r.Verdict != "pass" || len(r.Reasons) > 0 || r.CopiedAgain != 0 || r.Copied != 0 || r.ClonesMade != 2 ||
		r.ClonesLeft != 0 || r.RTO == nil || *r.RTO <= 0 || r.Restarts != 0 || len(r.Volumes) != 2 {
		t.Errorf("%+v", r)
	}
	for _, v := range r.Volumes {
		if v.Way != "clone" || v.Served == nil || v.Age < 0 || v.At == nil || len(v.Probes) != 1 ||
			v.Probes[0].Status != "succeeded" || !strings.Contains(v.Probes[0].Text, v.Root) {
			t.Errorf("%+v", v)
		}
	}
	if len(r.Probes) != 2 || !strings.Contains(r.Probes[0].Output, "nbd+unix:///") ||
		!strings.Contains(<-told, `"source_volume":"`+all[0].Volume+`"`) {
		t.Errorf("%+v", r.Probes)
	}
	if len(r.Pairs) != 1 || r.Pairs[0].Whole != 0 || r.Pairs[0].Points < 1 || r.Pairs[0].Before.Seconds <= 0 ||
		r.Pairs[0].During.Seconds <= 0 || r.Pairs[0].After.Seconds <= 0 || r.Pairs[0].During.P99 > r.Pairs[0].Target {
		t.Errorf("%+v", r.Pairs)
	}
	if more := sent(t, c, all) - bytes; more < 3*zonetest.BlockSize || more > 8*zonetest.BlockSize {
		t.Errorf("%d bytes were sent for three blocks", more)
	}
	wantClean(t, c, before)
	page, err := s.DrillReportText(t.Context(), id, true)
	if err != nil || !strings.Contains(string(page), `<span class="verdict pass">pass</span>`) {
		t.Errorf("%s, %v", page, err)
	}
	if rtos, err := c.Session(to, zonetest.Admin).RTOs(t.Context()); err != nil || len(rtos) != 2 ||
		rtos[0].Kind != "drill" {
		t.Errorf("%+v, %v", rtos, err)
	}
	for _, j := range all { // and a recovery after it is as if there had been none
		j.Recover(to)
		j.Check()
	}
}

// second is the error of a call.
func second[T any](_ T, err error) error { return err }

// awaitStep waits until a step of a drill is in a status.
func awaitStep(t *testing.T, s *client.Session, id, kind, status, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var last client.Durable
	if err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		var err error
		last, err = s.Durable(ctx, id)
		return slices.ContainsFunc(last.Steps, func(step client.DurableStep) bool {
			return step.Kind == kind && step.Status == status && (name == "" || step.Name == name)
		}), err
	}); err != nil {
		t.Fatalf("no %s step %q is %s: %v; %+v", kind, name, status, err, last)
	}
}

// replicated waits until another zone has a point of a volume that is as new as
// what was written until now.
func replicated(t *testing.T, c *zonetest.Cloud, volume string) {
	t.Helper()
	now := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := c.Session(source, zonetest.Admin)
	if err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		links, err := s.Links(ctx)
		return slices.ContainsFunc(links, func(l client.Link) bool {
			return l.VolumeID == volume && l.Destination == to && l.ReplicatedUpTo.After(now)
		}), err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestDrillWhileAThirdZoneIsSilent: a recovery would have to ask the third zone,
// or be told to do without; a drill takes nothing over.
func TestDrillWhileAThirdZoneIsSilent(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	all := protect(t, c, 1)
	c.Cut(to, "kilo2")
	s := c.Session(to, zonetest.Alice)
	scope := client.RecoveryScope{Volumes: ids(all)}
	if _, f, err := s.Recover(t.Context(), client.Recovery{Scope: scope, DryRun: true}); err != nil || f.Possible {
		t.Errorf("a recovery without the third zone: %+v, %v", f, err)
	}
	id := begun(t, s, client.Drill{Scope: scope, Probes: []client.DrillProbe{{Kind: "verify"}}})
	if r := drilled(t, s, id); r.Verdict != "pass" {
		t.Errorf("the drill: %+v", r)
	}
}

// TestDrillIsAlwaysCleanedUp: whatever becomes of a drill, its clones and its
// pins go: when it is canceled, when its time is over, when a probe fails or
// hangs, and when the zone is killed at any step.
func TestDrillIsAlwaysCleanedUp(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.Probes = []zone.ProbeConfig{
			{HookConfig: zone.HookConfig{Name: "hang", Command: []string{"/bin/sleep", "600"}}, Tenants: true},
			{
				HookConfig: zone.HookConfig{Name: "fail", Command: []string{"/bin/sh", "-c", "echo broken; exit 3"}},
				Tenants:    true,
			}}
	})
	all := protect(t, c, 2)
	before := stored(t, c, to)
	s := c.Session(to, zonetest.Alice)
	ask := func(timeout int, probes ...client.DrillProbe) client.Drill {
		return client.Drill{Scope: client.RecoveryScope{Volumes: ids(all)}, Probes: probes, TimeoutSeconds: timeout}
	}
	hang := client.DrillProbe{Kind: "command", Name: "hang"}
	want := func(r client.DrillReport, verdict, reason string) {
		t.Helper()
		if r.Verdict != verdict || !strings.Contains(strings.Join(r.Reasons, " "), reason) || r.ClonesLeft != 0 {
			t.Errorf("want %s, %q: %+v", verdict, reason, r)
		}
		wantClean(t, c, before)
	}
	id := begun(t, s, ask(0, hang))
	awaitStep(t, s, id, "probe", "running", "")
	if _, err := s.CancelDrill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	want(drilled(t, s, id), "canceled", "It was canceled.")
	_, err := s.CancelDrill(t.Context(), id)
	wantRefused(t, err, http.StatusConflict, "can't be canceled")
	want(drilled(t, s, begun(t, s, ask(3, hang))), "fail", "It took longer than 3s.")
	hang.TimeoutSeconds = 1
	r := drilled(t, s, begun(t, s, ask(0, client.DrillProbe{Kind: "command", Name: "fail"}, hang)))
	want(r, "fail", "command fail: It failed: exit status 3. command hang: It took longer than 1s.")
	if r.Probes[0].Output != "broken\n" {
		t.Errorf("%+v", r.Probes)
	}
	hang.TimeoutSeconds = 0
	for _, at := range []struct{ kind, status string }{{"watch", "running"}, {"clone", "succeeded"}, {"probe", "running"},
		{"clean", "succeeded"}} {
		probes := []client.DrillProbe{{Kind: "verify"}}
		if at.kind == "probe" {
			probes = append(probes, hang)
		}
		drill := ask(600, probes...)
		if at.kind == "watch" || at.kind == "clean" {
			drill.WatchSeconds = 10 // in the one, or before the other, of which it is killed
		}
		id := begun(t, s, drill)
		awaitStep(t, s, id, at.kind, at.status, "")
		c.Kill(to)
		c.Start(to)
		s = c.Session(to, zonetest.Alice)
		if at.kind == "probe" {
			awaitStep(t, s, id, "probe", "running", "command hang")
			if _, err := s.CancelDrill(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			want(drilled(t, s, id), "canceled", "")
			continue
		}
		if r := drilled(t, s, id); r.Restarts != 1 {
			t.Errorf("killed at %v: %+v", at, r)
		} else {
			want(r, "pass", "")
		}
	}
}

// TestRecoveryWinsOverDrill: a volume that a drill is looking at is recovered in
// earnest at once, and the drill makes way.
func TestRecoveryWinsOverDrill(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.Probes = []zone.ProbeConfig{{HookConfig: zone.HookConfig{Name: "hang",
			Command: []string{"/bin/sleep", "600"}}, Tenants: true}}
	})
	all := protect(t, c, 2)
	s := c.Session(to, zonetest.Alice)
	before := stored(t, c, to)
	id := begun(t, s, client.Drill{Scope: client.RecoveryScope{Volumes: ids(all)},
		Probes: []client.DrillProbe{{Kind: "command", Name: "hang"}}})
	awaitStep(t, s, id, "probe", "running", "")
	c.Kill(source)
	op, _, err := s.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Volumes: ids(all)[:1]},
		AcceptLoss: true})
	if err != nil {
		t.Fatal(err)
	}
	recovered(t, c, s, op.ID, all[:1])
	r := drilled(t, s, id)
	if r.Verdict != "canceled" || !strings.Contains(r.Reasons[0], "is recovered in earnest") {
		t.Errorf("%+v", r)
	}
	wantClean(t, c, append(before, block.VolumeID(all[0].Volume)))
}

// TestDrillsBeginBySchedule: a drill begins when its time has come by the zone's
// clock, once; one that is due while the last one runs is skipped, and it says
// so; one that can't begin is a drill that failed.
func TestDrillsBeginBySchedule(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.KeepDrills = 2
		cfg.DR.Probes = []zone.ProbeConfig{{HookConfig: zone.HookConfig{Name: "hang",
			Command: []string{"/bin/sleep", "600"}}, Tenants: true}}
	})
	protect(t, c, 1)
	s := c.Session(to, zonetest.Alice)
	made, err := s.CreateDrillSchedule(t.Context(), client.DrillSchedule{Name: "hourly", When: "every 1h", Enabled: true,
		Request: client.Drill{Scope: client.RecoveryScope{Zone: source}, WatchSeconds: 1}})
	if err != nil || made.NextAt == nil || made.LastAt != nil {
		t.Fatalf("%+v, %v", made, err)
	}
	var last client.DrillSchedule
	outcome := func(says string, skipped int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
			last, err = s.DrillSchedule(ctx, "hourly")
			return strings.Contains(last.LastOutcome, says) && last.Skipped == skipped, err
		}); err != nil {
			t.Fatalf("want %q: %+v, %v", says, last, err)
		}
	}
	c.SetClock(to, time.Hour)
	s = c.Session(to, zonetest.Alice) // the token's time is over
	outcome("A drill began.", 0)
	if r := drilled(t, s, last.LastDrill); r.Verdict != "pass" || r.Schedule != "hourly" {
		t.Errorf("%+v", r)
	}
	last.Request.Probes, last.Request.TimeoutSeconds = []client.DrillProbe{{Kind: "command", Name: "hang"}}, 24*60*60
	if last, err = s.UpdateDrillSchedule(t.Context(), last.ID, last); err != nil {
		t.Fatal(err)
	}
	c.SetClock(to, 2*time.Hour+time.Minute)
	s = c.Session(to, zonetest.Alice)
	first := last.LastDrill
	if err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		last, err = s.DrillSchedule(t.Context(), "hourly")
		return last.LastDrill != first, err
	}); err != nil {
		t.Fatal(err)
	}
	id := last.LastDrill
	awaitStep(t, s, id, "probe", "running", "")
	c.SetClock(to, 3*time.Hour+2*time.Minute)
	s = c.Session(to, zonetest.Alice)
	outcome("runs still", 1)
	if _, err := s.CancelDrill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	drilled(t, s, id)
	if last, err = s.DrillSchedule(t.Context(), "hourly"); err == nil {
		last.Request = client.Drill{Scope: client.RecoveryScope{Volumes: []string{"11111111-1111-4111-8111-111111111111"}}}
		last, err = s.UpdateDrillSchedule(t.Context(), last.ID, last)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.SetClock(to, 5*time.Hour)
	s = c.Session(to, zonetest.Alice)
	outcome("could not begin", 1)
	if r := drilled(t, s, last.LastDrill); r.Verdict != "fail" || !strings.Contains(r.Reasons[0], "is not replicated") {
		t.Errorf("%+v", r)
	}
	answer, err := http.Get(c.URL(to) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	told, err := io.ReadAll(answer.Body)
	for _, want := range []string{`kvol_drill_failed{project="` + c.Projects[zonetest.Alice] + `",schedule="` + last.ID +
		`"} 1`, "kvol_drill_clones 0", "kvol_drills_running 0", `kvol_drill_interval_seconds{`} {
		if !strings.Contains(string(told), want) {
			t.Errorf("%q is not in the metrics, %v", want, err)
		}
	}
	if drills, err := s.Durables(t.Context(), "drill"); err != nil || len(drills) != 2 {
		t.Errorf("%d drills are kept, %v", len(drills), err)
	}
	bob := c.Session(to, zonetest.Bob)
	if list, err := bob.DrillSchedules(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := bob.DrillSchedule(t.Context(), last.ID); !client.IsStatus(err, http.StatusNotFound) {
		t.Error(err)
	}
	if err := s.DeleteDrillSchedule(t.Context(), "hourly"); err != nil {
		t.Error(err)
	}
}
