package catalog

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"kvol/internal/block"
)

func pointer[T any](v T) *T { return &v }

// fullVolume has a value in every column.
func fullVolume() block.Volume {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	return block.Volume{
		ID: "v", Project: "p", User: "u", Name: pointer(""), Description: pointer("d"), Size: 7,
		Status: block.VolumeCreating, TypeID: "t", TypeName: "gold", Backend: "b", AvailabilityZone: "z",
		Bootable: true, Multiattach: true, Encrypted: true, Readonly: true,
		SnapshotID: pointer(block.SnapshotID("s")), SourceVolumeID: pointer(block.VolumeID("src")),
		GroupID: pointer(block.GroupID("g")), Metadata: map[string]string{"k": "v"},
		ImageMetadata: map[string]string{"i": "m"}, ReplicationStatus: "enabled", Epoch: 3,
		RecoveredTo: &block.Recovered{Zone: "kilo1", Volume: "w", Epoch: 4, At: at},
		Attachments: []block.Attachment{{
			ID: "a", VolumeID: "v", ServerID: pointer("srv"), HostName: pointer("h"), Device: pointer("/dev/vdb"),
			Mode: "rw", Status: "attached", AttachedAt: at, DetachedAt: at.Add(time.Second),
		}},
		CreatedAt: at, UpdatedAt: at.Add(time.Minute),
	}
}

func insertFull(t *testing.T, c *Catalog) block.Volume {
	v := fullVolume()
	commit(t, c, func(tx *Tx) error {
		return cmp.Or(tx.UpsertType(block.VolumeType{ID: "t", Name: "gold"}), tx.InsertVolume(v),
			tx.InsertAttachment(v.Attachments[0]))
	})
	return v
}

func wantVolume(t *testing.T, c *Catalog, want block.Volume) {
	t.Helper()
	look(t, c, func(tx *Tx) error {
		got, err := tx.Volume(want.ID)
		if err != nil {
			return err
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error("one:", diff)
		}
		all, err := tx.Volumes(block.ListQuery{Limit: -1, Filters: map[string]string{"id": string(want.ID)}})
		if diff := gocmp.Diff([]block.Volume{want}, all); diff != "" {
			t.Error("listed:", diff)
		}
		return err
	})
}

func TestVolumeKeepsEveryField(t *testing.T) {
	c := memory(t)
	v := insertFull(t, c)
	wantVolume(t, c, v)

	empty := block.Volume{ID: "e", Status: block.VolumeAvailable}
	var now time.Time
	commit(t, c, func(tx *Tx) error { now = tx.Now; return tx.InsertVolume(empty) })
	empty.Metadata, empty.ImageMetadata, empty.CreatedAt = map[string]string{}, map[string]string{}, now
	wantVolume(t, c, empty)

	err := c.Update(t.Context(), func(tx *Tx) error { return tx.InsertVolume(v) })
	wantError(t, err, block.Conflict, "Volume v exists already.")
}

func TestUpdateVolume(t *testing.T) {
	c := memory(t)
	v := insertFull(t, c)
	want := block.Volume{
		ID: "v", Project: "p2", User: "u2", Size: 9, Backend: "b2", AvailabilityZone: "z2", ReplicationStatus: "error",
		Epoch: 9, Metadata: map[string]string{}, ImageMetadata: map[string]string{}, Attachments: v.Attachments,
		Status: v.Status, CreatedAt: v.CreatedAt,
	}
	change := want
	change.Status, change.CreatedAt = block.VolumeError, time.Unix(1, 0)
	commit(t, c, func(tx *Tx) error { want.UpdatedAt = tx.Now; return tx.UpdateVolume(change) })
	wantVolume(t, c, want)
	err := c.Update(t.Context(), func(tx *Tx) error { return tx.UpdateVolume(block.Volume{ID: "x"}) })
	wantError(t, err, block.NotFound, "Volume x could not be found.")
}

