package control_test

import (
	"encoding/base64"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// backupMethods are all that a caller can ask of a backup.
func backupMethods(z *zone, c block.Caller, b block.BackupID) map[string]func() error {
	none := func(_ any, err error) error { return err }
	return map[string]func() error{
		"Backup": func() error { return none(z.Backup(z.ctx, c, b)) },
		"ListBackups": func() error {
			return none(z.ListBackups(z.ctx, c, block.ListQuery{Limit: -1, Marker: string(b)}))
		},
		"UpdateBackup":      func() error { return none(z.UpdateBackup(z.ctx, c, b, control.BackupChange{})) },
		"DeleteBackup":      func() error { return z.DeleteBackup(z.ctx, c, b) },
		"ForceDeleteBackup": func() error { return z.ForceDeleteBackup(z.ctx, c, b) },
		"ResetBackupStatus": func() error { return z.ResetBackupStatus(z.ctx, c, b, "error") },
		"RestoreBackup":     func() error { return none(z.RestoreBackup(z.ctx, c, b, nil, nil)) },
		"ExportBackup":      func() error { return none(z.ExportBackup(z.ctx, c, b)) },
		"ImportBackup": func() error {
			return none(z.CreateVolume(z.ctx, c, control.NewVolume{BackupID: &b})) // an import names nothing that is there
		},
		"CreateBackup": func() error {
			return none(z.CreateBackup(z.ctx, c, control.NewBackup{VolumeID: block.VolumeID(b)}))
		},
		"CountBackups": func() error {
			n, err := z.CountBackups(z.ctx, c, block.ListQuery{})
			if n == 0 && err == nil {
				err = block.Errorf(block.NotFound, "none")
			}
			return err
		},
	}
}

func TestOthersBackupsAreNotThere(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	const nobody = "11111111-1111-1111-1111-111111111111"
	theirs, nothing := backupMethods(z, mallory, b.ID), backupMethods(z, mallory, nobody)
	for name, ask := range theirs {
		got, want := ask(), nothing[name]()
		sentence, _ := block.UserMessage(got)
		missing, _ := block.UserMessage(want)
		if !block.Is(got, block.NotFound) || strings.ReplaceAll(sentence, string(b.ID), nobody) != missing {
			t.Errorf("%s: %v for another's, %v for nobody's", name, got, want)
		}
	}
	for name, ask := range backupMethods(z, reader, b.ID) {
		reads := name == "Backup" || name == "ListBackups" || name == "CountBackups"
		if err := ask(); reads != (err == nil) || err != nil && !block.Is(err, block.Forbidden) && name != "CreateBackup" {
			t.Errorf("a reader's %s: %v", name, err)
		}
	}
	if _, err := z.CreateBackup(z.ctx, reader, control.NewBackup{VolumeID: v.ID}); !block.Is(err, block.Forbidden) {
		t.Errorf("a reader makes a backup: %v", err)
	}
	if _, err := z.ImportBackup(z.ctx, alice, control.BackupService, "x"); !block.Is(err, block.Forbidden) {
		t.Errorf("a member imports: %v", err)
	}
	z.wantBackup(b.ID, block.BackupAvailable)
}

func TestBackupQuota(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"backups": 1, "backup_gigabytes": 1}))
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	_, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID})
	wantError(t, "two of one GiB", err, block.OverLimit, "VolumeBackupSizeExceedsAvailableQuota: Requested backup "+
		"exceeds allowed Backup gigabytes quota. Requested 1G, quota is 1G and 1G has been consumed.")
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"backup_gigabytes": 9}))
	_, err = z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID})
	wantError(t, "two", err, block.OverLimit, "BackupLimitExceeded: Maximum number of backups allowed (1) exceeded")
	z.wantStatus(v.ID, false, block.VolumeAvailable, "")
	must(t, z.DeleteBackup(z.ctx, alice, b.ID))
	z.work(z.ctx)
	z.backedUp(control.NewBackup{VolumeID: v.ID})
}

// TestDamagedBackup: the restore fails, the backup says which object is wrong,
// and the volume is in error.
func TestDamagedBackup(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	name := "mitaka1/aaaa/manifests/" + string(b.ID)
	p, err := z.vault.Get(z.ctx, name, 1<<20)
	must(t, err)
	p[100] ^= 1
	must(t, z.vault.Put(z.ctx, name, p))
	_, err = z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
	must(t, err)
	z.work(z.ctx)
	z.wantStatus(v.ID, true, "", block.VolumeErrorRestoring)
	b = z.wantBackup(b.ID, block.BackupAvailable)
	if b.FailReason == nil || *b.FailReason != "The backup's object "+name+" is damaged." {
		t.Errorf("it says %v", b.FailReason)
	}
}

