package zonetest_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// scrubbed is a volume on embedded stores, of which a second zone has a replica,
// and a third one the replica of that. Both read theirs again and again.
func scrubbed(t *testing.T) *healed {
	c := zonetest.NewEmbeddedWith(t, func(cfg *zone.Config) {
		chained(cfg)
		cfg.DR.VerifyWithin = 4 * time.Second
	})
	v := makeVolume(t, c.Session(source, zonetest.Alice), client.NewVolume{Name: "precious", Size: 1})
	return &healed{loop: &loop{t: t, c: c, volume: v.ID}, written: map[int64][]byte{}}
}

// gauge reads a metric of the volume's replica in a zone; -1 for none.
func (h *healed) gauge(zone, name string) float64 {
	h.t.Helper()
	for line := range strings.Lines(metricsOf(h.t, h.c.URL(zone))) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, `volume="`+h.volume+`"`) {
			value, err := strconv.ParseFloat(strings.Fields(line)[1], 64)
			if err != nil {
				h.t.Fatal(err)
			}
			return value
		}
	}
	return -1
}

// until waits for something in a zone.
func (h *healed) until(what string, done func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Minute)
	defer cancel()
	if err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) { return done(), nil }); err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

// verified waits until a replica was read, from now on, and found whole.
func (h *healed) verified(zone string) {
	h.t.Helper()
	since := float64(time.Now().UnixMicro()) / 1e6
	h.until("no replica is verified in "+zone, func() bool {
		return h.gauge(zone, "kvol_replica_verified_timestamp_seconds") > since
	})
}

// told reports whether a zone's events tell something of the volume.
func (h *healed) told(zone, to, text string) bool {
	h.t.Helper()
	all, err := h.c.Session(zone, zonetest.Admin).DREvents(h.t.Context(), 1000)
	if err != nil {
		h.t.Fatal(err)
	}
	return slices.ContainsFunc(all, func(e client.DREvent) bool {
		return e.VolumeID == h.volume && e.Kind == "replica" && e.To == to && strings.Contains(e.Text, text)
	})
}

// TestScrubFindsWhatTheDiskChanged: replicas are read again while differences
// come in, without an alarm. A bit that changes on the disk of a replica that
// nobody can help is told within the time, by metric and event; no point that has
// it is recovered; when the other side is back it is repaired from there, and
// verified. The same in the last zone of a chain, which is helped by the one
// before it.
func TestScrubFindsWhatTheDiskChanged(t *testing.T) {
	t.Parallel()
	h := scrubbed(t)
	conn := h.open(source, h.volume)
	defer conn.Close()
	h.awaitPoint(to)
	h.awaitPoint(last)
	before := time.Now()
	h.fill(conn, 0, 300) // more than a segment
	h.awaitPoint(to)
	h.awaitPoint(last)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		p := bytes.Repeat([]byte{0x5a}, zonetest.BlockSize)
		for n := 0; ; n++ {
			select {
			case <-stop:
				ended <- nil
				return
			case <-time.After(20 * time.Millisecond): // a tenant's pace
			}
			copy(p, fmt.Sprint(n))
			if _, err := conn.WriteAt(p, int64(1000+n%64)*zonetest.BlockSize); err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 2 {
		h.verified(to)
		h.verified(last)
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{to, last} {
		if h.gauge(zone, "kvol_replica_damaged_points") != 0 || h.told(zone, "damaged", "") {
			t.Errorf("%s: a false alarm while differences came in", zone)
		}
	}
	h.awaitPoint(to)
	h.awaitPoint(last)
	for i, zone := range []string{to, last} {
		h.scrubAlone(zone, int64(40+i), before)
	}
	h.expect(conn, 40)
}

// scrubAlone damages a block of a zone's replica, written after an instant, while
// no other zone can be asked, and then lets it ask.
func (h *healed) scrubAlone(zone string, block int64, written time.Time) {
	t := h.t
	t.Helper()
	others := slices.DeleteFunc(slices.Clone(zonetest.Names), func(name string) bool { return name == zone })
	for _, name := range others {
		h.c.Cut(zone, name)
	}
	if n := h.flip(zone, block); n != 1 {
		t.Fatalf("block %d lies in %d places of %s", block, n, zone)
	}
	h.until("the damage is not found in "+zone, func() bool { return h.gauge(zone, "kvol_replica_damaged_points") > 0 })
	h.until("no event tells of the damage in "+zone, func() bool { return h.told(zone, "damaged", "Point ") })
	h.until(zone+" would recover what is damaged", func() bool {
		_, f, err := h.c.Session(zone, zonetest.Admin).Recover(t.Context(), client.Recovery{DryRun: true,
			AcceptRivals: others, Scope: client.RecoveryScope{Volumes: []string{h.volume}}})
		if err != nil {
			t.Fatal(err)
		}
		// Points from before the block was written are whole, if any are kept.
		return !f.Possible || f.Loss.Since != nil && f.Loss.Since.Before(written)
	})
	for _, name := range others {
		h.c.Mend(zone, name)
	}
	h.until("the replica in "+zone+" is not repaired", func() bool {
		return h.gauge(zone, "kvol_replica_damaged_points") == 0
	})
	h.verified(zone)
	if r := h.run(zone, "check"); r.Found != 0 {
		t.Errorf("after the repair a check of %s found %+v", zone, r)
	}
}