func TestMoveVolume(t *testing.T) {
	c := memory(t)
	v := insertFull(t, c)
	move := func(e block.Event, want block.VolumeStatus) {
		t.Helper()
		commit(t, c, func(tx *Tx) error {
			got, err := tx.MoveVolume(v.ID, e)
			if got.Status != want || got.UpdatedAt != tx.Now {
				t.Errorf("%s leads to %q at %v, want %q", e, got.Status, got.UpdatedAt, want)
			}
			return err
		})
	}
	move(block.Done, block.VolumeAvailable)
	move(block.Reserve, block.VolumeAttaching)
	move(block.Detach, block.VolumeInUse) // the attachment is still there
	commit(t, c, func(tx *Tx) error { return tx.DeleteAttachment(v.Attachments[0].ID) })
	move(block.Detach, block.VolumeAvailable)
	err := c.Update(t.Context(), func(tx *Tx) error { _, err := tx.MoveVolume(v.ID, block.Done); return err })
	wantError(t, err, block.Conflict, "a volume in status available does not allow done")
	look(t, c, func(tx *Tx) error {
		if got, err := tx.Volume(v.ID); got.Status != block.VolumeAvailable || err != nil {
			t.Errorf("%q %v", got.Status, err)
		}
		return nil
	})
	move(block.Delete, block.VolumeDeleting)
	move(block.Done, "")
	look(t, c, func(tx *Tx) error {
		_, err := tx.Volume(v.ID)
		wantError(t, err, block.NotFound, "Volume v could not be found.")
		return nil
	})
	err = c.Update(t.Context(), func(tx *Tx) error { _, err := tx.MoveVolume(v.ID, block.Done); return err })
	wantError(t, err, block.NotFound, "Volume v could not be found.")
}

func TestDeleteVolumeTakesWhatHangsOnIt(t *testing.T) {
	c := memory(t)
	v := insertFull(t, c)
	commit(t, c, func(tx *Tx) error {
		_, err := tx.ReleaseSnapshot(v.ID, "s")
		return cmp.Or(err, tx.InsertSnapshot(block.Snapshot{ID: "s", VolumeID: v.ID}), tx.Pin(v.ID, "x", "h"),
			tx.InsertConnection(block.Connection{ID: "c", VolumeID: v.ID}))
	})
	for range 2 {
		commit(t, c, func(tx *Tx) error { return tx.DeleteVolume(v.ID) })
	}
	look(t, c, func(tx *Tx) error {
		for _, table := range []string{"volumes", "snapshots", "attachments", "connections", "pins", "released_snapshots"} {
			var n int
			if err := tx.queryRow("SELECT COUNT(*) FROM " + table).Scan(&n); n != 0 || err != nil {
				t.Errorf("%s: %d rows, %v", table, n, err)
			}
		}
		return nil
	})
}

