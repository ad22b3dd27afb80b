package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// groupType makes a type of groups and returns its name.
func (z *zone) groupType(specs map[string]string) string {
	z.t.Helper()
	t, err := z.CreateGroupType(z.ctx, operator, block.GroupType{Name: "t" + block.NewID(), Public: true, Specs: specs})
	must(z.t, err)
	return t.Name
}

// group makes a group of volumes of 1 GiB, each with a text at its beginning.
func (z *zone) group(texts ...string) (block.Group, []block.Volume) {
	z.t.Helper()
	g, err := z.CreateGroup(z.ctx, alice, control.NewGroup{Name: ptr("g"), Type: z.groupType(nil),
		VolumeTypes: []string{"fast", "twin"}})
	must(z.t, err)
	var volumes []block.Volume
	for i, text := range texts {
		v := z.make(control.NewVolume{Size: ptr(int64(1)), GroupID: &g.ID,
			VolumeType: ptr([]string{"fast", "twin"}[i%2])})
		z.write(v, []byte(text), 0)
		volumes = append(volumes, v)
	}
	return g, volumes
}

// instant takes a group snapshot and waits for it.
func (z *zone) instant(g block.Group) (block.GroupSnapshot, []block.Snapshot) {
	z.t.Helper()
	gs, err := z.CreateGroupSnapshot(z.ctx, alice, control.NewGroupSnapshot{Group: g.ID})
	must(z.t, err)
	z.work(z.ctx)
	return gs, z.snapshotsOf(gs.ID)
}

func (z *zone) snapshotsOf(id block.GroupSnapshotID) (list []block.Snapshot) {
	z.t.Helper()
	must(z.t, z.catalog.View(z.ctx, func(tx *catalog.Tx) (err error) {
		list, err = tx.SnapshotsOfGroup(id)
		return err
	}))
	return list
}

func (z *zone) members(id block.GroupID) (list []block.Volume) {
	z.t.Helper()
	must(z.t, z.catalog.View(z.ctx, func(tx *catalog.Tx) (err error) {
		list, err = tx.VolumesOfGroup(id)
		return err
	}))
	return list
}

func (z *zone) wantGroup(id block.GroupID, failed bool) {
	z.t.Helper()
	g, err := z.Group(z.ctx, alice, id, false, false)
	must(z.t, err)
	if want := map[bool]block.GroupStatus{false: "available", true: "error"}[failed]; g.Status != want {
		z.t.Errorf("the group is %s, want %s", g.Status, want)
	}
}

func ids(volumes []block.Volume) (list []string) {
	for _, v := range volumes {
		list = append(list, string(v.ID))
	}
	return list
}

// madeGroup checks a group that was made of another one's volumes.
func (z *zone) madeGroup(id block.GroupID, failed bool, stored []string, texts ...string) {
	z.t.Helper()
	z.wantGroup(id, failed)
	members := z.members(id)
	var got []string
	for _, v := range members {
		z.wantStatus(v.ID, failed, block.VolumeAvailable, block.VolumeError)
		if !failed {
			got = append(got, z.content(v, len(texts[0])))
		}
	}
	slices.Sort(got)
	if !failed && !slices.Equal(got, texts) {
		z.t.Errorf("the new volumes read %q, want %q", got, texts)
	}
	if !failed {
		z.wantStored(append(stored, ids(members)...)...)
	}
}

// The scenarios of groups.

func groupFromGroup(z *zone) func(bool) {
	g, volumes := z.group("aa", "bb")
	made, err := z.CreateGroupFrom(z.ctx, alice, control.GroupSource{Group: &g.ID})
	must(z.t, err)
	return func(failed bool) { z.madeGroup(made.ID, failed, ids(volumes), "aa", "bb") }
}

func groupFromSnapshot(z *zone) func(bool) {
	g, volumes := z.group("aa", "bb")
	gs, snapshots := z.instant(g)
	stored := ids(volumes)
	for i, v := range volumes {
		z.write(v, []byte("zz"), 0)
		stored = append(stored, string(v.ID)+"/"+string(snapshots[slices.IndexFunc(snapshots,
			func(sn block.Snapshot) bool { return sn.VolumeID == volumes[i].ID })].ID))
	}
	made, err := z.CreateGroupFrom(z.ctx, alice, control.GroupSource{Snapshot: &gs.ID})
	must(z.t, err)
	return func(failed bool) { z.madeGroup(made.ID, failed, stored, "aa", "bb") }
}

