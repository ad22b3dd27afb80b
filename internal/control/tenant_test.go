package control_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// methods are all that a caller can ask of a volume, a snapshot and an
// attachment, by the name of the method and what it is asked of.
func methods(z *zone, c block.Caller, v block.VolumeID, sn block.SnapshotID,
	a block.AttachmentID) map[string]func() error {
	ctx := z.ctx
	none := func(_ any, err error) error { return err }
	one := ptr(int64(1))
	return map[string]func() error{
		"Volume":   func() error { return none(z.Volume(ctx, c, v)) },
		"Failover": func() error { return none(z.Failover(ctx, c, control.FailoverRequest{Volume: v})) },
		"Volumes": func() error {
			return none(z.Volumes(ctx, c, block.ListQuery{Limit: -1, Marker: string(v)}))
		},
		"CreateVolume source": func() error {
			return none(z.CreateVolume(ctx, c, control.NewVolume{Size: one, SourceVolumeID: &v}))
		},
		"CreateVolume": func() error {
			return none(z.CreateVolume(ctx, c, control.NewVolume{Size: one, SnapshotID: &sn}))
		},
		"UpdateVolume":         func() error { return none(z.UpdateVolume(ctx, c, v, control.VolumeChange{})) },
		"DeleteVolume":         func() error { return z.DeleteVolume(ctx, c, v, false) },
		"DeleteVolume cascade": func() error { return z.DeleteVolume(ctx, c, v, true) },
		"ForceDeleteVolume":    func() error { return z.ForceDeleteVolume(ctx, c, v) },
		"DeleteVolumeByForce":  func() error { return z.DeleteVolumeByForce(ctx, c, v, true) },
		"AddVolumeMetadata":    func() error { return none(z.AddVolumeMetadata(ctx, c, v, nil)) },
		"VolumeEncryption":     func() error { return none(z.VolumeEncryption(ctx, c, v)) },
		"VolumeMetadata":       func() error { return none(z.VolumeMetadata(ctx, c, v)) },
		"SnapshotMetadata":     func() error { return none(z.SnapshotMetadata(ctx, c, sn)) },
		"SetVolumeMetadata":    func() error { return none(z.SetVolumeMetadata(ctx, c, v, nil, true)) },
		"DeleteVolumeMetadata": func() error { return z.DeleteVolumeMetadata(ctx, c, v, "k") },
		"ExtendVolume":         func() error { return z.ExtendVolume(ctx, c, v, 2) },
		"Reserve":              func() error { return z.Reserve(ctx, c, v) },
		"Unreserve":            func() error { return z.Unreserve(ctx, c, v) },
		"BeginDetaching":       func() error { return z.BeginDetaching(ctx, c, v) },
		"RollDetaching":        func() error { return z.RollDetaching(ctx, c, v) },
		"Attach":               func() error { return z.Attach(ctx, c, v, control.AttachRequest{HostName: ptr("h")}) },
		"Detach":               func() error { return z.Detach(ctx, c, v, &a) },
		"InitializeConnection": func() error { return none(z.InitializeConnection(ctx, c, v, nil)) },
		"TerminateConnection":  func() error { return z.TerminateConnection(ctx, c, v, nil) },
		"ResetVolumeStatus": func() error {
			return z.ResetVolumeStatus(ctx, c, v, control.VolumeReset{Status: ptr("error")})
		},
		"SetBootable":        func() error { return z.SetBootable(ctx, c, v, true) },
		"SetReadonly":        func() error { return z.SetReadonly(ctx, c, v, true) },
		"SetImageMetadata":   func() error { return none(z.SetImageMetadata(ctx, c, v, map[string]string{"k": "v"})) },
		"ImageMetadata":      func() error { return none(z.ImageMetadata(ctx, c, v)) },
		"UnsetImageMetadata": func() error { return z.UnsetImageMetadata(ctx, c, v, "k") },
		"UploadImage": func() error {
			return none(z.UploadImage(ctx, c, v, control.UploadRequest{ImageName: "i", Force: true}))
		},
		"CreateTransfer": func() error {
			_, _, err := z.CreateTransfer(ctx, c, control.NewTransfer{VolumeID: v})
			return err
		},
		"CreateAttachment": func() error {
			return none(z.CreateAttachment(ctx, c, control.NewAttachment{VolumeID: v}))
		},
		"Attachment": func() error { return none(z.Attachment(ctx, c, a)) },
		"Attachments": func() error {
			return none(z.Attachments(ctx, c, block.ListQuery{Limit: -1, Marker: string(a)}))
		},
		"UpdateAttachment":   func() error { return none(z.UpdateAttachment(ctx, c, a, map[string]any{"host": "h"})) },
		"CompleteAttachment": func() error { return z.CompleteAttachment(ctx, c, a) },
		"DeleteAttachment":   func() error { return none(z.DeleteAttachment(ctx, c, a)) },
		"CreateSnapshot": func() error {
			return none(z.CreateSnapshot(ctx, c, control.NewSnapshot{VolumeID: v, Force: true}))
		},
		"Snapshot": func() error { return none(z.Snapshot(ctx, c, sn)) },
		"Snapshots": func() error {
			return none(z.Snapshots(ctx, c, block.ListQuery{Limit: -1, Marker: string(sn)}))
		},
		"UpdateSnapshot":         func() error { return none(z.UpdateSnapshot(ctx, c, sn, control.SnapshotChange{})) },
		"DeleteSnapshot":         func() error { return z.DeleteSnapshot(ctx, c, sn) },
		"ForceDeleteSnapshot":    func() error { return z.ForceDeleteSnapshot(ctx, c, sn) },
		"ResetSnapshotStatus":    func() error { return z.ResetSnapshotStatus(ctx, c, sn, "error") },
		"SetSnapshotMetadata":    func() error { return none(z.SetSnapshotMetadata(ctx, c, sn, nil, true)) },
		"DeleteSnapshotMetadata": func() error { return z.DeleteSnapshotMetadata(ctx, c, sn, "k") },
	}
}

