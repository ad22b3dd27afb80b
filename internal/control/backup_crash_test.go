package control_test

import (
	"maps"

	"kvol/internal/block"
	"kvol/internal/control"
)

// allScenarios are those of volumes and those of backups.
func allScenarios() map[string]scenario {
	all := maps.Clone(scenarios)
	maps.Copy(all, backupScenarios)
	for _, name := range []string{"another key", "encrypt on another store"} {
		all[name] = reencryptions[name]
	}
	return all
}

// backedUp makes a backup of what a volume is now and waits for it.
func (z *zone) backedUp(req control.NewBackup) block.Backup {
	z.t.Helper()
	b, err := z.CreateBackup(z.ctx, alice, req)
	must(z.t, err)
	z.work(z.ctx)
	return z.wantBackup(b.ID, block.BackupAvailable)
}

func (z *zone) wantBackup(id block.BackupID, want block.BackupStatus) block.Backup {
	z.t.Helper()
	b, err := z.Backup(z.ctx, operator, id)
	must(z.t, err)
	if b.Status != want {
		z.t.Errorf("the backup is %s, want %s; it says %v", b.Status, want, b.FailReason)
	}
	if bad := b.Status == block.BackupError || b.Status == block.BackupErrorDeleting; bad && b.FailReason == nil {
		z.t.Errorf("the backup is %s for %v", b.Status, b.FailReason)
	}
	return b
}

// wantVault counts the objects that the repository holds of alice's.
func (z *zone) wantVault(dir string, want int) {
	z.t.Helper()
	n := 0
	for _, err := range z.vault.List(z.ctx, "mitaka1/aaaa/"+dir) {
		must(z.t, err)
		n++
	}
	if n != want {
		z.t.Errorf("the repository has %d %s, want %d", n, dir, want)
	}
}

// chunks counts the repository's chunks of alice's.
func (z *zone) chunks() (n int) {
	z.t.Helper()
	for i := range 256 {
		const hex = "0123456789abcdef"
		for _, err := range z.vault.List(z.ctx, "mitaka1/aaaa/chunks/"+string([]byte{hex[i>>4], hex[i&15]})) {
			must(z.t, err)
			n++
		}
	}
	return n
}

func (z *zone) filled(content string) block.Volume {
	z.t.Helper()
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.write(v, []byte(content), 0)
	return v
}

var backupScenarios = map[string]scenario{
	"backup": {func(z *zone) func(bool) {
		v := z.filled("one")
		must(z.t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
		b, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID, Force: true})
		must(z.t, err)
		z.wantStatus(v.ID, false, block.VolumeBackingUp, "")
		return func(failed bool) {
			z.wantStatus(v.ID, false, block.VolumeInUse, "")
			if failed {
				z.wantBackup(b.ID, block.BackupError)
				return
			}
			z.wantBackup(b.ID, block.BackupAvailable)
			z.wantStored(string(v.ID), string(v.ID)+"/"+string(b.ID))
			z.wantVault("manifests", 1)
			z.wantVault("unfinished", 0)
		}
	}},
	"next backup": {func(z *zone) func(bool) {
		v := z.filled("one")
		old := z.backedUp(control.NewBackup{VolumeID: v.ID})
		z.write(v, []byte("two"), 1<<20)
		b, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID, Incremental: true})
		must(z.t, err)
		return func(failed bool) {
			z.wantStatus(v.ID, false, block.VolumeAvailable, "")
			z.wantBackup(old.ID, block.BackupAvailable)
			if failed {
				z.wantBackup(b.ID, block.BackupError)
				z.wantStored(string(v.ID), string(v.ID)+"/"+string(old.ID))
				return
			}
			z.wantBackup(b.ID, block.BackupAvailable)
			z.wantStored(string(v.ID), string(v.ID)+"/"+string(b.ID))
			z.wantVault("manifests", 2)
		}
	}},
	"backup of a snapshot": {func(z *zone) func(bool) {
		v := z.filled("one")
		sn := z.snap(v.ID)
		b, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID, SnapshotID: &sn.ID})
		must(z.t, err)
		z.wantStatus(v.ID, false, block.VolumeAvailable, "")
		return func(failed bool) {
			if got, err := z.Snapshot(z.ctx, alice, sn.ID); err != nil || got.Status != block.SnapshotAvailable {
				z.t.Errorf("the snapshot is %s, %v", got.Status, err)
			}
			want := block.BackupAvailable
			if failed {
				want = block.BackupError
			}
			z.wantBackup(b.ID, want)
			z.wantStored(string(v.ID), string(v.ID)+"/"+string(sn.ID))
			must(z.t, z.DeleteSnapshot(z.ctx, alice, sn.ID))
			z.work(z.ctx)
			z.wantStored(string(v.ID))
		}
	}},
	"restore": {func(z *zone) func(bool) {
		v := z.filled("one")
		b := z.backedUp(control.NewBackup{VolumeID: v.ID})
		z.write(v, []byte("two"), 0)
		_, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
		must(z.t, err)
		z.wantBackup(b.ID, block.BackupRestoring)
		return func(failed bool) {
			z.wantBackup(b.ID, block.BackupAvailable)
			z.wantStatus(v.ID, failed, block.VolumeAvailable, block.VolumeErrorRestoring)
			if !failed && z.content(z.volume(v.ID), 3) != "one" {
				z.t.Error("the volume is not what it was")
			}
		}
	}},
	"restore to a new volume": {func(z *zone) func(bool) {
		v := z.filled("one")
		b := z.backedUp(control.NewBackup{VolumeID: v.ID})
		r, err := z.RestoreBackup(z.ctx, alice, b.ID, nil, nil)
		must(z.t, err)
		return func(failed bool) {
			z.wantBackup(b.ID, block.BackupAvailable)
			z.wantStatus(r.Volume, failed, block.VolumeAvailable, block.VolumeErrorRestoring)
			if !failed && z.content(z.volume(r.Volume), 3) != "one" {
				z.t.Error("the volume is not what it was")
			}
		}
	}},
	"create from backup": {func(z *zone) func(bool) {
		v := z.filled("one")
		b := z.backedUp(control.NewBackup{VolumeID: v.ID})
		check := z.prepareMade(v, string(v.ID)+"/"+string(b.ID),
			control.NewVolume{BackupID: &b.ID, VolumeType: ptr("slow"), Size: ptr(int64(2))}, "one")
		return func(failed bool) {
			z.wantBackup(b.ID, block.BackupAvailable)
			check(failed)
		}
	}},
	"backup deletion": {func(z *zone) func(bool) {
		v := z.filled("one")
		b := z.backedUp(control.NewBackup{VolumeID: v.ID})
		must(z.t, z.DeleteBackup(z.ctx, alice, b.ID))
		return func(failed bool) {
			if failed {
				z.wantBackup(b.ID, block.BackupErrorDeleting)
				return
			}
			if _, err := z.Backup(z.ctx, operator, b.ID); !block.Is(err, block.NotFound) {
				z.t.Errorf("after its deletion: %v", err)
			}
			z.wantStored(string(v.ID))
			z.wantVault("manifests", 0)
			if n := z.chunks(); n != 0 {
				z.t.Errorf("%d chunks are left", n)
			}
			if used, err := z.Limits(z.ctx, alice); err != nil || used["backups"].InUse != 0 {
				z.t.Errorf("its quota is still in use: %v, %v", used, err)
			}
		}
	}},
}