func groupSnapshotMade(z *zone) func(bool) {
	g, volumes := z.group("aa", "bb", "cc")
	gs, err := z.CreateGroupSnapshot(z.ctx, alice, control.NewGroupSnapshot{Group: g.ID})
	must(z.t, err)
	return func(failed bool) {
		got, err := z.GroupSnapshot(z.ctx, alice, gs.ID, false)
		must(z.t, err)
		if want := map[bool]block.GroupStatus{false: "available", true: "error"}[failed]; got.Status != want {
			z.t.Errorf("the group snapshot is %s", got.Status)
		}
		stored := ids(volumes)
		for _, sn := range z.snapshotsOf(gs.ID) {
			if want := map[bool]block.SnapshotStatus{false: "available", true: "error"}[failed]; sn.Status != want {
				z.t.Errorf("a snapshot of it is %s", sn.Status)
			}
			stored = append(stored, string(sn.VolumeID)+"/"+string(sn.ID))
		}
		if !failed {
			z.wantStored(stored...)
		}
	}
}

func groupSnapshotDeleted(z *zone) func(bool) {
	g, volumes := z.group("aa", "bb")
	gs, _ := z.instant(g)
	must(z.t, z.DeleteGroupSnapshot(z.ctx, alice, gs.ID, false))
	return func(failed bool) {
		got, err := z.GroupSnapshot(z.ctx, alice, gs.ID, false)
		if failed && got.Status != block.GroupError || !failed && !block.Is(err, block.NotFound) {
			z.t.Errorf("the group snapshot is %s, %v", got.Status, err)
		}
		for _, sn := range z.snapshotsOf(gs.ID) {
			if sn.Status != block.SnapshotErrorDeleting {
				z.t.Errorf("a snapshot of it is %s", sn.Status)
			}
		}
		if !failed {
			z.wantStored(ids(volumes)...)
			return
		}
		z.leaveAlone()
		must(z.t, z.DeleteGroupSnapshot(z.ctx, alice, gs.ID, false)) // it can be tried again
		z.work(z.ctx)
		z.wantStored(ids(volumes)...)
	}
}

func groupDeleted(z *zone) func(bool) {
	g, _ := z.group("aa", "bb")
	must(z.t, z.DeleteGroup(z.ctx, alice, g.ID, true, false))
	return func(failed bool) {
		if failed {
			z.wantGroup(g.ID, true)
			for _, v := range z.members(g.ID) {
				z.wantStatus(v.ID, true, "", block.VolumeErrorDeleting)
			}
			return
		}
		if _, err := z.Group(z.ctx, alice, g.ID, false, false); !block.Is(err, block.NotFound) {
			z.t.Errorf("after its deletion: %v", err)
		}
		z.wantStored()
		if got := z.usage(alice); got != "0 0 0" {
			z.t.Errorf("the quota holds %s", got)
		}
	}
}

// groupMethods are what is asked of a group or a group snapshot, for the tenants
// that TestGroupTenants keeps apart.
func groupMethods(z *zone, c block.Caller, g block.GroupID, gs block.GroupSnapshotID) map[string]func() error {
	ctx := z.ctx
	none := func(_ any, err error) error { return err }
	return map[string]func() error{
		"Group": func() error { return none(z.Group(ctx, c, g, true, false)) },
		"Groups": func() error {
			return none(z.Groups(ctx, c, block.ListQuery{Limit: -1, Marker: string(g)}, false, false))
		},
		"UpdateGroup": func() error { return z.UpdateGroup(ctx, c, g, control.GroupChange{Name: ptr("x")}, false) },
		"DeleteGroup": func() error { return z.DeleteGroup(ctx, c, g, true, false) },
		"CreateGroupFrom": func() error {
			return none(z.CreateGroupFrom(ctx, c, control.GroupSource{Group: &g}))
		},
		"CreateGroupFrom snapshot": func() error {
			return none(z.CreateGroupFrom(ctx, c, control.GroupSource{Snapshot: &gs}))
		},
		"CreateGroupSnapshot": func() error {
			return none(z.CreateGroupSnapshot(ctx, c, control.NewGroupSnapshot{Group: g}))
		},
		"GroupSnapshot": func() error { return none(z.GroupSnapshot(ctx, c, gs, false)) },
		"GroupSnapshots": func() error {
			return none(z.GroupSnapshots(ctx, c, block.ListQuery{Limit: -1, Marker: string(gs)}, false))
		},
		"DeleteGroupSnapshot":      func() error { return z.DeleteGroupSnapshot(ctx, c, gs, false) },
		"ResetGroupStatus":         func() error { return z.ResetGroupStatus(ctx, c, g, "error") },
		"ResetGroupSnapshotStatus": func() error { return z.ResetGroupSnapshotStatus(ctx, c, gs, "error") },
		"EnableGroupReplication":   func() error { return z.EnableGroupReplication(ctx, c, g) },
		"DisableGroupReplication":  func() error { return z.DisableGroupReplication(ctx, c, g) },
		"FailoverGroup":            func() error { return z.FailoverGroup(ctx, c, g, "", false) },
		"GroupReplicationTargets":  func() error { return none(z.GroupReplicationTargets(ctx, c, g)) },
		"CreateVolume": func() error {
			return none(z.CreateVolume(ctx, c, control.NewVolume{Size: ptr(int64(1)), GroupID: &g, VolumeType: ptr("fast")}))
		},
	}
}

