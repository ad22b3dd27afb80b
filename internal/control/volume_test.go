package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

const cantDelete = "Invalid volume: Volume status must be available or error or error_restoring or error_extending " +
	"or error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, " +
	"or be disassociated from snapshots after volume transfer."

func TestCreateVolume(t *testing.T) {
	z := newZone(t)
	v, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(2)), Name: ptr("n"),
		Metadata: map[string]string{"a": "b"}, AvailabilityZone: ptr("kr-b")})
	must(t, err)
	if v.Status != block.VolumeCreating || v.TypeName != "fast" || v.Backend != "fast" || v.AvailabilityZone != "kr-b" ||
		v.Size != 2 || v.Epoch != 1 || v.Project != alice.Project || v.User != alice.User ||
		v.ReplicationStatus != "disabled" ||
		*v.Name != "n" || v.Description != nil || v.Bootable || v.Metadata["a"] != "b" {
		t.Errorf("created %+v", v)
	}
	z.work(z.ctx)
	if v = z.volume(v.ID); v.Status != block.VolumeAvailable {
		t.Errorf("then %s", v.Status)
	}
	if got := z.content(v, 3); got != "\x00\x00\x00" {
		t.Errorf("it reads %q", got)
	}
	if changes := z.changes(); !slices.Contains(changes, v.ID) {
		t.Errorf("told of %v", changes)
	}
}

func TestCreateVolumeRules(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(2))})
	sn := z.snap(v.ID)
	broken, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID})
	must(t, err)
	z.work(z.ctx)
	z.update(func(tx *catalog.Tx) error { return tx.ResetSnapshotStatus(broken.ID, block.SnapshotError) })
	small := z.images.add(control.Image{Name: "small", DiskFormat: "raw", MinDisk: 3}, nil)
	large := z.images.add(control.Image{Name: "large", DiskFormat: "raw", Size: 5*block.GiB - 1}, nil)
	virtual := z.images.add(control.Image{DiskFormat: "qcow2", VirtualSize: 2*block.GiB + 1}, nil)
	const nobody = "11111111-1111-1111-1111-111111111111"
	one := ptr(int64(1))
	for name, c := range map[string]struct {
		req  control.NewVolume
		kind block.Kind
		want string
	}{
		"no size": {control.NewVolume{}, block.Invalid,
			"The server could not comply with the request since it is either malformed or otherwise incorrect."},
		"size 0": {control.NewVolume{Size: ptr(int64(0))}, block.Invalid,
			"Invalid input received: Volume size '0' must be an integer and greater than 0"},
		"unknown type": {control.NewVolume{Size: one, VolumeType: ptr("nope")}, block.NotFound,
			"Volume type with name nope could not be found."},
		"unknown type id": {control.NewVolume{Size: one, VolumeType: ptr(nobody)}, block.NotFound,
			"Volume type " + nobody + " could not be found."},
		"private type": {control.NewVolume{Size: one, VolumeType: ptr("secret")}, block.NotFound,
			"Volume type with name secret could not be found."},
		"type too small": {control.NewVolume{Size: one, VolumeType: ptr("sized")}, block.Invalid,
			"Invalid input received: Specified volume size of '1' is less than the minimum required size of '2' " +
				"for volume type 'sized'."},
		"type too large": {control.NewVolume{Size: ptr(int64(4)), VolumeType: ptr("sized")}, block.Invalid,
			"Invalid input received: Specified volume size of '4' is greater than the maximum allowable size of '3' " +
				"for volume type 'sized'."},
		"unknown zone": {control.NewVolume{Size: one, AvailabilityZone: ptr("nowhere")}, block.Invalid,
			"Availability zone 'nowhere' is invalid."},
		"group": {control.NewVolume{Size: one, GroupID: ptr(block.GroupID(nobody))}, block.NotFound,
			"Group " + nobody + " could not be found."},
		"unknown snapshot": {control.NewVolume{Size: one, SnapshotID: ptr(block.SnapshotID(nobody))}, block.NotFound,
			"Snapshot " + nobody + " could not be found."},
		"broken snapshot": {control.NewVolume{SnapshotID: &broken.ID}, block.Invalid,
			"Invalid snapshot: Originating snapshot status must be one of 'available' values"},
		"smaller than snapshot": {control.NewVolume{Size: one, SnapshotID: &sn.ID}, block.Invalid,
			"Invalid input received: Volume size '1'GB cannot be smaller than the snapshot size 2GB. " +
				"They must be >= original snapshot size."},
		"unknown source": {control.NewVolume{SourceVolumeID: ptr(block.VolumeID(nobody))}, block.NotFound,
			"Volume " + nobody + " could not be found."},
		"smaller than source": {control.NewVolume{Size: one, SourceVolumeID: &v.ID}, block.Invalid,
			"Invalid input received: Volume size '1'GB cannot be smaller than original volume size  2GB. " +
				"They must be >= original volume size."},
		"two sources": {control.NewVolume{SnapshotID: &sn.ID, SourceVolumeID: &v.ID}, block.Invalid,
			"Invalid input received: May specify only one of backup, imageRef, snapshot, source volume"},
		"unknown image": {control.NewVolume{Size: one, ImageRef: ptr(nobody)}, block.Invalid,
			"Invalid image identifier or unable to access requested image."},
		"empty image": {control.NewVolume{Size: one, ImageRef: ptr("")}, block.Invalid,
			"Invalid image identifier or unable to access requested image."},
		"image's min disk": {control.NewVolume{Size: one, ImageRef: &small}, block.Invalid,
			"Invalid input received: Volume size 1GB cannot be smaller than the image minDisk size 3GB."},
		"image too large": {control.NewVolume{Size: one, ImageRef: ptr("http://glance/v2/images/" + large)}, block.Invalid,
			"Invalid input received: Size of specified image 5GB is larger than volume size 1GB."},
		"image virtually too large": {control.NewVolume{Size: one, ImageRef: &virtual}, block.Invalid,
			"Invalid input received: Image virtual size is 3GB and doesn't fit in a volume of size 1GB."},
		"metadata key": {control.NewVolume{Size: one, Metadata: map[string]string{"é": ""}}, block.Invalid,
			"Invalid input received: Metadata key 'é' must be 1 to 255 of the characters a-z, A-Z, 0-9, '-_:. /'."},
		"metadata value": {control.NewVolume{Size: one, Metadata: map[string]string{"k": strings.Repeat("é", 256)}},
			block.Invalid, "Invalid input received: Metadata property value of key 'k' has 256 characters, more than 255."},
	} {
		_, err := z.CreateVolume(z.ctx, alice, c.req)
		wantError(t, name, err, c.kind, c.want)
	}
	many := map[string]string{}
	for i := range 129 {
		many[fmt.Sprint(i)] = ""
	}
	_, err = z.CreateVolume(z.ctx, alice, control.NewVolume{Size: one, Metadata: many})
	wantError(t, "129 items", err, block.Invalid, "Invalid input received: Metadata has 129 items, more than 128.")
	_, err = z.CreateVolume(z.ctx, operator, control.NewVolume{Size: one, VolumeType: ptr("secret")})
	wantError(t, "an administrator's private type", err, 0, "")
	z.work(z.ctx)
}