// elsewhere are methods that name no tenant's thing, or that another test of
// this package or of the recovery's looks at.
func elsewhere(name string) bool {
	if slices.Contains(transferMethods, name) || strings.Contains(name, "GroupType") ||
		strings.Contains(name, "GroupSpec") || backupMethods(nil, alice, "")[name] != nil {
		return true
	}
	if slices.Contains(auditMethods, name) || slices.Contains(placeMethods, name) {
		return true
	}
	if slices.Contains(typeMethods, name) || slices.Contains(storeMethods, name) || slices.Contains(truthMethods, name) ||
		slices.Contains(keepMethods, name) || slices.Contains(limitMethods, name) {
		return true
	}
	return slices.Contains([]string{"Types", "Type", "Limits", "Quotas", "QuotaDefaults", "SetQuotas", "DeleteQuotas",
		"AvailabilityZones", "DROperation", "Replica", "Summary", "CountVolumes", "CountSnapshots",
		"Messages", "Message", "DeleteMessage", "Services", "SetService", "FreezeBackend", "FailOverBackend",
		"MayAdminister", "Pools", "Capabilities", "Hosts", "HostUses"}, name)
}

// TestOthersAreNotThere asks everything of another project's things: the answer
// is the one for things that do not exist, word for word but for the id, and
// nothing changes.
func TestOthersAreNotThere(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	sn := z.snap(v.ID)
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
	v = z.volume(v.ID)
	const nobody = "11111111-1111-1111-1111-111111111111"
	theirs := methods(z, mallory, v.ID, sn.ID, v.Attachments[0].ID)
	nothing := methods(z, mallory, nobody, nobody, nobody)
	maps.Copy(theirs, moveMethods(z, mallory, v.ID, sn.ID))
	maps.Copy(nothing, moveMethods(z, mallory, nobody, nobody))
	for name, ask := range theirs {
		got, want := ask(), nothing[name]()
		sentence, _ := block.UserMessage(got)
		missing, _ := block.UserMessage(want)
		sentence = strings.NewReplacer(string(v.ID), nobody, string(sn.ID), nobody,
			string(v.Attachments[0].ID), nobody).Replace(sentence)
		if !block.Is(got, block.NotFound) || !block.Is(want, block.NotFound) || sentence != missing {
			t.Errorf("%s: %v for another's, %v for nobody's", name, got, want)
		}
	}
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, nil))
	if got := z.volume(v.ID); !reflect.DeepEqual(got, v) {
		t.Errorf("the volume changed from %+v to %+v", v, got)
	}
	for _, q := range []block.ListQuery{{Limit: -1}, {Limit: -1, Project: alice.Project}} {
		volumes, err := z.Volumes(z.ctx, mallory, q)
		must(t, err)
		snapshots, err := z.Snapshots(z.ctx, mallory, q)
		must(t, err)
		if len(volumes)+len(snapshots) > 0 {
			t.Errorf("another project lists %v and %v", volumes, snapshots)
		}
	}
	for name, count := range listMethods(z, block.Caller{Roles: []string{"member"}}) {
		if n, err := count(block.ListQuery{Limit: -1}); n != 0 || err != nil {
			t.Errorf("%s of no project: %d, %v", name, n, err)
		}
		if n, err := listMethods(z, alice)[name](block.ListQuery{Limit: -1}); n == 0 || err != nil {
			t.Errorf("%s of the project: %d, %v", name, n, err)
		}
	}
	mine := z.volume(v.ID)
	other, err := z.CreateVolume(z.ctx, mallory, control.NewVolume{Size: ptr(int64(1))})
	must(t, err)
	z.work(z.ctx)
	must(t, z.Attach(z.ctx, mallory, other.ID, control.AttachRequest{HostName: ptr("h")}))
	if err := z.Detach(z.ctx, mallory, other.ID, &mine.Attachments[0].ID); !block.Is(err, block.Conflict) {
		t.Errorf("detaching with another's attachment: %v", err)
	}
	if _, err := z.Quotas(z.ctx, mallory, alice.Project); !block.Is(err, block.Forbidden) {
		t.Errorf("another's quotas: %v", err)
	}
}

