package zonetest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
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

// backendOrder asks for a failover of the source's first backend.
func backendOrder(t *testing.T, c *zonetest.Cloud, to string) {
	t.Helper()
	ask(t, c.Session(source, zonetest.Admin), "PUT", "volumev3", "/os-services/failover_host",
		`{"host":"kvol@`+source+`-ssd","backend_id":"`+to+`"}`)
}

// settledService waits until a backend's failover has ended.
func settledService(t *testing.T, c *zonetest.Cloud) (st backendService) {
	t.Helper()
	err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		st = serviceOf(t, c, source)
		return st.Replication != "failing-over", nil
	})
	if err != nil {
		t.Fatalf("%+v, %v", st, err)
	}
	return st
}

func wantFailedOver(t *testing.T, st backendService) {
	t.Helper()
	if st.Replication != "failed-over" || st.Active == nil || *st.Active != "kilo1" || st.Status != "disabled" ||
		st.Reason == nil || *st.Reason != "failed-over" {
		t.Fatalf("%+v", st)
	}
}

func wantBack(t *testing.T, st backendService) {
	t.Helper()
	if st.Replication != "enabled" || st.Status != "enabled" || st.Active == nil || *st.Active != "" {
		t.Fatalf("after failing back: %+v", st)
	}
}

// follow takes journeys to where their volumes were moved from a zone, and reads
// all of them there.
func follow(t *testing.T, c *zonetest.Cloud, from, to string, all ...*zonetest.Journey) {
	t.Helper()
	moved, err := c.Session(from, zonetest.Admin).Failovers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range all {
		was := j.Volume
		for _, f := range moved {
			if f.VolumeID == was && f.NewVolume != "" {
				j.Zone, j.Volume = to, f.NewVolume
			}
		}
		if j.Volume == was {
			t.Fatalf("volume %s did not move from %s: %+v", was, from, moved)
		}
		j.Check()
	}
}

// TestBackendFailover: failover_host moves all volumes of a backend to the zone
// that it names, without loss, and back from there when it names default. A zone
// that is none changes nothing.
func TestBackendFailover(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	first, second := zonetest.NewJourney(t, c, source, 64, 1), zonetest.NewJourney(t, c, source, 64, 2)
	for _, j := range []*zonetest.Journey{first, second} {
		j.WriteHere(0, 64)
		j.AwaitReplica("kilo1")
	}
	alice := c.Session(source, zonetest.Alice)
	told := func(id string) string {
		t.Helper()
		v, err := alice.Volume(t.Context(), id)
		if err != nil || v.ReplicationStatus == nil {
			t.Fatalf("volume %s: %+v, %v", id, v, err)
		}
		return *v.ReplicationStatus
	}
	backendOrder(t, c, "nowhere")
	if st := serviceOf(t, c, source); st.Replication != "enabled" || st.Status != "enabled" || st.Active != nil ||
		told(first.Volume) != "enabled" {
		t.Fatalf("after a failover to nowhere: %+v, the volume is %s", st, told(first.Volume))
	}
	left := first.Volume
	backendOrder(t, c, "kilo1")
	wantFailedOver(t, settledService(t, c))
	follow(t, c, source, "kilo1", first, second)
	if status := told(left); status != "failed-over" {
		t.Errorf("the volume here is %s", status)
	}
	first.WriteHere(3, 5) // what is written there comes along
	backendOrder(t, c, "default")
	wantBack(t, settledService(t, c))
	follow(t, c, "kilo1", source, first, second)
	first.WriteHere(0, 4)
	first.Check()
	backendOrder(t, c, "default") // nothing is there any more
	wantBack(t, settledService(t, c))
}

// TestBackendFailoverKilled kills the zone in the middle of its backend's
// failover, and of its return, and the other zone in the middle of that.
func TestBackendFailoverKilled(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	var all []*zonetest.Journey
	for seed := range uint64(3) {
		j := zonetest.NewJourney(t, c, source, 16, seed+1)
		j.WriteHere(0, 16)
		all = append(all, j)
	}
	for _, j := range all {
		j.AwaitReplica("kilo1")
	}
	underWay := func(zone string) {
		t.Helper()
		s := c.Session(zone, zonetest.Admin)
		err := client.Poll(t.Context(), time.Millisecond, func() (bool, error) {
			list, err := s.Failovers(t.Context())
			return len(list) > 0, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	backendOrder(t, c, "kilo1")
	underWay(source)
	c.Kill(source)
	c.Start(source)
	wantFailedOver(t, settledService(t, c))
	follow(t, c, source, "kilo1", all...)
	for _, j := range all {
		j.AwaitReplica(source)
	}
	backendOrder(t, c, "default")
	underWay("kilo1")
	c.Kill(source)
	c.Kill("kilo1")
	c.Start("kilo1")
	c.Start(source)
	wantBack(t, settledService(t, c))
	follow(t, c, "kilo1", source, all...)
}

// TestBackendFailoverErrors: a backend of which nothing can be moved is as it was
// and says so, and one that has no way back is told when it is asked.
func TestBackendFailoverErrors(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		switch cfg.Zone {
		case "kilo1": // without a way back
			cfg.Protections = nil
		case "kilo2": // without a type of that name
			cfg.VolumeTypes[0].Name, cfg.DefaultVolumeType = "other", "other"
			for i := range cfg.Protections {
				cfg.Protections[i].VolumeType = "other"
			}
		}
	})
	j := zonetest.NewJourney(t, c, source, 16, 1)
	j.WriteHere(0, 16)
	j.AwaitReplica("kilo1")
	j.AwaitReplica("kilo2")
	backendOrder(t, c, "kilo2")
	if st := settledService(t, c); st.Replication != "failover-error" || st.Status != "enabled" {
		t.Errorf("after a failover that failed: %+v", st)
	}
	j.WriteHere(0, 4)
	j.Check()
	backendOrder(t, c, "kilo1") // it may be asked again
	wantFailedOver(t, settledService(t, c))
	follow(t, c, source, "kilo1", j)
	code, text := tryAsk(t, c.Session(source, zonetest.Admin), "PUT", "volumev3", "/os-services/failover_host",
		`{"host":"kvol@`+source+`-ssd","backend_id":"default"}`)
	if code != 400 || !strings.Contains(text, "Zone kilo1 has no protection whose destination is zone "+source) {
		t.Errorf("failing back without a way: %d %s", code, text)
	}
	wantFailedOver(t, serviceOf(t, c, source))
}