// actions are all that can be asked of a volume by its owner in one word.
func actions(z *zone, id block.VolumeID) map[string]func() error {
	upload := func(force bool) func() error {
		return func() error {
			_, err := z.UploadImage(z.ctx, alice, id, control.UploadRequest{ImageName: "i", Force: force})
			return err
		}
	}
	snapshot := func(force bool) func() error {
		return func() error {
			_, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: id, Force: force})
			return err
		}
	}
	return map[string]func() error{
		"delete":         func() error { return z.DeleteVolume(z.ctx, alice, id, false) },
		"extend":         func() error { return z.ExtendVolume(z.ctx, alice, id, 2) },
		"reserve":        func() error { return z.Reserve(z.ctx, alice, id) },
		"unreserve":      func() error { return z.Unreserve(z.ctx, alice, id) },
		"begin":          func() error { return z.BeginDetaching(z.ctx, alice, id) },
		"roll":           func() error { return z.RollDetaching(z.ctx, alice, id) },
		"detach":         func() error { return z.Detach(z.ctx, alice, id, nil) },
		"snapshot":       snapshot(false),
		"snapshot force": snapshot(true),
		"upload":         upload(false),
		"upload force":   upload(true),
		"readonly":       func() error { return z.SetReadonly(z.ctx, alice, id, true) },
		"attach": func() error {
			return z.Attach(z.ctx, alice, id, control.AttachRequest{HostName: ptr("h"), Device: "/dev/vdb"})
		},
		"initialize": func() error {
			_, err := z.InitializeConnection(z.ctx, alice, id, map[string]any{"host": "h"})
			return err
		},
		"clone": func() error {
			_, err := z.CreateVolume(z.ctx, alice, control.NewVolume{SourceVolumeID: &id})
			return err
		},
		"metadata": func() error {
			_, err := z.SetVolumeMetadata(z.ctx, alice, id, map[string]string{"k": "v"}, false)
			return err
		},
		"update": func() error {
			_, err := z.UpdateVolume(z.ctx, alice, id, control.VolumeChange{Name: control.Text{Set: true}})
			return err
		},
	}
}

