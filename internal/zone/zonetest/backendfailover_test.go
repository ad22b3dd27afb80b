package zonetest_test

import (
	"encoding/json"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// backendService is what a zone's administrator is told of its first backend.
type backendService struct {
	Host, Status, State string
	Reason              *string `json:"disabled_reason"`
	Replication         string  `json:"replication_status"`
	Active              *string `json:"active_backend_id"`
}

func serviceOf(t *testing.T, c *zonetest.Cloud, zone string) backendService {
	t.Helper()
	var list struct{ Services []backendService }
	text := ask(t, c.Session(zone, zonetest.Admin), "GET", "volumev3", "/os-services?binary=cinder-volume&host=kvol@"+
		zone+"-ssd", "")
	if err := json.Unmarshal(text, &list); err != nil || len(list.Services) != 1 {
		t.Fatalf("%s: %v", text, err)
	}
	return list.Services[0]
}

// TestBackendFailover: failover_host moves all volumes of a backend to the zone
// that it names, without loss; the backend takes no new ones until it is told to
// fail back. A zone that is none changes nothing.
func TestBackendFailover(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	first, second := zonetest.NewJourney(t, c, source, 64, 1), zonetest.NewJourney(t, c, source, 64, 2)
	for _, j := range []*zonetest.Journey{first, second} {
		j.WriteHere(0, 64)
		j.AwaitReplica("kilo1")
	}
	admin, alice := c.Session(source, zonetest.Admin), c.Session(source, zonetest.Alice)
	told := func(id string) string {
		t.Helper()
		v, err := alice.Volume(t.Context(), id)
		if err != nil || v.ReplicationStatus == nil {
			t.Fatalf("volume %s: %+v, %v", id, v, err)
		}
		return *v.ReplicationStatus
	}
	order := func(to string) {
		t.Helper()
		ask(t, admin, "PUT", "volumev3", "/os-services/failover_host", `{"host":"kvol@`+source+`-ssd","backend_id":"`+to+`"}`)
	}
	order("nowhere")
	if st := serviceOf(t, c, source); st.Replication != "enabled" || st.Status != "enabled" || st.Active != nil ||
		told(first.Volume) != "enabled" {
		t.Fatalf("after a failover to nowhere: %+v, the volume is %s", st, told(first.Volume))
	}
	order("kilo1")
	var st backendService
	err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		st = serviceOf(t, c, source)
		return st.Replication != "failing-over", nil
	})
	if err != nil || st.Replication != "failed-over" || st.Active == nil || *st.Active != "kilo1" ||
		st.Status != "disabled" || st.Reason == nil || *st.Reason != "failed-over" {
		t.Fatalf("%+v, %v", st, err)
	}
	moved, err := admin.Failovers(t.Context())
	if err != nil || len(moved) != 2 {
		t.Fatalf("%+v, %v", moved, err)
	}
	for _, f := range moved {
		for _, j := range []*zonetest.Journey{first, second} {
			if f.VolumeID == j.Volume {
				if status := told(j.Volume); status != "failed-over" {
					t.Errorf("the volume here is %s", status)
				}
				j.Zone, j.Volume = "kilo1", f.NewVolume
				j.Check()
			}
		}
	}
	if first.Zone != "kilo1" || second.Zone != "kilo1" {
		t.Fatalf("%+v", moved)
	}
	order("default")
	if st = serviceOf(t, c, source); st.Replication != "enabled" || st.Status != "enabled" || *st.Active != "" {
		t.Errorf("after failing back: %+v", st)
	}
}
