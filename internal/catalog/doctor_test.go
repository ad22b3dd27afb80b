package catalog

import (
	"errors"
	"fmt"
	"testing"

	"kvol/internal/block"
)

// TestKnownSnapshots: each list of the catalog that speaks of a snapshot in a store
// is looked at, for the volume that has it, however many are asked for.
func TestKnownSnapshots(t *testing.T) {
	c := openDR(t)
	update(t, c, func(tx *Tx) error {
		_, err := tx.ReleaseSnapshot("v3", "released")
		return errors.Join(err,
			tx.InsertCut("v1", "cut"), tx.Pin("v2", "pinned", "somebody"),
			tx.UpsertType(block.VolumeType{ID: "t", Name: "t"}),
			tx.InsertVolume(block.Volume{ID: "v4", Project: "p", TypeID: "t", Size: 1, Status: block.VolumeAvailable}),
			tx.PutStale(block.StalePrimary{Volume: "v4", Undo: "undo"}),
			tx.PutFailover(block.Failover{ID: "f1", Volume: "v5", Phase: block.FailoverDraining, Last: "last", Started: tx.Now}),
			tx.PutFailover(block.Failover{ID: "f2", Volume: "v6", Phase: block.FailoverDone, Last: "over", Started: tx.Now}))
	})
	want := map[Cut]bool{
		{"v1", "cut"}: true, {"v2", "cut"}: false, {"v2", "pinned"}: true, {"v3", "released"}: true, {"v3", "pinned"}: false,
		{"v9", "v4"}:   true, // the start of a volume that is made of another
		{"v4", "undo"}: true, {"v1", "undo"}: false, {"v5", "last"}: true, {"v6", "over"}: false, {"v6", ""}: false,
	}
	var all []Cut
	for i := range maxKnown {
		all = append(all, Cut{"v0", block.PointID(fmt.Sprint(i))})
	}
	for c := range want {
		all = append(all, c)
	}
	update(t, c, func(tx *Tx) error {
		known, err := tx.KnownSnapshots(all)
		for c, is := range want {
			if known[c] != is {
				t.Errorf("%v: known %v", c, known[c])
			}
		}
		if known[Cut{"v0", "7"}] || len(known) != len(all) {
			t.Errorf("of %d snapshots it is said of %d", len(all), len(known))
		}
		return err
	})
}
