package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// pairOf is a pair in the zone's health.
func (z *healthZone) pairOf(source block.Zone, seq int64) PairState {
	z.t.Helper()
	h, err := z.Health(z.t.Context(), everybody)
	if err != nil {
		z.t.Fatal(err)
	}
	i := slices.IndexFunc(h.Pairs, func(p PairState) bool { return p.SourceZone == source && p.Seq == seq })
	if i < 0 {
		z.t.Fatalf("pair %d of zone %s is not in %+v", seq, source, h.Pairs)
	}
	return h.Pairs[i]
}

// TestZonesNumberTheirProtectionsThemselves: seq 2 of zone a, seq 2 of zone c and seqs
// 7 of zone b, which looks, and of zone d are four protections.
func TestZonesNumberTheirProtectionsThemselves(t *testing.T) {
	const ofC = block.VolumeID("44444444-4444-4444-8444-444444444444")
	z := newHealthZone(t)
	z.well()
	d := Document{Zone: "d", At: z.clock.now(), Protections: []DocumentProtection{{Protection: block.Protection{Seq: 7,
		SourceZone: "d", SourceType: "t", Destination: "b", Backup: block.Backend{Name: "bak"}, Interval: time.Second,
		Enabled: true}}}}
	if _, err := z.ExchangeDocument(t.Context(), "d", d); err != nil {
		t.Fatal(err)
	}
	z.hear("c")
	at := z.clock.now()
	z.update(func(tx *catalog.Tx) error {
		return tx.InsertReplica(block.Replica{ID: "of c", SourceZone: "c", Source: ofC, Protection: 2, Backend: "bak", Epoch: 1,
			Newest: block.Point{ID: "point", Volume: ofC, Epoch: 1, Sequence: 1, At: at, Size: 4096}, Current: at,
			Entry: block.Entry{Volume: block.Volume{Project: "q"}}})
	})
	z.look()
	for range 60 { // only c goes on
		z.clock.pass(2 * time.Second)
		z.update(func(tx *catalog.Tx) error {
			r, err := tx.Replica("of c")
			if err != nil {
				return err
			}
			r.Current = tx.Now
			return tx.UpdateReplica(r)
		})
		z.look()
	}
	for _, want := range []struct {
		source  block.Zone
		seq     int64
		role    string
		state   block.HealthState
		volumes int
		lag     time.Duration
	}{
		{"a", 2, RoleTarget, block.HealthStalled, 1, 2 * time.Minute},
		{"c", 2, RoleTarget, block.HealthOK, 1, 0},
		{"b", 7, RoleSource, block.HealthStalled, 1, 2 * time.Minute},
		{"d", 7, RoleTarget, block.HealthStalled, 0, 0},
	} {
		p := z.pairOf(want.source, want.seq)
		n := 0
		for _, of := range p.Volumes {
			n += of
		}
		if p.Role != want.role || p.State != want.state || n != want.volumes || p.Lag.Now != want.lag {
			t.Errorf("%+v: %s %s %d volumes, %s", want, p.Role, p.State, n, p.Lag.Now)
		}
	}
	if v := z.of(ownVolume); v.Role != RoleSource || v.Destination != "a" {
		t.Errorf("the zone's own volume: %+v", v)
	}
	late := map[block.Zone]bool{}
	for _, f := range z.findings(everybody) {
		if f.Kind == block.FindOrphanReplica {
			t.Errorf("a replica that its zone's protection explains: %+v", f)
		}
		if f.Kind == block.FindNoRecentPoint {
			late[f.SourceZone] = true
			if !strings.Contains(f.Text, "Of 1 volumes of zone "+string(f.SourceZone)) {
				t.Error(f.Text)
			}
		}
	}
	if !late["a"] || !late["b"] || late["c"] || late["d"] {
		t.Errorf("late are %v", late)
	}
}
