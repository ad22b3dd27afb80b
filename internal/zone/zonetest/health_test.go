package zonetest_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// TestBothEndsTellTheTruth replicates a volume between whole zones: source and
// target each tell, by API and metrics, how far it is, and the target goes on
// to tell when the source is dead.
func TestBothEndsTellTheTruth(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	v, err := c.Session(source, zonetest.Alice).CreateVolume(t.Context(), client.NewVolume{Name: "told", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	await := func(zone, role string) (found client.VolumeHealth) {
		t.Helper()
		s := c.Session(zone, zonetest.Alice)
		err := client.Poll(t.Context(), 50*time.Millisecond, func() (bool, error) {
			h, err := s.DRHealth(t.Context())
			i := slices.IndexFunc(h.Volumes, func(h client.VolumeHealth) bool {
				return h.VolumeID == v.ID && h.Role == role && h.State == "ok" && h.RPO.Hour.Known > 0
			})
			if i >= 0 {
				found = h.Volumes[i]
			}
			return i >= 0, err
		})
		if err != nil {
			t.Fatalf("%s as %s: %v", zone, role, err)
		}
		return found
	}
	const backup = "kilo1"
	here, there := await(source, "source"), await(backup, "target")
	if here.Point == nil || there.Point == nil || here.Unreplicated == nil || there.Unreplicated != nil ||
		there.RPO.Target != 15 {
		t.Errorf("%+v\n%+v", here, there)
	}
	for zone, series := range map[string]string{
		source: `kvol_replicated_up_to_timestamp_seconds{destination="kilo1",protection="2",role="source",` +
			`source_zone="mitaka1",volume="` + v.ID + `"}`,
		backup: `kvol_replicated_up_to_timestamp_seconds{destination="kilo1",protection="2",role="target",` +
			`source_zone="mitaka1",volume="` + v.ID + `"}`,
	} {
		err := client.Poll(t.Context(), 100*time.Millisecond, func() (bool, error) { // clocks are compared now and then
			text := metricsOf(t, c.URL(zone))
			return strings.Contains(text, series) && strings.Contains(text, "kvol_clock_ahead_seconds{") &&
				strings.Contains(text, "kvol_pair_replicated_up_to_timestamp_seconds{") &&
				strings.Contains(text, `kvol_pair_transport_info{destination="kilo1",protection="2",role="`) &&
				strings.Contains(text, `source_zone="mitaka1",transport="stream"} 1`), nil
		})
		if err != nil {
			t.Fatalf("%s does not tell %s: %v", zone, series, err)
		}
	}
	if h, err := c.Session(backup, zonetest.Bob).DRHealth(t.Context()); err != nil || len(h.Volumes)+len(h.Pairs) != 0 {
		t.Errorf("a stranger sees %+v, %v", h, err)
	}
	c.Kill(source)
	s := c.Session(backup, zonetest.Admin)
	err = client.Poll(t.Context(), 50*time.Millisecond, func() (bool, error) {
		h, err := s.DRHealth(t.Context())
		return slices.ContainsFunc(h.Volumes, func(h client.VolumeHealth) bool {
			return h.VolumeID == v.ID && h.RPO.Now > 6 // more than any heartbeat leaves
		}), err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestMetricsOfZonesThatNumberAlike: each zone's protections are 1 and 2, and every zone
// tells of all four pairs of which it is an end.
func TestMetricsOfZonesThatNumberAlike(t *testing.T) {
	t.Parallel()
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		for i := range cfg.Protections {
			cfg.Protections[i].Seq = int64(i + 1)
		}
	})
	for _, name := range zonetest.Names {
		v, err := c.Session(name, zonetest.Alice).CreateVolume(t.Context(), client.NewVolume{Name: "of " + name, Size: 1})
		if err != nil {
			t.Fatal(v, err)
		}
	}
	for _, name := range zonetest.Names {
		var text string
		err := client.Poll(t.Context(), 100*time.Millisecond, func() (bool, error) {
			text = metricsOf(t, c.URL(name))
			return strings.Count(text, "\nkvol_pair_replicated_up_to_timestamp_seconds{") == 4 &&
				strings.Count(text, "\nkvol_pair_transport_info{") == 4 &&
				strings.Count(text, "\nkvol_replicated_up_to_timestamp_seconds{") == 4, nil
		})
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		report, err := c.Session(name, zonetest.Admin).Doctor(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			if f.Kind == string(block.FindOrphanReplica) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// TestFullTargetIsSaidAtBothEnds: what is written is more than the backup zone
// has room for. Both ends say so, and so does the kvol API; the other backup
// zone of the volume is as good as before.
func TestFullTargetIsSaidAtBothEnds(t *testing.T) {
	t.Parallel()
	c := zonetest.NewSmall(t, map[string]int64{"kilo1": 2 << 20})
	j := zonetest.NewJourney(t, c, source, 1024, 5)
	j.WriteHere(0, 256)
	j.AwaitReplica("kilo1")
	j.WriteHere(0, 1024)
	j.AwaitReplica("kilo2")
	await := func(zone, role string) {
		t.Helper()
		s := c.Session(zone, zonetest.Admin)
		var last client.DRHealth
		err := client.Poll(t.Context(), 50*time.Millisecond, func() (bool, error) {
			h, err := s.DRHealth(t.Context())
			last = h
			return slices.ContainsFunc(h.Pairs, func(p client.PairHealth) bool {
				return p.Role == role && p.SourceZone == source && p.Destination == "kilo1" && p.State == "no-room" &&
					strings.Contains(p.Advice, "kilo1")
			}), err
		})
		if err != nil {
			t.Fatalf("%s as %s: %v; %+v", zone, role, err, last.Pairs)
		}
	}
	await(source, "source")
	await("kilo1", "target")
	shown, err := c.Kvol(source).Show(t.Context(), source, zonetest.TypeID(source), "")
	if err != nil || len(shown) != 2 {
		t.Fatal(shown, err)
	}
	for _, b := range shown {
		if want := map[string]string{"kilo1": "inactive", "kilo2": "active"}[b.DstZone]; b.Status != want {
			t.Errorf("%s is %s", b.DstZone, b.Status)
		}
	}
}

// TestReplicationGoesOnAfterFailback: after a move there and back the volume is
// replicated to both other zones again, by itself, and both ends say so. No
// schedule has to be made anew by anybody.
func TestReplicationGoesOnAfterFailback(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 64, 6)
	j.WriteHere(0, 64)
	j.AwaitReplica("kilo1")
	j.Failover("kilo1")
	j.AwaitReplica(source)
	j.Failover(source)
	j.WriteHere(0, 8)
	j.AwaitReplica("kilo1")
	j.AwaitReplica("kilo2")
	for _, end := range [][2]string{{source, "source"}, {"kilo1", "target"}, {"kilo2", "target"}} {
		s := c.Session(end[0], zonetest.Alice)
		err := client.Poll(t.Context(), 50*time.Millisecond, func() (bool, error) {
			h, err := s.DRHealth(t.Context())
			n := 0
			for _, v := range h.Volumes {
				if v.VolumeID == j.Volume && v.Role == end[1] && v.State == "ok" {
					n++
				}
			}
			return n == map[string]int{"source": 2, "target": 1}[end[1]], err
		})
		if err != nil {
			t.Errorf("in %s: %v", end[0], err)
		}
	}
}

func metricsOf(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status, err, string(text))
	}
	return string(text)
}