// TestGroupTenants: another project's groups are not there, readers look only,
// and a status is an administrator's to set.
func TestGroupTenants(t *testing.T) {
	z := newZone(t)
	g, _ := z.group("aa")
	gs, _ := z.instant(g)
	const nobody = "11111111-1111-1111-1111-111111111111"
	nothing := groupMethods(z, mallory, nobody, nobody)
	for name, ask := range groupMethods(z, mallory, g.ID, gs.ID) {
		got, _ := block.UserMessage(ask())
		want, _ := block.UserMessage(nothing[name]())
		got = strings.NewReplacer(string(g.ID), nobody, string(gs.ID), nobody).Replace(got)
		if got != want || !strings.HasSuffix(want, "could not be found.") {
			t.Errorf("%s: %q for another's, %q for nobody's", name, got, want)
		}
	}
	for name, ask := range groupMethods(z, reader, g.ID, gs.ID) {
		if err := ask(); slices.Contains([]string{"Group", "Groups", "GroupSnapshot", "GroupSnapshots"}, name) {
			must(t, err)
		} else if !block.Is(err, block.Forbidden) {
			t.Errorf("a reader's %s: %v", name, err)
		}
	}
	mine := groupMethods(z, alice, g.ID, gs.ID)
	for _, name := range []string{"ResetGroupStatus", "ResetGroupSnapshotStatus"} {
		if err := mine[name](); !block.Is(err, block.Forbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, q := range []block.ListQuery{{Limit: -1}, {Limit: -1, Project: alice.Project}} {
		groups, err := z.Groups(z.ctx, mallory, q, false, true)
		must(t, err)
		snapshots, err := z.GroupSnapshots(z.ctx, mallory, q, true)
		must(t, err)
		if len(groups)+len(snapshots) > 0 {
			t.Errorf("another project lists %v and %v", groups, snapshots)
		}
	}
	_, err := z.CreateGroupType(z.ctx, alice, block.GroupType{Name: "x"})
	wantError(t, "type", err, block.Forbidden, "Policy doesn't allow group:group_types:create to be performed.")
}

// TestGroupKeepsItsVolumes: what belongs to a group is not deleted, offered or
// taken by another.
func TestGroupKeepsItsVolumes(t *testing.T) {
	z := newZone(t)
	g, volumes := z.group("aa", "bb")
	v := volumes[0]
	wantError(t, "volume", z.DeleteVolume(z.ctx, alice, v.ID, false), block.Invalid, cantDelete)
	wantError(t, "by force", z.ForceDeleteVolume(z.ctx, operator, v.ID), block.Invalid, cantDelete)
	wantError(t, "offer", errOf(z.CreateTransfer(z.ctx, alice, control.NewTransfer{VolumeID: v.ID})), block.Invalid,
		fmt.Sprintf("Invalid volume: Volume %s must not be part of a consistency group.", v.ID))
	wantError(
		t,
		"group",
		z.DeleteGroup(z.ctx, alice, g.ID, false, false),
		block.Invalid,
		fmt.Sprintf(
			"Invalid Group: Group %s still contains volumes. The delete-volumes flag is required to delete it.",
			g.ID,
		),
	)

	gs, snapshots := z.instant(g)
	const part = "Invalid snapshot: Snapshot status must be available or error and must not be part of a group."
	wantError(t, "snapshot", z.DeleteSnapshot(z.ctx, alice, snapshots[0].ID), block.Invalid, part)
	wantError(t, "by force", z.ForceDeleteSnapshot(z.ctx, operator, snapshots[0].ID), block.Invalid, part)
	wantError(t, "group with snapshots", z.DeleteGroup(z.ctx, alice, g.ID, true, false), block.Invalid,
		"Invalid Group: Group has existing snapshots.")
	mine := snapshots[slices.IndexFunc(snapshots, func(sn block.Snapshot) bool { return sn.VolumeID == v.ID })]
	must(t, z.UpdateGroup(z.ctx, alice, g.ID, control.GroupChange{Remove: []string{string(v.ID)}}, false))
	wantError(t, "cascade", z.DeleteVolume(z.ctx, alice, v.ID, true), block.Invalid, cantDelete)
	wantError(t, "offer", errOf(z.CreateTransfer(z.ctx, alice, control.NewTransfer{VolumeID: v.ID})), block.Invalid,
		fmt.Sprintf("Invalid snapshot: snapshot: %s must not be part of a group snapshot", mine.ID))

	must(t, z.DeleteGroupSnapshot(z.ctx, alice, gs.ID, false))
	z.work(z.ctx)
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	must(t, z.Attach(z.ctx, alice, volumes[1].ID, control.AttachRequest{HostName: ptr("h")}))
	wantError(t, "attached", z.DeleteGroup(z.ctx, alice, g.ID, true, false), block.Invalid,
		fmt.Sprintf("Invalid Group: Volume in group %s is attached. Need to detach first.", g.ID))
	must(t, z.Detach(z.ctx, alice, volumes[1].ID, nil))
	must(t, z.DeleteGroup(z.ctx, alice, g.ID, true, false))
	z.work(z.ctx)
	z.wantStored()
}

func TestGroupUpdate(t *testing.T) {
	z := newZone(t)
	g, _ := z.group()
	other, taken := z.group("aa")
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	slow := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("slow")})
	const nobody = "11111111-1111-1111-1111-111111111111"
	for name, test := range map[string]struct {
		change control.GroupChange
		want   string
	}{
		"nothing": {control.GroupChange{Name: ptr("g")}, "Invalid Group: Cannot update group %g because no valid name, " +
			"description, add_volumes, or remove_volumes were provided."},
		"both": {control.GroupChange{Add: []string{"a"}, Remove: []string{"a"}},
			"Invalid volume: UUIDs ['a'] are in both add and remove volume list."},
		"nobody's": {control.GroupChange{Add: []string{nobody}}, "Invalid volume: Cannot add volume " + nobody +
			" to group %g because volume cannot be found."},
		"another group's": {control.GroupChange{Add: ids(taken)}, "Invalid volume: Cannot add volume " +
			string(taken[0].ID) + " to group %g because it is already in group " + string(other.ID) + "."},
		"another type": {control.GroupChange{Add: []string{string(slow.ID)}}, "Invalid volume: Cannot add volume " +
			string(slow.ID) + " to group %g because volume type " + string(slow.TypeID) + " is not supported by the group."},
		"no member": {control.GroupChange{Remove: ids(taken)}, "Invalid volume: Cannot remove volume " +
			string(taken[0].ID) + " from group %g because it is not in the group."},
	} {
		wantError(t, name, z.UpdateGroup(z.ctx, alice, g.ID, test.change, false), block.Invalid,
			strings.ReplaceAll(test.want, "%g", string(g.ID)))
	}
	add := control.GroupChange{Name: ptr("new"), Add: []string{string(v.ID)}}
	must(t, z.ResetGroupStatus(z.ctx, operator, g.ID, "error"))
	wantError(t, "a broken group", z.UpdateGroup(z.ctx, alice, g.ID, add, false), block.Invalid,
		"Invalid Group: Group status must be available.")
	must(t, z.ResetGroupStatus(z.ctx, operator, g.ID, "available"))
	must(t, z.UpdateGroup(z.ctx, alice, g.ID, add, false))
	shown, err := z.Group(z.ctx, alice, g.ID, true, false)
	if err != nil || *shown.Name != "new" || !slices.Equal(shown.Volumes, []block.VolumeID{v.ID}) {
		t.Errorf("the group is %+v, %v", shown, err)
	}
	must(t, z.UpdateGroup(z.ctx, alice, g.ID, control.GroupChange{Remove: []string{string(v.ID)}}, false))
	if got := z.volume(v.ID); got.GroupID != nil {
		t.Errorf("a volume that left is in group %s", *got.GroupID)
	}
	must(t, z.DeleteGroup(z.ctx, alice, g.ID, false, false))
	z.work(z.ctx)
}