// TestDamageFoundByCollection: a backup that can't be restored any more gets
// into error, and its project is told; no chunk is removed until it is deleted,
// which is allowed although another backup followed it.
func TestDamageFoundByCollection(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	bad := z.backedUp(control.NewBackup{VolumeID: v.ID})
	z.write(v, []byte("two"), 0)
	next := z.backedUp(control.NewBackup{VolumeID: v.ID, Incremental: true})
	z.write(v, []byte("three"), 1<<20)
	last := z.backedUp(control.NewBackup{VolumeID: v.ID, Incremental: true})
	before := z.chunks()
	name := "mitaka1/aaaa/manifests/" + string(bad.ID)
	must(t, z.vault.Put(z.ctx, name, []byte("x")))
	wantError(t, "the middle of a chain", z.DeleteBackup(z.ctx, alice, next.ID), block.Invalid,
		"Invalid backup: Incremental backups exist for this backup.")
	must(t, z.DeleteBackup(z.ctx, alice, last.ID))
	z.work(z.ctx)
	bad = z.wantBackup(bad.ID, block.BackupError)
	if bad.FailReason == nil || *bad.FailReason != "The backup's object "+name+" is damaged." {
		t.Errorf("it says %v", bad.FailReason)
	}
	if n := z.chunks(); n != before {
		t.Errorf("%d chunks of %d are left", n, before)
	}
	list, err := z.Messages(z.ctx, alice, block.ListQuery{Limit: -1})
	must(t, err)
	if len(list) != 1 || list[0].ResourceID != string(bad.ID) || list[0].EventID != "VOLUME_VOLUME_BACKUP_013_020" {
		t.Errorf("alice is told %+v", list)
	}
	must(t, z.DeleteBackup(z.ctx, alice, bad.ID))
	z.work(z.ctx)
	if n := z.chunks(); n != 2 {
		t.Errorf("%d chunks are left, want a page and one of data", n)
	}
	r, err := z.RestoreBackup(z.ctx, alice, next.ID, nil, nil)
	must(t, err)
	z.work(z.ctx)
	if got := z.content(z.volume(r.Volume), 3); got != "two" {
		t.Errorf("the volume reads %q", got)
	}
}

// TestDamageOfNobodys: a damaged manifest of a backup without a row is set aside,
// which is said, and chunks are collected; a whole one keeps its chunks.
func TestDamageOfNobodys(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	kept := z.chunks()
	z.write(v, []byte("two"), 0)
	other := z.backedUp(control.NewBackup{VolumeID: v.ID})
	must(t, z.catalog.Update(z.ctx, func(tx *catalog.Tx) error { // the row alone goes
		if err := tx.ResetBackupStatus(other.ID, block.BackupDeleting); err != nil {
			return err
		}
		_, err := tx.MoveBackup(other.ID, block.Done)
		return err
	}))
	collect := func() {
		t.Helper()
		last := z.backedUp(control.NewBackup{VolumeID: v.ID})
		must(t, z.DeleteBackup(z.ctx, alice, last.ID))
		z.work(z.ctx)
	}
	if collect(); z.chunks() != 2*kept || z.SetAside() != 0 {
		t.Errorf("%d chunks beside a whole manifest that has no row, %d set aside", z.chunks(), z.SetAside())
	}
	const of = "mitaka1/aaaa/"
	must(t, z.vault.Put(z.ctx, of+"manifests/"+string(other.ID), []byte("x")))
	z.write(v, []byte("one"), 0)
	if collect(); z.chunks() != kept || z.SetAside() != 1 {
		t.Errorf("%d chunks are left of %d, %d set aside", z.chunks(), kept, z.SetAside())
	}
	if p, err := z.vault.Get(z.ctx, of+"damaged/"+string(other.ID), 10); err != nil || string(p) != "x" {
		t.Errorf("what was set aside is %q, %v", p, err)
	}
	z.wantVault("manifests", 1)
	z.wantBackup(b.ID, block.BackupAvailable)
}