// listMethods are those that say how much a caller sees of what the project of
// TestOthersAreNotThere has.
func listMethods(z *zone, c block.Caller) map[string]func(block.ListQuery) (int, error) {
	ctx := z.ctx
	return map[string]func(block.ListQuery) (int, error){
		"Volumes":        func(q block.ListQuery) (int, error) { l, err := z.Volumes(ctx, c, q); return len(l), err },
		"Snapshots":      func(q block.ListQuery) (int, error) { l, err := z.Snapshots(ctx, c, q); return len(l), err },
		"Attachments":    func(q block.ListQuery) (int, error) { l, err := z.Attachments(ctx, c, q); return len(l), err },
		"Summary":        func(q block.ListQuery) (int, error) { s, err := z.Summary(ctx, c, q); return int(s.Count), err },
		"CountVolumes":   func(q block.ListQuery) (int, error) { n, err := z.CountVolumes(ctx, c, q); return int(n), err },
		"CountSnapshots": func(q block.ListQuery) (int, error) { n, err := z.CountSnapshots(ctx, c, q); return int(n), err },
	}
}

// TestMethodsAreCovered keeps the table above complete.
func TestMethodsAreCovered(t *testing.T) {
	z := newZone(t)
	covered := map[string]bool{}
	for name := range methods(z, alice, "", "", "") {
		covered[strings.Fields(name)[0]] = true
	}
	for name := range operators(z, alice, "", "") {
		covered[strings.Fields(name)[0]] = true
	}
	for name := range moveMethods(z, alice, "", "") {
		covered[strings.Fields(name)[0]] = true
	}
	for name := range groupMethods(z, alice, "", "") {
		covered[strings.Fields(name)[0]] = true
	}
	for name := range operationMethods(z, alice, "") {
		covered[name] = true
	}
	for name := range planMethods(z, alice, "") {
		covered[name] = true
	}
	for name := range drillMethods(z, alice, "", "") {
		covered[name] = true
	}
	for _, name := range []string{"Operations", "Plans", "CreatePlan", "StartRecovery"} {
		covered[name] = true // TestOthersOperations, TestOthersPlans; recoveries are tested with whole zones
	}
	covered["CreateGroup"] = true // it names nothing of a tenant
	covered["FailoverOf"] = true  // TestOthersFailovers
	for m := range reflect.TypeOf(z.Service).Methods() {
		caller := m.Type.NumIn() > 3 && m.Type.In(2) == reflect.TypeFor[block.Caller]()
		if caller && !covered[m.Name] && !elsewhere(m.Name) {
			t.Errorf("method %s is in no table of tenants", m.Name)
		}
	}
}

