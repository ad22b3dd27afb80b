package control_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

func TestSnapshots(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(2))})
	z.changes()
	sn, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID, Name: ptr("s"),
		Metadata: map[string]string{"a": "1"}})
	must(t, err)
	if sn.Status != block.SnapshotCreating || sn.Size != 2 || sn.Progress != "0%" || *sn.Name != "s" ||
		sn.Project != alice.Project || sn.VolumeID != v.ID {
		t.Errorf("created %+v", sn)
	}
	wantError(t, "delete it at once", z.DeleteSnapshot(z.ctx, alice, sn.ID), block.Invalid,
		"Invalid snapshot: Snapshot status must be available or error and must not be part of a group.")
	z.work(z.ctx)
	if !slices.Contains(z.changes(), v.ID) {
		t.Error("nobody was told of the snapshot")
	}
	after, err := z.SetSnapshotMetadata(z.ctx, alice, sn.ID, map[string]string{"b": "2"}, false)
	must(t, err)
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "2"}, after); diff != "" {
		t.Error(diff)
	}
	must(t, z.DeleteSnapshotMetadata(z.ctx, alice, sn.ID, "a"))
	wantError(t, "metadata that is not there", z.DeleteSnapshotMetadata(z.ctx, alice, sn.ID, "a"), block.NotFound,
		"Snapshot "+string(sn.ID)+" has no metadata with key a.")
	got, err := z.UpdateSnapshot(z.ctx, alice, sn.ID,
		control.SnapshotChange{Description: control.Text{Set: true, Value: ptr("d")}})
	must(t, err)
	if *got.Name != "s" || *got.Description != "d" || got.Metadata["b"] != "2" || len(got.Metadata) != 1 {
		t.Errorf("updated %+v", got)
	}
	must(t, z.DeleteSnapshot(z.ctx, alice, sn.ID))
	z.work(z.ctx)
	z.wantStored(string(v.ID))
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
}

// TestPinnedSnapshot: replication holds a snapshot's bytes; the tenant's
// deletion takes the row, and whoever unpins it last the bytes.
func TestPinnedSnapshot(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	sn := z.snap(v.ID)
	name := block.PointID(sn.ID)
	z.update(func(tx *catalog.Tx) error { return tx.Pin(v.ID, name, "replication") })
	must(t, z.DeleteSnapshot(z.ctx, alice, sn.ID))
	z.work(z.ctx)
	if _, err := z.Snapshot(z.ctx, alice, sn.ID); !block.Is(err, block.NotFound) {
		t.Errorf("the row stays: %v", err)
	}
	z.wantStored(string(v.ID), string(v.ID)+"/"+string(sn.ID))
	z.update(func(tx *catalog.Tx) error {
		now, err := tx.Unpin(v.ID, name, "replication")
		if !now {
			t.Error("the last holder is not told to delete the bytes")
		}
		return err
	})
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	z.work(z.ctx)
	z.wantStored()
}

// TestCascade: snapshots that are busy keep the volume.
func TestCascade(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.snap(v.ID)
	creating, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID})
	must(t, err)
	wantError(t, "with a snapshot that is being made", z.DeleteVolume(z.ctx, alice, v.ID, true), block.Invalid,
		"Invalid volume: Snapshot "+string(creating.ID)+" status must be available or error to delete the volume "+
			"with it, but is creating.")
	z.work(z.ctx)
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, true))
	z.changes()
	z.work(z.ctx)
	z.wantGone(v.ID, false)
	z.wantStored()
	if !slices.Contains(z.changes(), v.ID) {
		t.Error("nobody was told of the deletion")
	}
}

// TestGoneIsTold: the deletion of a volume that is replicated is noted for its
// targets in the same transaction.
func TestGoneIsTold(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.update(func(tx *catalog.Tx) error {
		return tx.PutLink(catalog.Link{Volume: v.ID, Protection: 1, State: catalog.LinkCurrent})
	})
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	z.work(z.ctx)
	must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
		l, err := tx.Link(v.ID, 1)
		if !l.Gone {
			t.Error("the link does not know that the volume is gone")
		}
		return err
	}))
}
