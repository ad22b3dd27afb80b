package zonetest_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

func replicatedTypes(cfg *zone.Config) {
	cfg.VolumeTypes[0].ExtraSpecs["replication_enabled"] = "<is> True"
}

// TestGroupIsRecoveredAsOfOneInstant: the volumes of a group come back as of the
// newest instant that all of them have, and not each as of its own. There is one
// soon, though nobody writes or makes a snapshot.
func TestGroupIsRecoveredAsOfOneInstant(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, replicatedTypes)
	all := protect(t, c, 2)
	group := c.Grouped(t, source, all)
	s, there := c.Session(source, zonetest.Alice), c.Session(to, zonetest.Alice)
	req := client.Recovery{Scope: client.RecoveryScope{Group: group}, DryRun: true}
	var f client.Forecast
	see := func(done func() bool) {
		t.Helper()
		if err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
			var err error
			_, f, err = there.Recover(t.Context(), req)
			if client.IsStatus(err, http.StatusNotFound) { // the zone has not heard of the group
				return false, nil
			}
			return err == nil && done(), err
		}); err != nil {
			t.Fatalf("%v; %+v", err, f)
		}
	}
	see(func() bool { return len(f.Volumes) == 2 && f.Possible })
	if len(f.Groups) != 1 || f.Groups[0].Cut == nil || f.Groups[0].Volumes != 2 || f.Groups[0].Without != 0 {
		t.Errorf("of idle volumes: %+v", f.Groups)
	}
	zonetest.Stock(t, s, "POST", "group_snapshots", `{"group_snapshot":{"group_id":"`+group+`"}}`, 202, nil)
	see(func() bool { return f.Possible })
	if len(f.Groups) != 1 || f.Groups[0].Volumes != 2 || f.Groups[0].Without != 0 {
		t.Errorf("after a group snapshot: %+v", f.Groups)
	}
	all[0].WriteHere(0, 4) // one goes on, and both are cut for it
	see(func() bool {
		of := map[string]string{}
		for _, v := range f.Volumes {
			if v.Point != nil && v.Point.Cut != nil && v.Point.Cut.ID == f.Groups[0].Cut.ID {
				of[v.Source] = v.Point.Root
			}
		}
		return of[all[0].Volume] == all[0].Root() && of[all[1].Volume] == all[1].Root()
	})
	c.Kill(source)
	req.DryRun, req.AcceptLoss = false, true
	op, _, err := there.Recover(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	recovered(t, c, there, op.ID, all)
}

// TestGroupIsFailedOverByStockClients: failover_replication moves all volumes of
// a group without loss, or none.
func TestGroupIsFailedOverByStockClients(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, replicatedTypes)
	all := protect(t, c, 2)
	group := c.Grouped(t, source, all)
	s := c.Session(source, zonetest.Alice)
	action := "groups/" + group + "/action"
	var out struct {
		Targets []struct{ Backend_id, Unused string } `json:"replication_targets"`
	}
	if text := zonetest.Stock(t, s, "POST", action, `{"list_replication_targets":{}}`, 200, &out); len(out.Targets) != 2 ||
		!bytes.Contains([]byte(text), []byte(`"backend_id":"kilo1"`)) {
		t.Errorf("%s", text)
	}
	replicates := func(want string) {
		t.Helper()
		if err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
			text := zonetest.Stock(t, s, "GET", "groups/"+group, "", 200, nil)
			return strings.Contains(text, `"replication_status":"`+want+`"`), nil
		}); err != nil {
			t.Fatalf("the group is never %s: %v", want, err)
		}
	}
	replicates("enabled")
	zonetest.Stock(t, s, "POST", action, `{"enable_replication":{}}`, 202, nil)
	zonetest.Stock(t, s, "POST", action, `{"failover_replication":{}}`, 400, nil) // there are two zones
	zonetest.Stock(t, s, "POST", action, `{"failover_replication":{"secondary_backend_id":"paris"}}`, 400, nil)
	c.Cut(source, to)
	zonetest.Stock(t, s, "POST", action, `{"failover_replication":{"secondary_backend_id":"`+to+`"}}`, 503, nil)
	c.Mend(source, to)
	var moves []client.Failover
	if err := client.Poll(t.Context(), 50*time.Millisecond, func() (bool, error) {
		base, err := s.URL("volumev3")
		if err != nil {
			return false, err
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/"+action,
			strings.NewReader(`{"failover_replication":{"secondary_backend_id":"`+to+`"}}`))
		if err != nil {
			return false, err
		}
		r.Header = http.Header{"X-Auth-Token": {s.Token}, "Content-Type": {"application/json"},
			"OpenStack-API-Version": {"volume 3.38"}}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return false, err
		}
		return answer.StatusCode == http.StatusAccepted, answer.Body.Close() // the link comes back in its time
	}); err != nil {
		t.Fatal(err)
	}
	moves, err := s.Failovers(t.Context())
	if err != nil || len(moves) != 2 {
		t.Fatalf("%+v, %v", moves, err)
	}
	for _, f := range moves {
		if f, err = s.WaitFailover(t.Context(), f.ID, nil); err != nil {
			t.Fatal(err)
		}
		for _, j := range all {
			if j.Volume == f.VolumeID {
				j.Zone, j.Volume = to, f.NewVolume
				j.Check()
				break
			}
		}
	}
	replicates("failed-over")
}

// TestDisabledGroupIsNotReplicated: after disable_replication nothing of a group
// goes out, which is what its volumes and the group say; after
// enable_replication the difference does.
func TestDisabledGroupIsNotReplicated(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, replicatedTypes)
	all := protect(t, c, 2)
	group := c.Grouped(t, source, all)
	s := c.Session(source, zonetest.Alice)
	action := "groups/" + group + "/action"
	zonetest.Stock(t, s, "POST", action, `{"disable_replication":{}}`, 202, nil)
	zonetest.Stock(t, s, "POST", action, `{"disable_replication":{}}`, 400, nil)
	zonetest.Stock(t, s, "POST", action, `{"failover_replication":{"secondary_backend_id":"`+to+`"}}`, 400, nil)
	paused := func() (n int) {
		links, err := s.Links(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if l.State == "paused" && l.Destination == to {
				n++
			}
		}
		return n
	}
	both := func() (bool, error) { return paused() == 2, nil }
	if err := client.Poll(t.Context(), 10*time.Millisecond, both); err != nil {
		t.Fatal(err)
	}
	all[0].WriteHere(0, 4)
	other := zonetest.NewJourney(t, c, source, 8, 77) // what is written after them arrives
	other.WriteHere(0, 8)
	other.AwaitReplica(to)
	replicas, err := c.Session(to, zonetest.Admin).ReplicasOf(t.Context(), source, all[0].Volume)
	if err != nil || replicas[0].Points[len(replicas[0].Points)-1].Root == all[0].Root() {
		t.Errorf("a group that is not replicated has %+v, %v", replicas, err)
	}
	if text := zonetest.Stock(t, s, "GET", "groups/"+group, "", 200, nil); !strings.Contains(
		text,
		`"replication_status":"disabled"`,
	) {
		t.Errorf("%s", text)
	}
	zonetest.Stock(t, s, "POST", action, `{"enable_replication":{}}`, 202, nil)
	for _, j := range all {
		j.AwaitReplica(to)
	}
	if text := zonetest.Stock(t, s, "GET", "groups/"+group, "", 200, nil); !strings.Contains(
		text,
		`"replication_status":"enabled"`,
	) {
		t.Errorf("%s", text)
	}
}
