package control_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver/drivertest"
)

// TestMessages lets every kind of job be given up, for a reason that no
// attempt can change: its project is told of each, once, with the request.
func TestMessages(t *testing.T) {
	z := newZone(t)
	z.ctx = block.WithRequestID(z.ctx, "req-1")
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	doomed := z.make(control.NewVolume{Size: ptr(int64(1))})
	small := z.make(control.NewVolume{Size: ptr(int64(1))})
	sn := z.snap(v.ID)
	img := z.images.add(control.Image{Name: "i", DiskFormat: "raw"}, []byte("img"))
	empty, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1))})
	must(t, err)
	made, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1)), ImageRef: &img})
	must(t, err)
	must(t, z.DeleteVolume(z.ctx, alice, doomed.ID, false))
	must(t, z.ExtendVolume(z.ctx, alice, small.ID, 2))
	must(t, z.DeleteSnapshot(z.ctx, alice, sn.ID))
	second, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID})
	must(t, err)
	_, err = z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "u"})
	must(t, err)
	cause := block.Errorf(block.Corrupt, "the secret address of a store")
	z.fast.SetRule(func(drivertest.Call) error { return cause })
	z.work(z.ctx)
	z.fast.SetRule(nil)
	got := map[string]string{}
	list, err := z.Messages(z.ctx, alice, block.ListQuery{Limit: -1})
	must(t, err)
	for _, m := range list {
		got[m.ResourceType+" "+m.ResourceID+" "+m.EventID] = m.Text
		if m.RequestID != "req-1" || m.Level != "ERROR" || !m.ExpiresAt.Equal(m.CreatedAt.Add(30*24*time.Hour)) {
			t.Errorf("%+v", m)
		}
	}
	want := map[string]string{
		"VOLUME " + string(empty.ID) + " VOLUME_VOLUME_008_012": "create volume from backend storage:" +
			"Driver failed to create the volume.",
		"VOLUME " + string(made.ID) + " VOLUME_VOLUME_005_001":   "copy image to volume:An unknown error occurred.",
		"VOLUME " + string(doomed.ID) + " VOLUME_VOLUME_901_901": "delete volume:Volume Driver failed to delete volume.",
		"VOLUME " + string(small.ID) + " VOLUME_VOLUME_007_010":  "extend volume:Volume Driver failed to extend volume.",
		"VOLUME " + string(v.ID) + " VOLUME_VOLUME_003_004": "copy volume to image:" +
			"Failed to upload volume to image at backend.",
		"VOLUME_SNAPSHOT " + string(second.ID) + " VOLUME_VOLUME_SNAPSHOT_009_013": "create snapshot:" +
			"Snapshot failed to create.",
		"VOLUME_SNAPSHOT " + string(sn.ID) + " VOLUME_VOLUME_SNAPSHOT_010_016": "delete snapshot:" +
			"Snapshot failed to delete.",
	}
	if len(list) != len(want) || !maps.Equal(got, want) {
		t.Errorf("%d messages: %v", len(list), got)
	}
	z.tenantsOfMessages(list[0].ID, len(list))
}

// tenantsOfMessages asks for alice's messages as others.
func (z *zone) tenantsOfMessages(id string, n int) {
	z.t.Helper()
	const missing = "Message 11111111-1111-1111-1111-111111111111 could not be found."
	for _, tt := range []struct {
		c    block.Caller
		sees int
	}{{alice, n}, {reader, n}, {operator, n}, {mallory, 0}} {
		list, err := z.Messages(z.ctx, tt.c, block.ListQuery{Limit: -1})
		must(z.t, err)
		_, err = z.Message(z.ctx, tt.c, id)
		if len(list) != tt.sees || tt.sees == 0 != block.Is(err, block.NotFound) {
			z.t.Errorf("%s lists %d and finds one: %v", tt.c.User, len(list), err)
		}
		_, err = z.Message(z.ctx, tt.c, "11111111-1111-1111-1111-111111111111")
		wantError(z.t, "none", err, block.NotFound, missing)
	}
	if err := z.DeleteMessage(z.ctx, mallory, id); !block.Is(err, block.NotFound) {
		z.t.Errorf("another project deletes it: %v", err)
	}
	wantError(z.t, "reader", z.DeleteMessage(z.ctx, reader, id), block.Forbidden,
		"Policy doesn't allow message:delete to be performed.")
	must(z.t, z.DeleteMessage(z.ctx, alice, id))
	if err := z.DeleteMessage(z.ctx, alice, id); !block.Is(err, block.NotFound) {
		z.t.Errorf("it is deleted twice: %v", err)
	}
}

// TestMessagesOfFullStores: where there is no room, it was for the scheduler
// to say so.
func TestMessagesOfFullStores(t *testing.T) {
	z := newZone(t)
	z.fast.SetRule(func(drivertest.Call) error { return block.Errorf(block.NoSpace, "full") })
	_, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1))})
	must(t, err)
	z.work(z.ctx)
	list, err := z.Messages(z.ctx, alice, block.ListQuery{Limit: -1})
	must(t, err)
	if len(list) != 1 || list[0].EventID != "VOLUME_VOLUME_001_003" {
		t.Errorf("%+v", list)
	}
}

// TestMessagesEnd: a message whose time is over is not there, and the next one
// takes its row along.
func TestMessagesEnd(t *testing.T) {
	z := newZone(t)
	add := func(id string, until time.Time) {
		z.update(func(tx *catalog.Tx) error {
			return tx.InsertMessage(block.Message{ID: id, Project: alice.Project, ExpiresAt: until})
		})
	}
	add("over", time.Now().Add(-time.Hour))
	if _, err := z.Message(z.ctx, alice, "over"); !block.Is(err, block.NotFound) {
		t.Errorf("a message whose time is over: %v", err)
	}
	add("kept", time.Now().Add(time.Hour))
	list, err := z.Messages(z.ctx, alice, block.ListQuery{Limit: -1})
	must(t, err)
	if !slices.EqualFunc(list, []string{"kept"}, func(m control.Message, id string) bool { return m.ID == id }) {
		t.Errorf("%+v", list)
	}
	z.update(func(tx *catalog.Tx) error {
		if err := tx.DeleteMessage("over"); !block.Is(err, block.NotFound) {
			t.Errorf("the row is there still: %v", err)
		}
		return nil
	})
}