// TestReaders: who only reads may look at its project's things and do nothing.
func TestReaders(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	sn := z.snap(v.ID)
	a, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID})
	must(t, err)
	looks := []string{"Volume", "Volumes", "ImageMetadata", "Snapshot", "Snapshots", "Attachment", "Attachments",
		"VolumeMetadata", "SnapshotMetadata", "VolumeEncryption"}
	all := methods(z, reader, v.ID, sn.ID, a.ID)
	maps.Copy(all, moveMethods(z, reader, v.ID, sn.ID))
	for name, ask := range all {
		err := ask()
		sentence, _ := block.UserMessage(err)
		if slices.Contains(looks, name) {
			must(t, err)
		} else if !block.Is(err, block.Forbidden) || !strings.HasPrefix(sentence, "Policy doesn't allow ") ||
			!strings.HasSuffix(sentence, " to be performed.") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = z.CreateVolume(z.ctx, reader, control.NewVolume{})
	wantError(t, "create", err, block.Forbidden, "Policy doesn't allow volume:create to be performed.")
}

// TestOperatorsOnly: what members may not do with their own things.
func TestOperatorsOnly(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	sn := z.snap(v.ID)
	for name, rule := range map[string]string{
		"ForceDeleteVolume":   "volume_extension:volume_admin_actions:force_delete",
		"DeleteVolumeByForce": "volume:force_delete",
		"ResetVolumeStatus":   "volume_extension:volume_admin_actions:reset_status",
		"ForceDeleteSnapshot": "volume_extension:snapshot_admin_actions:force_delete",
		"ResetSnapshotStatus": "volume_extension:snapshot_admin_actions:reset_status",
	} {
		wantError(t, name, methods(z, alice, v.ID, sn.ID, "")[name](), block.Forbidden,
			"Policy doesn't allow "+rule+" to be performed.")
	}
	wantError(t, "quotas", z.SetQuotas(z.ctx, alice, alice.Project, nil), block.Forbidden,
		"Policy doesn't allow volume_extension:quotas:update to be performed.")
	wantError(t, "quotas", z.DeleteQuotas(z.ctx, alice, alice.Project), block.Forbidden,
		"Policy doesn't allow volume_extension:quotas:delete to be performed.")
	_, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{Visibility: "public"})
	wantError(t, "public image", err, block.Forbidden,
		"Policy doesn't allow volume_extension:volume_actions:upload_public to be performed.")
	must(t, z.ResetVolumeStatus(z.ctx, operator, v.ID, control.VolumeReset{Status: ptr("error")}))
	must(t, z.ResetSnapshotStatus(z.ctx, operator, sn.ID, "error"))
	wantError(t, "bad status", z.ResetSnapshotStatus(z.ctx, operator, sn.ID, "zz"), block.Invalid,
		"Snapshot status: zz is invalid, valid statuses are: ('error', 'available', 'creating', 'deleting', 'deleted', "+
			"'updating', 'error_deleting', 'unmanaging', 'backing-up', 'restoring').")
	must(t, z.ForceDeleteSnapshot(z.ctx, operator, sn.ID))
	z.work(z.ctx)
	must(t, z.ForceDeleteVolume(z.ctx, operator, v.ID))
	z.work(z.ctx)
	z.wantStored()
}

// TestOthersFailovers: a planned failover is not there for another project.
func TestOthersFailovers(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.update(func(tx *catalog.Tx) error {
		return tx.PutFailover(block.Failover{ID: "f", Volume: v.ID, Project: alice.Project,
			Phase: block.FailoverDraining, Started: tx.Now})
	})
	_, err := z.FailoverOf(z.ctx, alice, "f")
	must(t, err)
	_, theirs := z.FailoverOf(z.ctx, mallory, "f")
	_, missing := z.FailoverOf(z.ctx, mallory, "g")
	got, _ := block.UserMessage(theirs)
	want, _ := block.UserMessage(missing)
	if !block.Is(theirs, block.NotFound) || strings.ReplaceAll(got, " f ", " g ") != want {
		t.Errorf("another's: %v; nobody's: %v", theirs, missing)
	}
	if list, err := z.Failovers(z.ctx, mallory); err != nil || len(list) > 0 {
		t.Errorf("mallory sees %v, %v", list, err)
	}
}