// TestActionsByStatus is the table of api-reference 3.4: which action each
// status allows, and where it leads. What is not listed is refused as Invalid
// and changes nothing.
func TestActionsByStatus(t *testing.T) {
	const same = ""
	always := map[string]block.VolumeStatus{"unreserve": same, "roll": same, "metadata": same, "update": same,
		"initialize": same}
	allowed := map[block.VolumeStatus]map[string]block.VolumeStatus{
		block.VolumeAvailable: {"delete": block.VolumeDeleting, "extend": block.VolumeExtending,
			"reserve": block.VolumeAttaching, "detach": same, "snapshot": same, "snapshot force": same,
			"upload": block.VolumeUploading, "upload force": block.VolumeUploading, "readonly": same,
			"attach": block.VolumeInUse, "clone": same},
		block.VolumeInUse: {"extend": block.VolumeExtending, "detach": block.VolumeAvailable, "snapshot force": same,
			"upload force": block.VolumeUploading, "clone": same, "begin": block.VolumeDetaching, "attach": same},
		block.VolumeAttaching: {"unreserve": block.VolumeAvailable, "attach": block.VolumeInUse,
			"detach": block.VolumeAvailable},
		block.VolumeDetaching:      {"roll": block.VolumeInUse, "detach": block.VolumeAvailable, "attach": same},
		block.VolumeReserved:       {"reserve": "no", "attach": block.VolumeInUse, "detach": block.VolumeAvailable},
		block.VolumeError:          {"delete": block.VolumeDeleting, "detach": same},
		block.VolumeErrorExtending: {"delete": block.VolumeDeleting, "detach": same},
		block.VolumeErrorRestoring: {"delete": block.VolumeDeleting},
		block.VolumeErrorDeleting:  {"detach": same, "initialize": "no"},
		block.VolumeErrorBackingUp: {},
		block.VolumeMaintenance:    {"initialize": "no", "metadata": "no", "update": "no", "detach": "no"},
		block.VolumeCreating:       {"initialize": "no", "detach": same},
		block.VolumeDownloading:    {"initialize": "no", "detach": same},
		block.VolumeDeleting:       {"initialize": "no", "detach": same},
		block.VolumeRestoring:      {"initialize": "no", "detach": same},
		block.VolumeReverting:      {"initialize": "no", "detach": same},
		block.VolumeUploading:      {"metadata": "no", "detach": same},
		block.VolumeExtending:      {"detach": same},
		block.VolumeRetyping:       {"detach": same},
		block.VolumeBackingUp:      {"detach": same},
		block.VolumeTransfer:       {},
	}
	z := newZone(t)
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"volumes": -1, "gigabytes": -1, "snapshots": -1}))
	for status, special := range allowed {
		for name := range actions(z, "") {
			want, ok := always[name]
			if s, is := special[name]; is {
				want, ok = s, true
			}
			ok = ok && want != "no"
			v, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1))})
			must(t, err)
			if status == block.VolumeInUse || status == block.VolumeDetaching {
				z.reset(v.ID, block.VolumeAvailable)
				must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h"), Device: "/dev/vdb"}))
			}
			z.reset(v.ID, status)
			if want == same || !ok {
				want = status
			}
			err = actions(z, v.ID)[name]()
			if ok != (err == nil) || err != nil && !block.Is(err, block.Invalid) {
				t.Errorf("%s in %s: %v", name, status, err)
			}
			if got := z.volume(v.ID).Status; got != want {
				t.Errorf("%s in %s leads to %s, not %s", name, status, got, want)
			}
		}
	}
	for status := range allowed {
		if !status.Valid() {
			t.Errorf("%s is no status", status)
		}
	}
	if len(allowed) != 21+0 {
		t.Errorf("%d statuses are covered", len(allowed))
	}
}

