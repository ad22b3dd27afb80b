package catalog

import (
	"fmt"
	"testing"

	"kvol/internal/block"
)

// TestMetersAndOwnersInPages: what is kept and read of many at a time is what is
// kept and read of each.
func TestMetersAndOwnersInPages(t *testing.T) {
	c := openDR(t)
	const n = maxOwners + 1
	var ids []block.VolumeID
	var meters []KeptLag
	for i := range n {
		ids = append(ids, block.VolumeID(fmt.Sprintf("replica-%04d", i)))
		meters = append(meters, KeptLag{LagKey{"target", "a", ids[i], 2}, fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	update(t, c, func(tx *Tx) error {
		for i, id := range ids {
			name := fmt.Sprintf("volume %d", i)
			r := block.Replica{ID: id, SourceZone: "a", Source: "of-" + id, Protection: 2, Backend: "b", Epoch: 1}
			if r.Entry.Volume.Project = "p"; i > 0 {
				r.Entry.Volume.Name = &name
			}
			if err := tx.InsertReplica(r); err != nil {
				return err
			}
		}
		if err := tx.PutLags(nil); err != nil {
			return err
		}
		meters[1].Meter = []byte(`{"n":0}`)
		if err := tx.PutLags(meters[:MaxLags]); err != nil {
			return err
		}
		meters[1].Meter = []byte(`{"n":1}`)
		return tx.PutLags(meters[1:3])
	})
	update(t, c, func(tx *Tx) error {
		kept, err := tx.Lags()
		if err != nil || len(kept) != MaxLags {
			t.Fatalf("%d meters, %v", len(kept), err)
		}
		for i, k := range kept {
			if k.LagKey != meters[i].LagKey || string(k.Meter) != string(meters[i].Meter) {
				t.Errorf("meter %d is %+v", i, k)
			}
		}
		owners, err := tx.ReplicaOwners(append(ids, "gone"))
		if err != nil || len(owners) != n {
			t.Fatalf("%d owners, %v", len(owners), err)
		}
		for i, id := range ids {
			want := Owner{Volume: "of-" + id, Project: "p", Name: fmt.Sprintf("volume %d", i)}
			if i == 0 {
				want.Name = ""
			}
			if owners[id] != want {
				t.Errorf("replica %s is of %+v", id, owners[id])
			}
		}
		return nil
	})
}

// TestDamagedPointsOfAll: those of all replicas are those of each.
func TestDamagedPointsOfAll(t *testing.T) {
	c := openDR(t)
	update(t, c, func(tx *Tx) error {
		for _, id := range []block.VolumeID{"r1", "r2", "r3"} {
			r := block.Replica{ID: id, SourceZone: "a", Source: "of-" + id, Protection: 2, Backend: "b", Epoch: 1}
			if err := tx.InsertReplica(r); err != nil {
				return err
			}
			for i, point := range []block.PointID{"p1", "p2"} {
				p := block.Point{ID: point, Volume: r.Source, Epoch: 1, Sequence: uint64(i + 1), At: tx.Now, Size: 1}
				if err := tx.InsertPoint(id, p, block.RootHash{}); err != nil {
					return err
				}
			}
		}
		for replica, point := range map[block.VolumeID]block.PointID{"r1": "p2", "r3": "p1"} {
			if err := tx.MarkPoint(replica, point, "wrong"); err != nil {
				return err
			}
		}
		all, err := tx.AllDamagedPoints()
		if err != nil || len(all) != 2 || len(all["r1"]) != 1 || all["r1"]["p2"] != "wrong" || all["r3"]["p1"] != "wrong" {
			t.Errorf("%v, %v", all, err)
		}
		return nil
	})
}
