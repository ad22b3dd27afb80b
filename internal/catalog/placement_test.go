package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"kvol/internal/block"
)

// TestBackendRooms: what lies on backends is known at any time, whatever is
// done to volumes.
func TestBackendRooms(t *testing.T) {
	c := open(t, "")
	random := rand.New(rand.NewPCG(7, 8))
	for round := range 300 {
		id := block.VolumeID(fmt.Sprintf("v%02d", random.IntN(20)))
		commit(t, c, func(tx *Tx) error {
			v, err := tx.Volume(id)
			switch {
			case block.Is(err, block.NotFound):
				return tx.InsertVolume(block.Volume{ID: id, Project: "p", Size: 1 + random.Int64N(9), Status: block.VolumeAvailable,
					Backend: fmt.Sprintf("b%d", random.IntN(3))})
			case err != nil:
				return err
			}
			switch random.IntN(4) {
			case 0:
				return tx.DeleteVolume(id)
			case 1:
				v.Backend = fmt.Sprintf("b%d", random.IntN(3))
			case 2:
				v.Size += random.Int64N(5)
			case 3:
				v.Backend, v.Size = "b9", 3
			}
			return tx.UpdateVolume(v)
		})
		look(t, c, func(tx *Tx) error {
			want := map[string]BackendRoom{}
			all, err := tx.Volumes(block.ListQuery{Limit: -1})
			for _, v := range all {
				r := want[v.Backend]
				want[v.Backend] = BackendRoom{v.Backend, r.Volumes + 1, r.GiB + v.Size}
			}
			if err != nil {
				return err
			}
			rooms, err := tx.BackendRooms()
			got := map[string]BackendRoom{}
			for _, r := range rooms {
				if r.Volumes != 0 || r.GiB != 0 {
					got[r.Backend] = r
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("round %d: %v, want %v", round, got, want)
			}
			return err
		})
	}
}

// TestPlacements: the newest come first, those of a volume by its index, and no
// more are kept than may be.
func TestPlacements(t *testing.T) {
	c := open(t, "")
	insert := func(tx *Tx, i int64) error {
		return tx.InsertPlacement(block.Placement{Volume: block.VolumeID(fmt.Sprintf("v%d", i%2)), What: "create", Size: i,
			Refused: []block.BackendRefusal{{Backend: "b", Filter: "CapacityFilter", Reason: "full"}}})
	}
	commit(t, c, func(tx *Tx) error {
		for i := range int64(20) {
			if err := insert(tx, i); err != nil {
				return err
			}
		}
		return nil
	})
	look(t, c, func(tx *Tx) error {
		all, err := tx.Placements("", 0, 100)
		if len(all) != 20 || all[0].Size != 19 || all[0].At.IsZero() || all[0].Refused[0].Reason != "full" {
			t.Fatalf("%d placements, the first %+v", len(all), all[0])
		}
		if err != nil {
			return err
		}
		page, err := tx.Placements("v1", all[3].ID, 3)
		if len(page) != 3 || page[0].Volume != "v1" || page[0].ID >= all[3].ID || page[2].ID >= page[1].ID {
			t.Errorf("a page: %+v", page)
		}
		return err
	})
	commit(t, c, func(tx *Tx) error {
		_, err := tx.exec("INSERT INTO placements (id, at, volume_id, event) VALUES ($1, 0, 'v', '{}')", MaxPlacements+10)
		return errors.Join(err, insert(tx, 20))
	})
	look(t, c, func(tx *Tx) error {
		all, err := tx.Placements("", 0, 100)
		if n := len(all); n < 11 || n > 13 || all[n-1].Size < 9 {
			t.Errorf("%d are left, down to %+v", n, all[n-1])
		}
		return err
	})
}

// TestPlacementPlans: a volume's placements are found by an index.
func TestPlacementPlans(t *testing.T) {
	sqliteOnly(t)
	look(t, open(t, ""), func(tx *Tx) error {
		wantPlan(t, tx, "placements", "placements_of_volume (volume_id=?", "SELECT id, event FROM placements "+
			"WHERE ($1 <= 0 OR id < $1) AND volume_id = $3 ORDER BY id DESC LIMIT $2", []any{0, 5, "v"})
		return nil
	})
}
