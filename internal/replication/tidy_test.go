package replication

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// TestRetentionIsOfTheZonesOwnProtection: two zones have a protection of one number, and
// each replica keeps the points that its own zone's says.
func TestRetentionIsOfTheZonesOwnProtection(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	c, err := catalog.Open(t.Context(), catalog.Options{Now: clock, Image: catalogtest.Empty()})
	if err != nil {
		t.Fatal(err)
	}
	store := mem.New(mem.Options{})
	defer func() {
		if err := errors.Join(c.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	}()
	set, err := driver.NewSet(map[string]driver.Driver{"s": store}, []block.Backend{{Name: "b", Store: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	const n = 10 // points, a minute apart
	policies := []block.Protection{}
	kept := map[block.Zone]time.Duration{"a": time.Hour, "c": 3 * time.Minute}
	for zone, keep := range kept {
		policies = append(policies, block.Protection{Seq: 1, SourceZone: zone, Destination: "b", Enabled: true,
			Retention: block.Retention{Tiers: []block.RetentionTier{{Step: time.Second, For: keep}}}})
		id := block.VolumeID("of " + zone)
		if err := store.CreateVolume(t.Context(), id, driver.BlockSize); err != nil {
			t.Fatal(err)
		}
		r := block.Replica{ID: id, SourceZone: zone, Source: "v", Protection: 1, Backend: "b", Epoch: 1}
		var points []block.Point
		for i := range n {
			p := block.Point{ID: block.PointID(fmt.Sprintf("p%d", i)), Volume: "v", Epoch: 1, Sequence: uint64(i + 1),
				At: now.Add(time.Duration(i-n+1) * time.Minute), Size: driver.BlockSize}
			if err := store.CreateSnapshot(t.Context(), driver.SnapshotRef{Volume: id, Name: p.ID}); err != nil {
				t.Fatal(err)
			}
			points, r.Newest = append(points, p), p
		}
		err := c.Update(t.Context(), func(tx *catalog.Tx) error {
			all := tx.InsertReplica(r)
			for _, p := range points {
				all = errors.Join(all, tx.InsertPoint(id, p, block.RootHash{}))
			}
			return all
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // whichever protection is listed last
		policies[0], policies[1] = policies[1], policies[0]
		r := NewReceiver(ReceiverConfig{Catalog: c, Backends: set, Zone: "b", Now: clock,
			Protections: func() []block.Protection { return policies }})
		if err := r.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for zone, keep := range kept {
		var points []block.Point
		err := c.View(t.Context(), func(tx *catalog.Tx) (err error) {
			points, err = tx.Points("of " + block.VolumeID(zone))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if zone == "a" && len(points) != n || zone == "c" && (len(points) > 4 || len(points) < 3) {
			t.Errorf("%d of %d points of zone %s are left, of which those of %s are to be kept", len(points), n, zone, keep)
		}
	}
}