// TestBackupMessages: what a project is told of each job that was given up.
func TestBackupMessages(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	a := z.backedUp(control.NewBackup{VolumeID: v.ID})
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	z.vault.SetRule(func(string, string) error { return block.Errorf(block.Corrupt, "rotten at 10.0.0.1") })
	made, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID})
	must(t, err)
	z.work(z.ctx)
	_, err = z.RestoreBackup(z.ctx, alice, a.ID, &v.ID, nil)
	must(t, err)
	volume, err := z.CreateVolume(z.ctx, alice, control.NewVolume{BackupID: &b.ID})
	must(t, err)
	z.work(z.ctx)
	must(t, z.DeleteBackup(z.ctx, alice, b.ID))
	z.work(z.ctx)
	z.wantStatus(v.ID, true, "", block.VolumeErrorRestoring)
	z.wantBackup(b.ID, block.BackupErrorDeleting)
	list, err := z.Messages(z.ctx, alice, block.ListQuery{Limit: -1})
	must(t, err)
	got := map[string]string{}
	for _, m := range list {
		got[m.EventID+" "+m.ResourceID] = m.Text
	}
	want := map[string]string{
		"VOLUME_VOLUME_BACKUP_013_020 " + string(made.ID): "create backup:Backup driver failed to create backup.",
		"VOLUME_VOLUME_BACKUP_015_026 " + string(a.ID):    "restore backup:Backup driver failed to restore backup.",
		"VOLUME_VOLUME_BACKUP_014_025 " + string(b.ID):    "delete backup:Backup driver failed to delete backup.",
		"VOLUME_VOLUME_008_012 " + string(volume.ID): "create volume from backend storage:" +
			"Driver failed to create the volume.",
	}
	if len(list) != len(want) || !maps.Equal(got, want) {
		t.Errorf("%d messages: %v", len(list), got)
	}
}

// TestBackupsRefused: the sentences of cinder/backup/api.py.
func TestBackupsRefused(t *testing.T) {
	z := newZone(t)
	v, w := z.filled("one"), z.filled("two")
	sn := z.snap(w.ID)
	_, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID, SnapshotID: &sn.ID})
	wantError(t, "another volume's snapshot", err, block.Invalid, "Invalid volume: Volume "+string(v.ID)+
		" does not match with snapshot.volume_id "+string(w.ID)+".")
	theirs, err := z.CreateVolume(z.ctx, mallory, control.NewVolume{Size: ptr(int64(1))})
	must(t, err)
	z.work(z.ctx)
	_, err = z.CreateBackup(z.ctx, mallory, control.NewBackup{VolumeID: theirs.ID, SnapshotID: &sn.ID})
	wantError(t, "another project's snapshot", err, block.NotFound, "Snapshot "+string(sn.ID)+" could not be found.")
	_, err = z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID, Incremental: true})
	wantError(t, "no parent", err, block.Invalid, "Invalid backup: No backups available to do an incremental backup.")
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	for _, bad := range []string{"error_deleting", "creating", "deleted", "", "none"} {
		wantError(t, bad, z.ResetBackupStatus(z.ctx, operator, b.ID, bad), block.Invalid, "Backup status: "+bad+
			" is invalid, valid statuses are: ['available', 'error'].")
	}
	must(t, z.ResetBackupStatus(z.ctx, operator, b.ID, "ERROR"))
	_, err = z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID, Incremental: true})
	wantError(t, "a parent in error", err, block.Invalid,
		"Invalid backup: The parent backup must be available for incremental backup.")
	must(t, z.ResetBackupStatus(z.ctx, operator, b.ID, "available"))
	must(t, z.SetService(z.ctx, operator, control.BackupsService, "", true, nil))
	const none = "Service cinder-backup could not be found."
	_, err = z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID})
	wantError(t, "a disabled service", err, block.Unavailable, none)
	_, err = z.RestoreBackup(z.ctx, alice, b.ID, nil, nil)
	wantError(t, "a disabled service", err, block.Unavailable, none)
	wantError(t, "a disabled service", z.DeleteBackup(z.ctx, alice, b.ID), block.Unavailable, none)
	must(t, z.SetService(z.ctx, operator, control.BackupsService, "", false, nil))
	must(t, z.DeleteBackup(z.ctx, alice, b.ID))
}

