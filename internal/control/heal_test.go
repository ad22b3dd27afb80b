package control

import (
	"context"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
)

// callers counts which zones are asked; "away" does not answer.
type callers struct {
	block []byte // what "has" gives
	asked map[block.Zone]int
}

func (c *callers) Zones() []block.Zone { return []block.Zone{"away", "has"} }

func (c *callers) Call(_ context.Context, zone block.Zone, _, _ string, _, out any) error {
	c.asked[zone]++
	if zone == "away" {
		return block.Errorf(block.Unavailable, "Zone away can't be reached.")
	}
	if found, ok := out.(*BlockFound); ok {
		found.Data = c.block
	}
	return nil
}

// TestSilentZonesAreNotWaitedFor: a zone that gave no answer is not asked for
// the next damaged block, until a minute is over or it was heard of.
func TestSilentZonesAreNotWaitedFor(t *testing.T) {
	z := newAuditZone(t)
	peers := &callers{block: make([]byte, blockBytes), asked: map[block.Zone]int{}}
	z.Service.cfg.DR.Peers = peers
	crc := crc32.Checksum(peers.block, crc32c)
	heal := func(away, has int) {
		t.Helper()
		if _, err := z.Heal(t.Context(), []block.VolumeID{"v"}, 0, crc); err != nil {
			t.Error(err)
		}
		if peers.asked["away"] != away || peers.asked["has"] != has {
			t.Errorf("asked %v, expected %d and %d", peers.asked, away, has)
		}
	}
	heal(1, 1)
	heal(1, 2)
	z.clock.pass(healSilence - time.Second)
	heal(1, 3)
	z.clock.pass(time.Second)
	heal(2, 4)
	z.healing.heard("away", true, z.now()) // as by an exchange of documents
	heal(3, 5)
	peers.block = nil
	_, err := z.Heal(t.Context(), []block.VolumeID{"v"}, 0, crc)
	if text, _ := block.UserMessage(err); !strings.Contains(text, "zone away could not be asked a moment ago") {
		t.Errorf("said %q", text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	z.clock.pass(healSilence)
	if _, why := z.askForBlock(ctx, "away", BlockWanted{}); z.healing.isSilent("away", z.now()) {
		t.Errorf("who did not wait takes the zone for silent: %s", why)
	}
}
