package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/replication"
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
		return tx.InsertReplica(block.Replica{ID: "of c", SourceZone: "c", Source: ofC, Protection: 2, Backend: "bak",
			Epoch: 1, Newest: block.Point{ID: "point", Volume: ofC, Epoch: 1, Sequence: 1, At: at, Size: 4096}, Current: at,
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

// tell has a zone tell of a protection to another one, unless seq is 0, and of relays.
func (z *healthZone) tell(zone block.Zone, seq int64, to block.Zone, relays ...block.Protection) {
	z.t.Helper()
	d := Document{Zone: zone, At: z.clock.now(), Relays: relays}
	if seq != 0 {
		d.Protections = []DocumentProtection{{Protection: block.Protection{Seq: seq, SourceZone: zone, SourceType: "t",
			Destination: to, Backup: block.Backend{Name: "bak"}, Interval: time.Second, Enabled: true}}}
	}
	if _, err := z.ExchangeDocument(z.t.Context(), zone, d); err != nil {
		z.t.Fatal(err)
	}
}

// relay is one of via into the zone that looks.
func relay(seq int64, source block.Zone, follows int64, via block.Zone) block.Protection {
	return block.Protection{Seq: seq, SourceZone: source, Via: via, Follows: follows, Destination: "b",
		Backup: block.Backend{Name: "bak"}, Interval: time.Second, Enabled: true}
}

// TestNobodySendsForAnotherZoneUnasked: zone c, a peer, says that it sends on what zone a
// sends here itself, and then wants to have a's replica deleted.
func TestNobodySendsForAnotherZoneUnasked(t *testing.T) {
	z := newHealthZone(t)
	z.well()
	r := replication.NewReceiver(replication.ReceiverConfig{Catalog: z.catalog, Backends: z.set, Zone: "b",
		Protections: z.KnownProtections, Now: z.clock.now})
	z.tell("c", 0, "", relay(2, "a", 2, "c"))
	target := r.Target("c", func() {})
	offer := replication.Offer{Volume: theirVolume, Protection: 2, Epoch: 1}
	if _, err := target.Offer(t.Context(), offer); !block.Is(err, block.Forbidden) {
		t.Errorf("zone c may send volumes of zone a: %v", err)
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
	target = r.Target("a", func() {})
	if have, err := target.Offer(t.Context(), offer); err != nil || have.Replica != "replica" {
		t.Errorf("zone a may not send its own: %+v, %v", have, err)
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
	if p := z.pairOf("a", 2); p.Via != "" {
		t.Errorf("%+v", p)
	}
}

// TestRelaysThatAreTaken: what the volumes' zone and others tell decides by which relays
// replicas are taken, and the doctor names the others.
func TestRelaysThatAreTaken(t *testing.T) {
	for name, c := range map[string]struct {
		tell  func(*healthZone)
		taken bool
	}{
		"as zone a tells": {func(z *healthZone) { z.tell("a", 2, "c") }, true},
		"of a zone that was never heard": {func(z *healthZone) {
			z.tell("c", 0, "", relay(100, "x", 5, "c"))
		}, true},
		"of a zone that sends nothing there": {func(z *healthZone) { z.tell("a", 2, "b") }, false},
		"of a zone that sends it by another": {func(z *healthZone) { z.tell("a", 3, "c") }, false},
		"whose number zone a has": {func(z *healthZone) {
			d := Document{Zone: "a", At: z.clock.now()}
			for seq, to := range map[int64]block.Zone{2: "c", 100: "e"} {
				d.Protections = append(d.Protections, DocumentProtection{Protection: block.Protection{Seq: seq, SourceZone: "a",
					SourceType: "t", Destination: to, Interval: time.Second, Enabled: true}})
			}
			if _, err := z.ExchangeDocument(z.t.Context(), "a", d); err != nil {
				z.t.Fatal(err)
			}
		}, false},
		"through a zone in between": {func(z *healthZone) {
			z.tell("a", 9, "e")
			on := relay(2, "a", 9, "e")
			on.Destination = "c"
			z.tell("e", 0, "", on)
		}, true},
		"that follows what its own zone made up": {func(z *healthZone) {
			z.tell("a", 9, "e")
			on := relay(2, "a", 9, "c")
			on.Destination = "c"
			z.tell("c", 0, "", on, relay(100, "a", 2, "c"))
		}, false},
		"that two zones have": {func(z *healthZone) {
			z.tell("a", 2, "c")
			z.tell("e", 0, "", relay(100, "a", 2, "e"))
		}, false},
		"of another zone's name": {func(z *healthZone) {
			z.tell("a", 2, "c")
			z.tell("c", 0, "", relay(100, "a", 2, "e"))
		}, false},
	} {
		z := newHealthZone(t)
		z.clock.pass(time.Second)
		z.tell("c", 0, "", relay(100, "a", 2, "c"))
		c.tell(z)
		taken := slices.ContainsFunc(z.KnownProtections(), func(p block.Protection) bool {
			return p.Seq == 100 && p.Via != ""
		})
		if taken != c.taken {
			t.Errorf("a relay %s: it is %v that it is taken", name, taken)
		}
		told := slices.ContainsFunc(z.findings(everybody), func(f block.Finding) bool {
			return f.Kind == block.FindRefusedRelay && f.Protection == 100 && f.SourceZone == "a" && f.Advice != ""
		})
		if told == c.taken && name != "of another zone's name" { // which is no relay at all
			t.Errorf("a relay %s: it is %v that the doctor names it", name, told)
		}
	}
}