func TestGroupQuotasAndTypes(t *testing.T) {
	z := newZone(t)
	name := z.groupType(nil)
	_, err := z.CreateGroup(z.ctx, alice, control.NewGroup{Type: name, VolumeTypes: []string{"fast", "slow"}})
	wantError(t, "two stores", err, block.Invalid, "Invalid Group: No store holds volumes of all the types fast, slow.")
	_, err = z.CreateGroup(z.ctx, alice, control.NewGroup{Type: "none", VolumeTypes: []string{"fast"}})
	wantError(t, "no type", err, block.NotFound, "Group type with name none could not be found.")
	_, err = z.CreateGroup(z.ctx, alice, control.NewGroup{Type: "default_cgsnapshot_type", VolumeTypes: []string{"fast"}})
	wantError(t, "the older API's type", err, block.Invalid, "Group_type "+string(block.LegacyGroupType)+
		" is reserved for migrating CGs to groups. Migrated group can only be operated by CG APIs.")
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"groups": 1}))
	g, err := z.CreateGroup(z.ctx, alice, control.NewGroup{Type: name, VolumeTypes: []string{"fast"}})
	must(t, err)
	_, err = z.CreateGroup(z.ctx, alice, control.NewGroup{Type: name, VolumeTypes: []string{"fast"}})
	wantError(t, "one more", err, block.OverLimit, "GroupLimitExceeded: Maximum number of groups allowed (1) exceeded")
	used, err := z.Quotas(z.ctx, alice, alice.Project)
	if err != nil || used["groups"] != (control.QuotaUse{Limit: 1, InUse: 1}) {
		t.Errorf("the quota is %+v, %v", used["groups"], err)
	}
	wantError(t, "type in use", z.DeleteGroupType(z.ctx, operator, g.Type), block.Invalid,
		fmt.Sprintf("Target group type is still in use. Group Type %s deletion is not allowed with groups present with the "+
			"type.", g.Type))
	_, err = z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1)), GroupID: &g.ID})
	wantError(t, "a volume without a type", err, block.Invalid,
		"Invalid input received: volume_type must be provided when creating a volume in a group.")
	wantError(t, "replication", z.FailoverGroup(z.ctx, alice, g.ID, "", false), block.Invalid,
		fmt.Sprintf("Invalid group type: Group %s is not a replication group type.", g.ID))

	// Three volumes fit, a group of their copies does not; nothing of it stays.
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"groups": 9, "volumes": 3, "snapshots": 1}))
	many, _ := z.group("a", "b")
	_, err = z.CreateGroupFrom(z.ctx, alice, control.GroupSource{Group: &many.ID})
	wantError(t, "copies", err, block.OverLimit,
		"VolumeLimitExceeded: Maximum number of volumes allowed (3) exceeded for quota 'volumes'.")
	_, err = z.CreateGroupSnapshot(z.ctx, alice, control.NewGroupSnapshot{Group: many.ID})
	wantError(
		t,
		"snapshots",
		err,
		block.OverLimit,
		"SnapshotLimitExceeded: Maximum number of snapshots allowed (1) exceeded",
	)
	if got := z.usage(alice); got != "2 0 2" {
		t.Errorf("the quota holds %s", got)
	}
}

// TestGroupSnapshotIsOneCall: the store is asked once for all volumes.
func TestGroupSnapshotIsOneCall(t *testing.T) {
	z := newZone(t)
	g, _ := z.group("aa", "bb", "cc")
	before := z.fast.Calls("create snapshot")
	_, snapshots := z.instant(g)
	if n, m := z.fast.Calls("create snapshots"), z.fast.Calls("create snapshot"); n != 1 || m != before {
		t.Errorf("%d calls for the group, %d for single volumes", n, m-before)
	}
	if len(snapshots) != 3 {
		t.Errorf("%d snapshots", len(snapshots))
	}
	// A volume on another store is in no such call.
	v := z.members(g.ID)[0]
	v.Backend = "slow"
	z.update(func(tx *catalog.Tx) error { return tx.UpdateVolume(v) })
	_, err := z.CreateGroupSnapshot(z.ctx, alice, control.NewGroupSnapshot{Group: g.ID})
	wantError(t, "two stores", err, block.Invalid, "Invalid GroupSnapshot: The volumes of the group do not lie in one "+
		"store that can name an instant of all of them.")
}