// TestBackupRecords: a record makes a backup anew after the catalog lost it,
// and a changed one does not.
func TestBackupRecords(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	b := z.backedUp(control.NewBackup{VolumeID: v.ID, Name: ptr("n"), Metadata: map[string]string{"k": "v"}})
	url, err := z.ExportBackup(z.ctx, operator, b.ID)
	must(t, err)
	other := newZone(t) // with a catalog of its own, and the same repository
	other.vault = z.vault
	other.restart()
	made, err := other.ImportBackup(z.ctx, operator, control.BackupService, url)
	must(t, err)
	other.work(z.ctx)
	got := other.wantBackup(made.ID, block.BackupAvailable)
	if got.ID != b.ID || *got.Name != "n" || got.Metadata["k"] != "v" || got.Project != operator.Project || got.Size != 1 {
		t.Errorf("imported %+v", got)
	}
	r, err := other.RestoreBackup(z.ctx, operator, made.ID, nil, nil)
	must(t, err)
	other.work(z.ctx)
	if got := other.content(other.volume(r.Volume), 3); got != "one" {
		t.Errorf("the volume reads %q", got)
	}
	text, err := base64.StdEncoding.DecodeString(url)
	must(t, err)
	for what, change := range map[string][2]string{
		"another root": {`"root":"`, `"root":"0`}, "another place": {"mitaka1/", "../"}, "a size": {`"size":1`, `"size":0`},
	} {
		changed := base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(text), change[0], change[1], 1)))
		_, err := newZone(t).ImportBackup(z.ctx, operator, control.BackupService, changed)
		wantError(t, what, err, block.Invalid, "Invalid input received: Can't parse backup record.")
	}
	third := newZone(t) // with an empty repository
	made, err = third.ImportBackup(z.ctx, operator, control.BackupService, url)
	must(t, err)
	third.work(z.ctx)
	third.wantBackup(made.ID, block.BackupError)
}

// TestBackupOvertaken lets an administrator delete a backup by force, or set
// its status, while its job is at work: the volume is free again and no
// snapshot stays.
func TestBackupOvertaken(t *testing.T) {
	for _, how := range []string{"delete", "reset"} {
		synctest.Test(t, func(t *testing.T) {
			z := newZone(t)
			v := z.filled("one")
			b, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID})
			must(t, err)
			var done atomic.Bool
			z.vault.SetRule(func(op, _ string) error {
				if op == "put" && done.CompareAndSwap(false, true) {
					if how == "delete" {
						return z.ForceDeleteBackup(z.ctx, operator, b.ID)
					}
					return z.ResetBackupStatus(z.ctx, operator, b.ID, "error")
				}
				return nil
			})
			z.work(z.ctx)
			z.leaveAlone()
			z.wantStatus(v.ID, false, block.VolumeAvailable, "")
			z.wantStored(string(v.ID))
			if how == "delete" {
				z.wantVault("manifests", 0)
			}
			z.settled()
		})
	}
}

// TestBackupOutlivesVolume: a backup can be restored when its volume is gone.
func TestBackupOutlivesVolume(t *testing.T) {
	z := newZone(t)
	v := z.filled("one")
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	z.work(z.ctx)
	z.wantStored()
	r, err := z.RestoreBackup(z.ctx, alice, b.ID, nil, ptr("again"))
	must(t, err)
	z.work(z.ctx)
	if got := z.content(z.volume(r.Volume), 3); got != "one" || *z.volume(r.Volume).Name != "again" {
		t.Errorf("the volume reads %q", got)
	}
	must(t, z.DeleteBackup(z.ctx, alice, b.ID))
	z.work(z.ctx)
	z.wantStored(string(r.Volume))
}

// TestBackupTooLarge: a volume is refused of which no backup could be read again, and
// stays as it was.
func TestBackupTooLarge(t *testing.T) {
	z := newZone(t)
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"gigabytes": -1, "backup_gigabytes": -1}))
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	must(t, z.catalog.Update(z.ctx, func(tx *catalog.Tx) error {
		row, err := tx.Volume(v.ID)
		row.Size = 1<<20 + 1
		if err == nil {
			err = tx.UpdateVolume(row)
		}
		return err
	}))
	_, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID})
	wantError(t, "a PiB and more", err, block.Invalid,
		"Invalid backup: The volume has 1048577 GiB, and at most 1048576 GiB can be backed up.")
	z.wantStatus(v.ID, false, block.VolumeAvailable, "")
}