func TestSnapshot(t *testing.T) {
	c := memory(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	s := block.Snapshot{
		ID: "s", VolumeID: "v", Project: "p", User: "u", Name: pointer("n"), Description: pointer("d"), Size: 7,
		Status: block.SnapshotCreating, Progress: "0%", Metadata: map[string]string{"k": "v"},
		CreatedAt: at, UpdatedAt: at,
	}
	other := block.Snapshot{ID: "o", VolumeID: "v", Project: "q", Metadata: map[string]string{}, CreatedAt: at.Add(-1e9)}
	commit(t, c, func(tx *Tx) error { return cmp.Or(tx.InsertSnapshot(s), tx.InsertSnapshot(other)) })
	err := c.Update(t.Context(), func(tx *Tx) error { return tx.InsertSnapshot(s) })
	wantError(t, err, block.Conflict, "Snapshot s exists already.")
	commit(t, c, func(tx *Tx) error {
		s.Progress, s.Name, s.UpdatedAt = "100%", nil, tx.Now
		if err := tx.UpdateSnapshot(s); err != nil {
			return err
		}
		s.Status = block.SnapshotAvailable
		got, err := tx.MoveSnapshot("s", block.Done)
		if diff := gocmp.Diff(s, got); diff != "" {
			t.Error(diff)
		}
		return err
	})
	look(t, c, func(tx *Tx) error {
		got, err := tx.Snapshot("s")
		of, err2 := tx.SnapshotsOf("v")
		listed, err3 := tx.Snapshots(block.ListQuery{Limit: 5, Project: "p", Filters: map[string]string{"volume_id": "v"}})
		if diff := gocmp.Diff(s, got); diff != "" {
			t.Error(diff)
		}
		if diff := gocmp.Diff([]block.Snapshot{other, s}, of); diff != "" {
			t.Error(diff)
		}
		if diff := gocmp.Diff([]block.Snapshot{s}, listed); diff != "" {
			t.Error(diff)
		}
		return cmp.Or(err, err2, err3)
	})
	for _, e := range []block.Event{block.Delete, block.Done} {
		commit(t, c, func(tx *Tx) error { _, err := tx.MoveSnapshot("s", e); return err })
	}
	err = c.Update(t.Context(), func(tx *Tx) error { _, err := tx.MoveSnapshot("s", block.Done); return err })
	wantError(t, err, block.NotFound, "Snapshot s could not be found.")
	err = c.Update(t.Context(), func(tx *Tx) error { _, err := tx.MoveSnapshot("o", block.Done); return err })
	wantError(t, err, block.Conflict, "a snapshot in status  does not allow done")
}

func TestTypes(t *testing.T) {
	c := memory(t)
	gold := block.VolumeType{
		ID: "g", Name: "gold", Description: pointer("d"), Public: true, Configured: true,
		ExtraSpecs: map[string]string{"volume_backend_name": "b"},
	}
	commit(t, c, func(tx *Tx) error {
		gold.CreatedAt = tx.Now
		return cmp.Or(tx.UpsertType(gold), tx.UpsertType(block.VolumeType{ID: "h", Name: "hidden"}))
	})
	wantTypes := func(public bool, want ...block.VolumeType) {
		t.Helper()
		look(t, c, func(tx *Tx) error {
			q := block.ListQuery{Limit: -1, Filters: map[string]string{"is_public": fmt.Sprint(public)}}
			got, err := tx.Types(q, !public)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			return err
		})
	}
	wantTypes(true, gold)
	commit(t, c, func(tx *Tx) error { return tx.UpsertType(gold) })
	wantTypes(true, gold) // nothing changed, so it was not updated
	commit(t, c, func(tx *Tx) error { gold.Description, gold.UpdatedAt = nil, tx.Now; return tx.UpsertType(gold) })
	wantTypes(true, gold)
	var hidden block.VolumeType
	look(t, c, func(tx *Tx) error {
		byID, err := tx.Type("h")
		byName, err2 := tx.TypeNamed("hidden")
		if diff := gocmp.Diff(byID, byName); diff != "" || byID.ID != "h" {
			t.Error(diff)
		}
		hidden = byID
		_, missing := tx.Type("x")
		wantError(t, missing, block.NotFound, "Volume type x could not be found.")
		_, missing = tx.TypeNamed("x")
		wantError(t, missing, block.NotFound, "Volume type with name x could not be found.")
		if all, err := tx.Types(block.ListQuery{Limit: -1}, false); len(all) != 1 || err != nil {
			t.Errorf("public types: %v %v", all, err)
		}
		return cmp.Or(err, err2)
	})
	wantTypes(false, hidden)
	err := c.Update(t.Context(), func(tx *Tx) error { return tx.UpsertType(block.VolumeType{ID: "x", Name: "gold"}) })
	wantError(t, err, block.Conflict, "Volume Type gold already exists.")
}

func TestAttachmentsAndConnections(t *testing.T) {
	c := memory(t)
	v := insertFull(t, c)
	conn := block.Connection{ID: "c", VolumeID: "v", Protocol: "nbd", Readonly: true,
		Connector: map[string]any{"ip": "::1", "odd": []any{1.5, nil}, "initiator": "iqn.Odd"}}
	commit(t, c, func(tx *Tx) error {
		conn.CreatedAt = tx.Now
		return cmp.Or(tx.InsertConnection(conn), tx.InsertAttachment(block.Attachment{ID: "0", VolumeID: "v"}))
	})
	look(t, c, func(tx *Tx) error {
		got, err := tx.Connection("c")
		of, err2 := tx.Connections("v")
		by, err4 := tx.ConnectionsOf("iqn.odd")
		if diff := gocmp.Diff([]block.Connection{conn, conn, conn}, append(append(of, by...), got)); diff != "" {
			t.Error(diff)
		}
		attachments, err3 := tx.Attachments("v")
		if len(attachments) != 2 || attachments[0].ID != "a" {
			t.Errorf("%+v", attachments)
		}
		return cmp.Or(err, err2, err3, err4)
	})
	commit(t, c, func(tx *Tx) error { return cmp.Or(tx.DeleteAttachment("0"), tx.DeleteConnection("c")) })
	wantVolume(t, c, v)
	look(t, c, func(tx *Tx) error {
		_, err := tx.Connection("c")
		wantError(t, err, block.NotFound, "Connection c could not be found.")
		return nil
	})
	commit(t, c, func(tx *Tx) error {
		sentence := "Volume attachment could not be found with filter: attachment_id = 0."
		wantError(t, tx.DeleteAttachment("0"), block.NotFound, sentence)
		wantError(t, tx.UpdateAttachment(block.Attachment{ID: "0"}), block.NotFound, sentence)
		wantError(t, tx.DeleteConnection("c"), block.NotFound, "Connection c could not be found.")
		wantError(t, tx.InsertAttachment(v.Attachments[0]), block.Conflict, "Volume attachment a exists already.")
		return nil
	})
	lost := block.Attachment{ID: "b", VolumeID: "x"}
	err := c.Update(t.Context(), func(tx *Tx) error { return tx.InsertAttachment(lost) })
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "foreign key") {
		t.Errorf("an attachment to nothing: %v", err)
	}
}