// TestSentences compares refusals with what Cinder says.
func TestSentences(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(2))})
	id := string(v.ID)
	do := actions(z, v.ID)
	wantError(t, "extend to the same", do["extend"](), block.Invalid,
		"Invalid input received: New size for extend must be greater than current size. (current: 2, extended: 2).")
	wantError(t, "begin detaching", do["begin"](), block.Invalid, "Invalid volume: Unable to detach volume. "+
		"Volume status must be 'in-use' and attach_status must be 'attached' to detach.")
	must(t, do["reserve"]())
	wantError(t, "reserve", do["reserve"](), block.Invalid,
		"Invalid volume: Volume status must be available to reserve, but the status is attaching.")
	wantError(t, "extend", do["extend"](), block.Invalid,
		"Invalid volume: Volume "+id+" status must be '{'status': 'available'}' to extend, currently attaching.")
	must(t, do["attach"]())
	wantError(t, "delete", do["delete"](), block.Invalid, cantDelete)
	wantError(t, "snapshot", do["snapshot"](), block.Invalid,
		"Invalid volume: Volume "+id+" status must be available, but current status is: in-use.")
	wantError(t, "upload", do["upload"](), block.Invalid, "Invalid volume: Volume "+id+" status must be available")
	wantError(t, "read-only", do["readonly"](), block.Invalid, "Invalid volume: Volume "+id+
		" status must be available to update readonly flag, but current status is: in-use.")
	const nobody = "33333333-3333-3333-3333-333333333333"
	wantError(t, "detach what", z.Detach(z.ctx, alice, v.ID, ptr(block.AttachmentID(nobody))), block.Conflict,
		"ConflictNovaUsingAttachment: Detach volume from instance  using the Compute API")
	wantError(t, "detach what", z.Detach(z.ctx, compute, v.ID, ptr(block.AttachmentID(nobody))), block.NotFound,
		"Volume attachment could not be found with filter: attachment_id = "+nobody+".")
	must(t, do["detach"]())
	must(t, do["snapshot"]())
	wantError(t, "delete with snapshots", do["delete"](), block.Invalid, cantDelete)
	wantError(t, "no metadata", z.DeleteVolumeMetadata(z.ctx, alice, v.ID, "zz"), block.NotFound,
		"Volume "+id+" has no metadata with key zz.")
	wantError(t, "no image metadata", z.UnsetImageMetadata(z.ctx, alice, v.ID, "zz"), block.NotFound,
		"Glance metadata for volume/snapshot "+id+" cannot be found.")
	wantError(t, "reset to nothing", z.ResetVolumeStatus(z.ctx, operator, v.ID, control.VolumeReset{}), block.Invalid,
		"Must specify 'status', 'attach_status' or 'migration_status' for update.")
	err := z.ResetVolumeStatus(z.ctx, operator, v.ID, control.VolumeReset{Status: ptr("nope")})
	if m, _ := block.UserMessage(err); !strings.HasPrefix(m, "Volume status: nope is invalid, valid statuses are: "+
		"('creating', 'available', ") {
		t.Errorf("reset to nonsense: %v", err)
	}
	_, err = z.Volume(z.ctx, alice, nobody)
	wantError(t, "no volume", err, block.NotFound, "Volume "+nobody+" could not be found.")
	z.work(z.ctx)
}

func TestMetadata(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), Metadata: map[string]string{"a": "1", "b": "2"}})
	check := func(what string, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, z.volume(v.ID).Metadata); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	after, err := z.SetVolumeMetadata(z.ctx, alice, v.ID, map[string]string{"b": "3", "c": "4"}, false)
	must(t, err)
	check("added", after)
	check("added", map[string]string{"a": "1", "b": "3", "c": "4"})
	_, err = z.SetVolumeMetadata(z.ctx, alice, v.ID, map[string]string{"d": "5"}, true)
	must(t, err)
	check("replaced", map[string]string{"d": "5"})
	must(t, z.DeleteVolumeMetadata(z.ctx, alice, v.ID, "d"))
	check("deleted", map[string]string{})
	_, err = z.UpdateVolume(z.ctx, alice, v.ID, control.VolumeChange{Name: control.Text{Set: true, Value: ptr("x")},
		Metadata: &map[string]string{"e": "6"}})
	must(t, err)
	check("updated", map[string]string{"e": "6"})
	got, err := z.UpdateVolume(z.ctx, alice, v.ID, control.VolumeChange{Name: control.Text{Set: true}})
	must(t, err)
	if got.Name != nil || got.Metadata["e"] != "6" {
		t.Errorf("a change of the name alone left %+v", got)
	}
}
