package control_test

import (
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

const others = "WHAT ANOTHER VOLUME HAS, AND THEREFORE ITS BACKUP, BUT NOT THIS. "

// sealedPair makes a volume that the zone encrypts, with the text hushed on it, and
// a backup of another one.
func (z *zone) sealedPair() (block.Volume, block.Backup) {
	z.t.Helper()
	vt := z.encryptedType("hushed", block.BackEnd)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	z.atHost(v, hushed, 1)
	other := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	z.atHost(other, others, 1)
	return v, z.backedUp(control.NewBackup{VolumeID: other.ID})
}

// link lets a volume have a link of replication.
func (z *zone) link(id block.VolumeID) {
	z.update(func(tx *catalog.Tx) error {
		return tx.PutLink(catalog.Link{Volume: id, Protection: 7, State: catalog.LinkCurrent})
	})
}

// TestRestoreKeepsTheKey: a volume gets no backup's key while its own opens anything
// else than what the backup is to replace.
func TestRestoreKeepsTheKey(t *testing.T) {
	for why, bind := range map[string]func(*zone, block.Volume){
		"has snapshots": func(z *zone, v block.Volume) { z.snap(v.ID) },
		"is replicated": func(z *zone, v block.Volume) { z.link(v.ID) },
		"is larger than the backup": func(z *zone, v block.Volume) {
			must(z.t, z.ExtendVolume(z.ctx, alice, v.ID, 2))
			z.work(z.ctx)
		},
	} {
		t.Run(why, func(t *testing.T) {
			z := newZone(t)
			v, b := z.sealedPair()
			bind(z, v)
			keys := len(z.secrets(alice))
			refuse := func(what string) {
				t.Helper()
				_, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
				wantError(t, what, err, block.Invalid, "Invalid volume: Volume to be restored to has another key than the "+
					"backup and "+why+", so that older content could not be read any more: restore to a new volume.")
				z.wantStatus(v.ID, false, block.VolumeAvailable, "")
				z.wantBackup(b.ID, block.BackupAvailable)
				z.wantSecrets(what, keys)
			}
			refuse("another volume's backup")
			if got := z.atHost(z.volume(v.ID), "", len(hushed)); got != hushed {
				t.Errorf("the volume reads %q", got)
			}
			made, err := z.RestoreBackup(z.ctx, alice, b.ID, nil, nil)
			must(t, err)
			z.work(z.ctx)
			if got := z.atHost(z.volume(made.Volume), "", len(others)); got != others {
				t.Errorf("a new volume of the backup reads %q", got)
			}
		})
	}
}

// TestRestoreToProtected: what is about to be made of a volume is as good as there:
// recovery points of one that is protected, and a snapshot that was asked for.
func TestRestoreToProtected(t *testing.T) {
	z := newZone(t)
	v, b := z.sealedPair()
	z.policies = []block.Protection{{Seq: 7, SourceZone: "mitaka1", SourceType: v.TypeID, Destination: "b", Enabled: true}}
	if _, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil); !block.Is(err, block.Invalid) {
		t.Errorf("another volume's backup is restored to one whose type is protected: %v", err)
	}
	z.policies = nil
	_, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID})
	must(t, err)
	if _, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil); !block.Is(err, block.Invalid) {
		t.Errorf("another volume's backup is restored to one of which a snapshot is being made: %v", err)
	}
	z.work(z.ctx)
}

// TestRestoreOwnBackup: a volume's own backups have its key, under another id, and
// its snapshots and replicas are no hindrance.
func TestRestoreOwnBackup(t *testing.T) {
	z := newZone(t)
	v, _ := z.sealedPair()
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	z.atHost(v, others, 1)
	sn := z.snap(v.ID)
	z.link(v.ID)
	keys := len(z.secrets(alice))
	_, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
	must(t, err)
	z.work(z.ctx)
	after := z.volume(v.ID)
	if got := z.atHost(after, "", len(hushed)); got != hushed || after.Encryption.Key != v.Encryption.Key {
		t.Errorf("the volume reads %q with key %s, which was %s", got, after.Encryption.Key, v.Encryption.Key)
	}
	if got := z.atSnapshot(after, sn, len(others)); got != others {
		t.Errorf("the snapshot reads %q", got)
	}
	z.wantSecrets("restored", keys)
}

// TestNothingBeginsWhileRestoring: what would read a volume with its key, and may
// find it half restored, can't be asked for meanwhile.
func TestNothingBeginsWhileRestoring(t *testing.T) {
	z := newZone(t)
	g, volumes := z.group("abc")
	v := volumes[0]
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	_, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
	must(t, err)
	for what, ask := range map[string]func() error{
		"snapshot": func() error {
			_, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID, Force: true})
			return err
		},
		"group snapshot": func() error {
			_, err := z.CreateGroupSnapshot(z.ctx, alice, control.NewGroupSnapshot{Group: g.ID})
			return err
		},
		"clone": func() error {
			_, err := z.CreateVolume(z.ctx, alice, control.NewVolume{SourceVolumeID: &v.ID})
			return err
		},
		"backup": func() error {
			_, err := z.CreateBackup(z.ctx, alice, control.NewBackup{VolumeID: v.ID, Force: true})
			return err
		},
		"image": func() error {
			_, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "i", Force: true})
			return err
		},
		"restore": func() error { _, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil); return err },
		"move": func() error {
			return z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "slow"})
		},
	} {
		if err := ask(); !block.Is(err, block.Invalid) {
			t.Errorf("a %s of a volume that is restored: %v", what, err)
		}
	}
	z.work(z.ctx)
	z.wantStatus(v.ID, false, block.VolumeAvailable, "")
}

// TestRekeyIsAskedAgain: what came to need the volume's key since the restore was
// asked for keeps it. Nothing but an administrator's or a configuration's word brings
// that about.
func TestRekeyIsAskedAgain(t *testing.T) {
	z := newZone(t)
	v, b := z.sealedPair()
	_, err := z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
	must(t, err)
	z.link(v.ID)
	z.work(z.ctx)
	z.wantBackup(b.ID, block.BackupAvailable)
	z.wantStatus(v.ID, true, block.VolumeErrorRestoring, block.VolumeErrorRestoring)
	z.reset(v.ID, block.VolumeAvailable)
	if got := z.atHost(z.volume(v.ID), "", len(hushed)); got != hushed {
		t.Errorf("a volume that came to be replicated reads %q", got)
	}

	z = newZone(t)
	v, b = z.sealedPair()
	keys := len(z.secrets(alice))
	_, err = z.RestoreBackup(z.ctx, alice, b.ID, &v.ID, nil)
	must(t, err)
	var made atomic.Bool
	z.vault.SetRule(func(op, _ string) error {
		if op == "get" && made.CompareAndSwap(false, true) {
			z.reset(v.ID, block.VolumeAvailable)
			_, err := z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: v.ID})
			z.reset(v.ID, block.VolumeRestoring)
			return err
		}
		return nil
	})
	z.work(z.ctx)
	z.wantBackup(b.ID, block.BackupAvailable)
	z.wantStatus(v.ID, true, block.VolumeErrorRestoring, block.VolumeErrorRestoring)
	if got := z.volume(v.ID); !made.Load() || got.Encryption.Key != v.Encryption.Key {
		t.Errorf("the volume has key %s, and had %s", got.Encryption.Key, v.Encryption.Key)
	}
	z.keysAreThere()
	z.wantSecrets("the restore failed", keys)
}
