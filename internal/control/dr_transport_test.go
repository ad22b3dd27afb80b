package control

import (
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// TestHealthSaysByWhatPointsCame: a protection's transport is what is wanted, and a
// link's is how it was; the doctor tells both where a pair is behind.
func TestHealthSaysByWhatPointsCame(t *testing.T) {
	z := newHealthZone(t)
	z.by = block.TransportMirror
	z.hear("a")
	z.well()
	if v, their := z.of(ownVolume), z.of(theirVolume); v.By == nil || *v.By != block.TransportStream || their.By != nil {
		t.Errorf("%+v and %+v", v.By, their.By)
	}
	if p := z.pair(7); p.Transport != block.TransportMirror || p.By[block.TransportStream] != 1 || len(p.By) != 1 {
		t.Errorf("%s %v", p.Transport, p.By)
	}
	if p := z.pair(2); p.Transport != block.TransportMirror || len(p.By) != 0 {
		t.Errorf("%s %v", p.Transport, p.By)
	}
	z.update(func(tx *catalog.Tx) error {
		l, err := tx.Link(ownVolume, 7)
		l.Transport = block.TransportMirror
		return first(err, tx.PutLink(l))
	})
	z.clock.pass(time.Hour)
	if p := z.pair(7); p.By[block.TransportMirror] != 1 || p.By[block.TransportStream] != 0 {
		t.Errorf("%v", p.By)
	}
	z.wantSaid(7, "Their bytes go by rbd-mirror; those of the newest points of 1 of all its volumes did, and of 0 they "+
		"went by the stream.", "rbd-mirror daemon of zone a")
	z.wantSaid(2, "Their bytes come by rbd-mirror.", "rbd-mirror daemon of zone b")
	z.by = block.TransportStream
	z.hear("a")
	for _, f := range z.findings(everybody) {
		if strings.Contains(f.Text+f.Advice, "rbd-mirror") {
			t.Errorf("of a stream: %s %s", f.Text, f.Advice)
		}
	}
}

// wantSaid is what the doctor says of a pair that is behind.
func (z *healthZone) wantSaid(seq int64, text, advice string) {
	z.t.Helper()
	for _, f := range z.findings(everybody) {
		if f.Kind != block.FindNoRecentPoint || f.Protection != seq {
			continue
		}
		if !strings.HasSuffix(f.Text, text) || !strings.Contains(f.Advice, advice) {
			z.t.Errorf("of protection %d: %s %s", seq, f.Text, f.Advice)
		}
		return
	}
	z.t.Errorf("nothing is said of protection %d", seq)
}
