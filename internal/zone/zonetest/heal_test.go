package zonetest_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/zone/zonetest"
)

const backup = "kilo1"

// healed is a protected volume on embedded stores, and what it holds.
type healed struct {
	*loop
	written map[int64][]byte // by number of block
}

func newHealed(t *testing.T) *healed {
	c := zonetest.NewEmbedded(t)
	l := &loop{t: t, c: c}
	s := c.Session(source, zonetest.Alice)
	v, err := s.CreateVolume(t.Context(), client.NewVolume{Name: "precious", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	l.volume = v.ID
	if _, err := s.WaitVolume(t.Context(), v.ID, nil, "available"); err != nil {
		t.Fatal(err)
	}
	return &healed{loop: l, written: map[int64][]byte{}}
}

// fill writes blocks from one on, of which no two are alike.
func (h *healed) fill(c *nbd.Conn, from, n int64) {
	h.t.Helper()
	for i := from; i < from+n; i++ {
		p := bytes.Repeat([]byte{byte(i), byte(i >> 8), 0xa7, byte(len(h.written))}, zonetest.BlockSize/4)
		copy(p, "block of the volume")
		if _, err := c.WriteAt(p, i*zonetest.BlockSize); err != nil {
			h.t.Fatal(err)
		}
		h.written[i] = p
	}
	if err := c.Flush(); err != nil {
		h.t.Fatal(err)
	}
}

// flip changes one bit of each copy of a block in the segments of a zone's
// store, and returns in how many places it was.
func (h *healed) flip(zone string, block int64) (places int) {
	h.t.Helper()
	names, err := filepath.Glob(filepath.Join(h.c.StoreDir(zone), "segments", "*"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			h.t.Fatal(err)
		}
		text, err := io.ReadAll(f)
		if err != nil {
			h.t.Fatal(err)
		}
		for at := bytes.Index(text, h.written[block]); at >= 0; at = -1 {
			if _, err := f.WriteAt([]byte{text[at+99] ^ 4}, int64(at)+99); err != nil {
				h.t.Fatal(err)
			}
			places++
		}
		if err := f.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	return places
}

// expect reads a block and compares it.
func (h *healed) expect(c *nbd.Conn, block int64) {
	h.t.Helper()
	p := make([]byte, zonetest.BlockSize)
	if _, err := c.ReadAt(p, block*zonetest.BlockSize); err != nil || !bytes.Equal(p, h.written[block]) {
		h.t.Errorf("block %d: %.20q, %v", block, p, err)
	}
}

// run does a check or a scrub of a zone's store to its end.
func (h *healed) run(zone, kind string) client.StoreRun {
	h.t.Helper()
	s := h.c.Session(zone, zonetest.Admin)
	r, err := s.BeginStoreRun(h.t.Context(), "main", kind, 0)
	if err == nil {
		r, err = s.WaitStoreRun(h.t.Context(), r, nil)
	}
	if err != nil || r.State != "done" || r.Done == 0 || r.Total != r.Done {
		h.t.Fatalf("%s of %s: %+v, %v", kind, zone, r, err)
	}
	return r
}

// await waits until what a zone knows of damage is as it should be.
func (h *healed) await(zone string, what string, ok func(standing, all []client.StoreDamage) bool) {
	h.t.Helper()
	s := h.c.Session(zone, zonetest.Admin)
	var standing, all []client.StoreDamage
	ctx := h.t.Context()
	err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		var err error
		if standing, err = s.StoreDamages(ctx, "main", false); err != nil {
			return false, err
		}
		all, err = s.StoreDamages(ctx, "main", true)
		return ok(standing, all), err
	})
	if err != nil {
		h.t.Fatalf("%s: %v; damages %+v", what, err, all)
	}
}

// metric reads a line of a zone's metrics.
func (h *healed) metric(zone, name string) string {
	h.t.Helper()
	answer, err := http.Get(h.c.URL(zone) + "/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	h.t.Fatalf("there is no metric %s", name)
	return ""
}

// TestHealing damages the stores of both ends of a replicated volume. What the
// other end has comes back, by reading and by checking; what nobody has is an
// error to who reads it and an alarm that stays, also over a restart.
func TestHealing(t *testing.T) {
	t.Parallel()
	h := newHealed(t)
	c := h.open(source, h.volume)
	h.fill(c, 0, 400) // more than a segment
	h.awaitPoint(backup)

	// The primary, found by who reads.
	if n := h.flip(source, 3); n != 1 {
		t.Fatalf("block 3 lies in %d places", n)
	}
	h.expect(c, 3)
	h.await(source, "healed by reading", func(standing, all []client.StoreDamage) bool {
		return len(standing) == 0 && len(all) == 1 && all[0].State == "healed" && all[0].VolumeID == h.volume &&
			all[0].VolumeName == "precious" && all[0].Off == 3*zonetest.BlockSize && all[0].Len == zonetest.BlockSize
	})
	// Found by a check, while the export is open; the last block lies in the
	// segment that is being written.
	h.flip(source, 17)
	h.flip(source, 399)
	if r := h.run(source, "check"); r.Found != 2 {
		t.Errorf("the check found %+v", r)
	}
	if r := h.run(source, "check"); r.Found != 0 {
		t.Errorf("after healing a check found %+v", r)
	}
	h.expect(c, 17)
	h.expect(c, 399)

	// The replica, healed by the primary, by a scrub.
	if n := h.flip(backup, 5); n != 1 {
		t.Fatalf("block 5 lies in %d places of the replica's store", n)
	}
	if r := h.run(backup, "scrub"); r.Found != 1 {
		t.Errorf("the scrub of the replica found %+v", r)
	}
	h.await(backup, "healed replica", func(standing, all []client.StoreDamage) bool {
		return len(standing) == 0 && len(all) == 1 && all[0].State == "healed" && all[0].ReplicaOf == source &&
			all[0].Source == h.volume && all[0].VolumeName == "precious"
	})
	if got := h.metric(source, `kvol_store_healed_total{backend="mitaka1-ssd"}`); got != "3" {
		t.Errorf("%s places healed", got)
	}
	h.lostForGood(c)
}

// lostForGood damages what is newer than every replica.
func (h *healed) lostForGood(c *nbd.Conn) {
	t := h.t
	h.c.Damaged = []string{source}
	h.c.Cut(source, "kilo1")
	h.c.Cut(source, "kilo2")
	h.fill(c, 1000, 1)
	h.flip(source, 1000)
	p := make([]byte, zonetest.BlockSize)
	if _, err := c.ReadAt(p, 1000*zonetest.BlockSize); err == nil {
		t.Error("a damaged block was served")
	}
	stands := func(reason string) func(standing, _ []client.StoreDamage) bool {
		return func(standing, _ []client.StoreDamage) bool {
			return len(standing) == 1 && standing[0].Off == 1000*zonetest.BlockSize &&
				strings.Contains(standing[0].Reason, reason)
		}
	}
	h.await(source, "nobody to ask", stands("zone kilo1 could not be asked"))
	if got := h.metric(source, `kvol_store_damaged{backend="mitaka1-ssd"}`); got != "1" {
		t.Errorf("%s places are damaged", got)
	}
	h.expect(c, 5)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	h.c.Stop(source)
	h.c.Start(source)
	h.await(source, "after a restart", stands("zone kilo1 could not be asked"))
	if got := h.metric(source, `kvol_store_damaged{backend="mitaka1-ssd"}`); got != "1" {
		t.Errorf("after a restart %s places are damaged", got)
	}
	h.c.Mend(source, "kilo1")
	h.c.Mend(source, "kilo2")
	h.await(source, "asked in vain", func(_, _ []client.StoreDamage) bool {
		h.run(source, "check")
		return stands("these bytes in no recovery point of it: they are newer")(
			must(h.c.Session(source, zonetest.Admin).StoreDamages(t.Context(), "main", false))(t), nil)
	})
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
