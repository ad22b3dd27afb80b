package control_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/export/exporttest"
	"kvol/internal/keystore"
)

// cryptsetup runs it as os-brick does: the passphrase comes by standard input.
func cryptsetup(t *testing.T, passphrase []byte, args ...string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), exporttest.Tool(t, "cryptsetup"), args...)
	cmd.Stdin = bytes.NewReader(passphrase)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("cryptsetup %v: %v %s", args, err, out)
	}
	return err
}

// passphrase is what os-brick makes of the key that the key manager gives a
// caller (os_brick/encryptors/luks.py, _get_passphrase).
func (z *zone) passphrase(c block.Caller, v block.Volume) []byte {
	z.t.Helper()
	_, key, err := keystore.NewService(z.catalog, z.Sealer()).Payload(z.ctx, c, v.Encryption.Key)
	must(z.t, err)
	return []byte(hex.EncodeToString(key))
}

// opens has cryptsetup look whether a passphrase opens what lies on a volume.
func (z *zone) opens(v block.Volume, passphrase []byte) error {
	z.t.Helper()
	path := filepath.Join(z.t.TempDir(), "volume")
	must(z.t, os.WriteFile(path, []byte(z.content(v, 32<<20)), 0o600))
	return cryptsetup(z.t, passphrase, "luksOpen", "--test-passphrase", "--key-file", "-", path)
}

// TestHostsOpenContainers has cryptsetup make a container on a volume with the
// key that the zone gives the tenant, of both versions of LUKS, and open it there
// and on all that is made of the volume, with the key of each. Another's key
// opens nothing.
func TestHostsOpenContainers(t *testing.T) {
	for _, provider := range []string{"luks", "luks2"} {
		t.Run(provider, func(t *testing.T) {
			z := newZone(t)
			vt, err := z.CreateType(z.ctx, operator, block.VolumeType{Name: "vault", Public: true,
				ExtraSpecs: map[string]string{"volume_backend_name": "fast"}})
			must(t, err)
			_, err = z.CreateTypeEncryption(z.ctx, operator, block.TypeEncryption{TypeID: vt.ID, Provider: provider,
				ControlLocation: block.FrontEnd, Cipher: ptr("aes-xts-plain64"), KeySize: ptr(int64(256))})
			must(t, err)
			v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
			other := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
			key := z.passphrase(alice, v)
			path := filepath.Join(t.TempDir(), "disk")
			must(t, os.WriteFile(path, make([]byte, 32<<20), 0o600))
			must(t, cryptsetup(t, key, "luksFormat", "--batch-mode", "--type", map[string]string{"luks": "luks1",
				"luks2": "luks2"}[provider], "--cipher", "aes-xts-plain64", "--key-size", "256", "--pbkdf", "pbkdf2",
				"--pbkdf-force-iterations", "1500", "--key-file", "-", path))
			header, err := os.ReadFile(path)
			must(t, err)
			z.hostWrites(v, header)
			must(t, z.opens(v, key))
			if z.opens(v, z.passphrase(alice, other)) == nil {
				t.Error("another volume's key opens it")
			}
			sn := z.snap(v.ID)
			b := z.backedUp(control.NewBackup{VolumeID: v.ID})
			of := z.make(control.NewVolume{SnapshotID: &sn.ID})
			clone := z.make(control.NewVolume{SourceVolumeID: &v.ID})
			restored, err := z.RestoreBackup(z.ctx, alice, b.ID, nil, nil)
			must(t, err)
			z.work(z.ctx)
			for what, made := range map[string]block.Volume{"a snapshot's": of, "a clone": clone,
				"a restored": z.volume(restored.Volume)} {
				if made.Encryption == nil || made.Encryption.Key == v.Encryption.Key || made.Encryption.Provider != provider {
					t.Errorf("%s volume is encrypted by %+v", what, made.Encryption)
					continue
				}
				if err := z.opens(made, z.passphrase(alice, made)); err != nil {
					t.Errorf("its key does not open %s volume: %v", what, err)
				}
			}
			must(t, z.MigrateVolume(z.ctx, operator, clone.ID, control.Migration{Backend: "slow"}))
			z.work(z.ctx)
			must(t, z.opens(z.volume(clone.ID), z.passphrase(alice, clone)))
		})
	}
}

// hostWrites writes to a volume as a host does.
func (z *zone) hostWrites(v block.Volume, p []byte) {
	z.t.Helper()
	name, _ := z.connect(v.ID, map[string]any{"host": "h"})
	x, err := z.Exports().Open(z.ctx, name)
	must(z.t, err)
	defer x.Release()
	_, err = x.Device.WriteAt(p, 0)
	must(z.t, err)
}

// TestHostsOpenImages: the container that the zone writes an image into is opened
// by cryptsetup, with the volume's key and no other, whichever version the type
// asks hosts for.
func TestHostsOpenImages(t *testing.T) {
	z := newZone(t)
	image := z.images.add(control.Image{Name: "os", DiskFormat: "raw", ContainerFormat: "bare"},
		slices.Concat([]byte(hushed), make([]byte, 1<<20)))
	for _, provider := range []string{"luks", "luks2", "plain"} {
		vt, err := z.CreateType(z.ctx, operator, block.VolumeType{Name: provider, Public: true,
			ExtraSpecs: map[string]string{"volume_backend_name": "fast"}})
		must(t, err)
		_, err = z.CreateTypeEncryption(z.ctx, operator, block.TypeEncryption{TypeID: vt.ID, Provider: provider,
			ControlLocation: block.FrontEnd})
		must(t, err)
		if provider == "plain" { // nothing on the disk says what is on it: only hosts write to it
			_, err := z.CreateVolume(
				z.ctx,
				alice,
				control.NewVolume{Size: ptr(int64(1)), ImageRef: &image, VolumeType: &provider},
			)
			if !block.Is(err, block.Invalid) {
				t.Errorf("an image on a volume of plain dm-crypt: %v", err)
			}
			z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &provider})
			continue
		}
		v := z.make(control.NewVolume{Size: ptr(int64(1)), ImageRef: &image, VolumeType: &provider})
		must(t, z.opens(v, z.passphrase(alice, v)))
		if z.opens(v, []byte("nonsense")) == nil {
			t.Errorf("%s: any passphrase opens it", provider)
		}
	}
}

// TestBackupsNeedTheKey: what the repository has of an encrypted volume nobody
// reads who has all of it and the backup's record, and not the zone's key.
func TestBackupsNeedTheKey(t *testing.T) {
	z := newZone(t)
	vt := z.encryptedType("hushed", block.BackEnd)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	z.atHost(v, hushed, 1)
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	url, err := z.ExportBackup(z.ctx, operator, b.ID)
	must(t, err)
	thief := newZone(t)
	thief.vault, thief.otherKey = z.vault, 1
	thief.restart()
	imported, err := thief.ImportBackup(thief.ctx, operator, control.BackupService, url)
	if err == nil {
		thief.work(thief.ctx)
		t.Fatalf("the record is taken without its key: %+v", imported)
	}
	if message, ok := block.UserMessage(err); !ok || message == "" {
		t.Errorf("the refusal says nothing: %v", err)
	}
	if len(thief.secrets(operator)) != 0 {
		t.Error("a key of nothing stays")
	}
	same := newZone(t) // and with the zone's key it is
	same.vault = z.vault
	same.restart()
	_, err = same.ImportBackup(same.ctx, operator, control.BackupService, url)
	must(t, err)
}
