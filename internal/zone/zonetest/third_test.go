package zonetest_test

import (
	"testing"

	"kvol/internal/client"
)

// TestHealingFromAThirdZone damages a block in two of the three zones that have
// it: whichever of them meets the damage gets the block from the one that is
// left, also a replica whose volume's zone is gone.
func TestHealingFromAThirdZone(t *testing.T) {
	t.Parallel()
	const second = "kilo2"
	h := newHealed(t)
	c := h.open(source, h.volume)
	h.fill(c, 0, 400) // more than a segment
	h.awaitPoint(backup)
	h.awaitPoint(second)
	healed := func(n int, at int64) func(standing, all []client.StoreDamage) bool {
		return func(standing, all []client.StoreDamage) bool {
			hit := false
			for _, d := range all {
				hit = hit || d.Off == at*4096 && d.State == "healed"
			}
			return len(standing) == 0 && len(all) == n && hit
		}
	}
	// Whichever backup zone is asked first has nothing whole to give.
	for i, lost := range []string{backup, second} {
		block := int64(7 + i)
		if a, b := h.flip(source, block), h.flip(lost, block); a != 1 || b != 1 {
			t.Fatalf("block %d lies in %d and %d places", block, a, b)
		}
		h.expect(c, block)
		h.await(source, "healed from the other backup zone", healed(i+1, block))
		h.run(lost, "scrub")
		h.await(lost, "then the damaged replica", healed(1, block))
	}
	if got := h.metric(source, `kvol_store_healed_total{backend="mitaka1-ssd"}`); got != "2" {
		t.Errorf("%s places healed", got)
	}

	// With the volume's zone gone, one replica is healed from the other.
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	h.c.Stop(source)
	for zone, block := range map[string]int64{backup: 11, second: 12} {
		if n := h.flip(zone, block); n != 1 {
			t.Fatalf("block %d lies in %d places of %s", block, n, zone)
		}
		if r := h.run(zone, "scrub"); r.Found != 1 {
			t.Errorf("the scrub of %s found %+v", zone, r)
		}
		h.await(zone, "a replica healed from another", healed(2, block))
		if r := h.run(zone, "check"); r.Found != 0 {
			t.Errorf("after healing a check of %s found %+v", zone, r)
		}
	}
	h.c.Start(source)
	c = h.open(source, h.volume)
	defer c.Close()
	for _, block := range []int64{7, 8, 11, 12} {
		h.expect(c, block)
	}
}
