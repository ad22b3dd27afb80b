package control_test

import (
	"bytes"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/keystore"
	"kvol/internal/luks"
)

const hushed = "NOBODY MAY READ THIS, NOT EVEN ON A DISK THAT WAS STOLEN. "

// encryptedType makes a type that alice may use, all of whose volumes are
// encrypted.
func (z *zone) encryptedType(name, where string) block.VolumeType {
	z.t.Helper()
	vt, err := z.CreateType(z.ctx, operator, block.VolumeType{Name: name, Public: true,
		ExtraSpecs: map[string]string{"volume_backend_name": "fast"}})
	must(z.t, err)
	_, err = z.CreateTypeEncryption(z.ctx, operator, block.TypeEncryption{TypeID: vt.ID, Provider: "luks",
		ControlLocation: where, Cipher: ptr("aes-xts-plain64"), KeySize: ptr(int64(256))})
	must(z.t, err)
	return vt
}

// secrets lists a project's keys.
func (z *zone) secrets(c block.Caller) []block.Secret {
	z.t.Helper()
	list, _, err := keystore.NewService(z.catalog, z.Sealer()).Secrets(z.ctx, c, "", 0, 100)
	must(z.t, err)
	return list
}

// wantSecrets wants as many keys of alice's as are in use.
func (z *zone) wantSecrets(what string, n int) {
	z.t.Helper()
	if got := z.secrets(alice); len(got) != n {
		z.t.Errorf("%s: %d keys, want %d", what, len(got), n)
	}
}

// atHost reads what a host sees at the start of a volume, after it wrote text
// there if that is not "".
func (z *zone) atHost(v block.Volume, text string, n int) string {
	z.t.Helper()
	name, _ := z.connect(v.ID, map[string]any{"host": "h"})
	x, err := z.Exports().Open(z.ctx, name)
	must(z.t, err)
	defer x.Release()
	if text != "" {
		_, err := x.Device.WriteAt([]byte(text), 0)
		must(z.t, err)
	}
	p := make([]byte, n)
	_, err = x.Device.ReadAt(p, 0)
	must(z.t, err)
	return string(p)
}

// wantUnreadable looks for the clear text in the bytes of a store.
func (z *zone) wantUnreadable(v block.Volume) {
	z.t.Helper()
	if c := z.content(v, 4<<20); strings.Contains(c, "NOBODY") || strings.Trim(c, "\x00") == "" {
		z.t.Errorf("the store has %q", c[:64])
	}
}

func TestEncryptedByZone(t *testing.T) {
	z := newZone(t)
	vt := z.encryptedType("hushed", block.BackEnd)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	_, info := z.connect(v.ID, map[string]any{"host": "h"})
	if !v.Encrypted || v.Encryption == nil || v.Encryption.Key == "" || info.Data["encrypted"] != false {
		t.Fatalf("the volume is %+v, its connection %v", v, info.Data)
	}
	if got := z.atHost(v, "", 64); got != strings.Repeat("\x00", 64) {
		t.Errorf("a new volume reads %q", got)
	}
	if got := z.atHost(v, hushed, len(hushed)); got != hushed {
		t.Errorf("a host reads %q", got)
	}
	z.wantUnreadable(v)
	z.wantSecrets("one volume", 1)

	sn := z.snap(v.ID)
	if got := z.atSnapshot(v, sn, len(hushed)); got != hushed {
		t.Errorf("a host reads %q of the snapshot", got)
	}
	of := z.make(control.NewVolume{SnapshotID: &sn.ID, Size: ptr(int64(2))})
	clone := z.make(control.NewVolume{SourceVolumeID: &v.ID, VolumeType: &vt.Name})
	z.wantSecrets("three volumes", 3)
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, true))
	z.work(z.ctx)
	z.wantSecrets("two volumes", 2)
	for _, made := range []block.Volume{of, clone} {
		if got := z.atHost(made, "", len(hushed)); got != hushed || made.Encryption.Key == v.Encryption.Key {
			t.Errorf("a copy reads %q with key %s", got, made.Encryption.Key)
		}
		z.wantUnreadable(made)
	}
	must(t, z.ExtendVolume(z.ctx, alice, clone.ID, 3))
	z.work(z.ctx)
	if got := z.atHost(z.volume(clone.ID), "", len(hushed)); got != hushed {
		t.Errorf("after it grew it reads %q", got)
	}
}

func (z *zone) atSnapshot(v block.Volume, sn block.Snapshot, n int) string {
	z.t.Helper()
	name, _ := z.connect(v.ID, map[string]any{"host": "h"})
	x, err := z.Exports().Open(z.ctx, name+"@"+string(sn.ID))
	must(z.t, err)
	defer x.Release()
	p := make([]byte, n)
	_, err = x.Device.ReadAt(p, 0)
	must(z.t, err)
	return string(p)
}

// TestEncryptionIsKept: nothing that was encrypted becomes clear, nor the other
// way round, by being copied to another type.
func TestEncryptionIsKept(t *testing.T) {
	z := newZone(t)
	vt, host := z.encryptedType("hushed", block.BackEnd), z.encryptedType("host", block.FrontEnd)
	same := z.encryptedType("same", block.BackEnd)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	clear := z.make(control.NewVolume{Size: ptr(int64(1))})
	sn := z.snap(v.ID)
	for _, to := range []string{"fast", host.Name} {
		_, err := z.CreateVolume(z.ctx, alice, control.NewVolume{SourceVolumeID: &v.ID, VolumeType: &to})
		if !block.Is(err, block.Invalid) || !strings.Contains(err.Error(), "either match source volume, or omit type") {
			t.Errorf("a clone of type %s: %v", to, err)
		}
		_, err = z.CreateVolume(z.ctx, alice, control.NewVolume{SnapshotID: &sn.ID, VolumeType: &to})
		if !block.Is(err, block.Invalid) || !strings.Contains(err.Error(), "recommend omitting the type argument") {
			t.Errorf("a volume of a snapshot, of type %s: %v", to, err)
		}
	}
	_, err := z.CreateVolume(z.ctx, alice, control.NewVolume{SourceVolumeID: &clear.ID, VolumeType: &vt.Name})
	if !block.Is(err, block.Invalid) {
		t.Errorf("a clear volume's clone of an encrypted type: %v", err)
	}
	z.make(control.NewVolume{SourceVolumeID: &v.ID, VolumeType: &same.Name})
	z.wantSecrets("two volumes, and those that were refused", 2)
	must(t, z.DeleteTypeEncryption(z.ctx, operator, host.ID))
	_, err = z.CreateTypeEncryption(z.ctx, operator, block.TypeEncryption{TypeID: host.ID, Provider: "luks",
		ControlLocation: block.BackEnd, Cipher: ptr("twofish-xts-plain64")})
	must(t, err)
	_, err = z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1)), VolumeType: &host.Name})
	wantError(t, "twofish", err, block.Invalid, "Invalid volume type: the zone encrypts volumes by aes-xts-plain64 "+
		"with keys of 256 or 512 bits only.")
}

// TestKeyGoesWithTheVolume: a key can't be deleted that something needs, and a
// transfer takes it along.
func TestKeyGoesWithTheVolume(t *testing.T) {
	z := newZone(t)
	vt := z.encryptedType("hushed", block.FrontEnd)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	_, info := z.connect(v.ID, map[string]any{"host": "h"})
	if info.Data["encrypted"] != true {
		t.Errorf("a host is told %v", info.Data)
	}
	if got := z.atHost(v, hushed, len(hushed)); got != hushed || z.content(v, len(hushed)) != hushed {
		t.Errorf("what hosts encrypt does not come through: %q", got)
	}
	keys := keystore.NewService(z.catalog, z.Sealer())
	if err := keys.Delete(z.ctx, alice, v.Encryption.Key); !block.Is(err, block.Conflict) {
		t.Errorf("the key of a volume is deleted: %v", err)
	}
	if _, _, err := keys.Payload(z.ctx, mallory, v.Encryption.Key); !block.Is(err, block.NotFound) {
		t.Errorf("another project reads the key: %v", err)
	}
	if _, _, err := keys.Payload(z.ctx, reader, v.Encryption.Key); !block.Is(err, block.Forbidden) {
		t.Errorf("a reader reads the key: %v", err)
	}
	before := z.secrets(alice)[0].Sealed
	_, key, err := keys.Payload(z.ctx, alice, v.Encryption.Key)
	if err != nil || len(key) != 32 || bytes.Contains(before, key) {
		t.Errorf("the key is %x, %v", key, err)
	}
	offer, pass, err := z.CreateTransfer(z.ctx, alice, control.NewTransfer{VolumeID: v.ID, AllowEncrypted: true})
	must(t, err)
	_, err = z.AcceptTransfer(z.ctx, mallory, offer.ID, pass)
	must(t, err)
	if _, _, err := keys.Payload(z.ctx, alice, v.Encryption.Key); !block.Is(err, block.NotFound) {
		t.Errorf("the project that gave the volume away reads its key: %v", err)
	}
	_, _, err = keys.Payload(z.ctx, mallory, v.Encryption.Key)
	must(t, err)
	must(t, z.DeleteVolume(z.ctx, mallory, v.ID, false))
	z.work(z.ctx)
	if left := z.secrets(mallory); len(left) != 0 {
		t.Errorf("keys of no volume stay: %v", left)
	}
}

// TestEncryptedImages: a clear image becomes an encrypted volume in both ways,
// and an image of that can be read with its own key only.
func TestEncryptedImages(t *testing.T) {
	z := newZone(t)
	content := append([]byte(hushed), make([]byte, 3<<20)...)
	id := z.images.add(control.Image{Name: "os", DiskFormat: "raw", ContainerFormat: "bare"}, content)
	types := map[string]block.VolumeType{}
	for _, where := range []string{block.BackEnd, block.FrontEnd} {
		vt := z.encryptedType(where, where)
		types[where] = vt
		v := z.make(control.NewVolume{Size: ptr(int64(1)), ImageRef: &id, VolumeType: &vt.Name})
		z.wantUnreadable(v)
		if where == block.BackEnd {
			if got := z.atHost(v, "", len(hushed)); got != hushed {
				t.Errorf("a host reads %q", got)
			}
			continue
		}
		if got := z.openedByHost(v, len(hushed)); got != hushed {
			t.Errorf("a host that opens the container reads %q", got)
		}
	}
	v := z.make(control.NewVolume{Size: ptr(int64(1)), ImageRef: &id, VolumeType: ptr(block.BackEnd)})
	_, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "copy", DiskFormat: "qcow2"})
	wantError(t, "qcow2", err, block.Invalid, "Invalid input received: An image of an encrypted volume must have the "+
		"disk format raw and the container format bare.")
	keys := len(z.secrets(alice))
	up, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "copy"})
	must(t, err)
	z.work(z.ctx)
	img, err := z.images.Find(z.ctx, alice, up.ImageID)
	must(t, err)
	z.wantSecrets("the image has one", keys+1)
	if img.Status != "active" || img.Properties["cinder_encryption_key_id"] == string(v.Encryption.Key) ||
		img.Properties["cinder_encryption_key_deletion_policy"] != "on_image_deletion" {
		t.Errorf("the image is %+v", img)
	}
	again := z.make(control.NewVolume{Size: ptr(int64(1)), ImageRef: &up.ImageID, VolumeType: ptr(block.BackEnd)})
	z.wantUnreadable(again)
	if got := z.atHost(again, "", len(hushed)); got != hushed {
		t.Errorf("a volume of the image reads %q", got)
	}
	z.images.owner[up.ImageID] = mallory.Project
	_, err = z.CreateVolume(z.ctx, mallory, control.NewVolume{Size: ptr(int64(1)), ImageRef: &up.ImageID,
		VolumeType: ptr(block.BackEnd)})
	wantError(t, "another project's key", err, block.Invalid, "Invalid input received: The key of image "+up.ImageID+
		" is not there.")
}

// TestImageKeyIsNotInherited: a volume of an encrypted image that became clear makes
// clear images, with which no key is deleted.
func TestImageKeyIsNotInherited(t *testing.T) {
	z := newZone(t)
	vt := z.encryptedType("hushed", block.BackEnd)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	z.atHost(v, hushed, 1)
	upload := func(v block.Volume) control.Image {
		t.Helper()
		up, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "i"})
		must(t, err)
		z.work(z.ctx)
		img, err := z.images.Find(z.ctx, alice, up.ImageID)
		must(t, err)
		return img
	}
	golden := upload(v)
	made := z.make(control.NewVolume{Size: ptr(int64(1)), ImageRef: &golden.ID, VolumeType: &vt.Name})
	names := []string{"cinder_encryption_key_id", "cinder_encryption_key_deletion_policy"}
	for _, name := range names {
		if golden.Properties[name] == "" || made.ImageMetadata[name] != "" {
			t.Errorf("%s is %q of the image, and %q of a volume of it", name, golden.Properties[name], made.ImageMetadata[name])
		}
	}
	must(t, z.RetypeVolume(z.ctx, alice, made.ID, "fast", control.MigrateOnDemand))
	z.work(z.ctx)
	z.update(func(tx *catalog.Tx) error { // a volume that was made by a program that kept them
		v, err := tx.Volume(made.ID)
		must(t, err)
		for _, name := range names {
			v.ImageMetadata[name] = golden.Properties[name]
		}
		return tx.UpdateVolume(v)
	})
	clear := upload(made)
	for _, name := range names {
		if got := clear.Properties[name]; got != "" {
			t.Errorf("%s of the clear image is %q", name, got)
		}
	}
	again := z.make(control.NewVolume{Size: ptr(int64(1)), ImageRef: &clear.ID, VolumeType: &vt.Name})
	if !strings.HasPrefix(z.atHost(again, "", len(hushed)), hushed) {
		t.Error("an encrypted volume of the clear image has another content")
	}
}

// openedByHost reads a volume as a host does that has the key: through LUKS.
func (z *zone) openedByHost(v block.Volume, n int) string {
	z.t.Helper()
	head := []byte(z.content(v, luks.HeaderSize+4096))
	h, err := luks.Parse(head)
	must(z.t, err)
	_, key, err := keystore.NewService(z.catalog, z.Sealer()).Payload(z.ctx, alice, v.Encryption.Key)
	must(z.t, err)
	master, err := h.Unlock(z.ctx, bytes.NewReader(head), keystore.Passphrase(key))
	must(z.t, err)
	c, err := luks.NewCipher(master)
	must(z.t, err)
	p := make([]byte, n)
	_, err = c.Decrypting(bytes.NewReader(head[h.PayloadOffset:])).Read(p)
	must(z.t, err)
	return string(p)
}

// TestEncryptedBackups: the repository has the cipher, and the key outlives the
// volume.
func TestEncryptedBackups(t *testing.T) {
	z := newZone(t)
	vt := z.encryptedType("hushed", block.BackEnd)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	z.atHost(v, hushed, 1)
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	z.wantSecrets("a volume and a backup", 2)
	other := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	_, err := z.RestoreBackup(z.ctx, alice, b.ID, &other.ID, nil)
	must(t, err)
	z.work(z.ctx)
	other = z.volume(other.ID)
	if got := z.atHost(other, "", len(hushed)); got != hushed {
		t.Errorf("the volume that it was restored to reads %q", got)
	}
	must(t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	z.work(z.ctx)
	made, err := z.RestoreBackup(z.ctx, alice, b.ID, nil, nil)
	must(t, err)
	z.work(z.ctx)
	restored := z.volume(made.Volume)
	if got := z.atHost(restored, "", len(hushed)); got != hushed || !restored.Encrypted {
		t.Errorf("the restored volume reads %q: %+v", got, restored)
	}
	z.wantUnreadable(restored)
	clear := z.make(control.NewVolume{Size: ptr(int64(1))})
	if _, err := z.RestoreBackup(z.ctx, alice, b.ID, &clear.ID, nil); !block.Is(err, block.Invalid) {
		t.Errorf("it is restored to a clear volume: %v", err)
	}
	z.wantSecrets("two volumes and a backup", 3)
	url, err := z.ExportBackup(z.ctx, operator, b.ID)
	must(t, err)
	third := newZone(t)
	third.vault = z.vault
	third.restart()
	imported, err := third.ImportBackup(z.ctx, operator, control.BackupService, url) // with the same zone key
	must(t, err)
	if imported.Encryption == nil || len(third.secrets(operator)) != 1 {
		t.Errorf("the record became %+v", imported)
	}
	third.work(z.ctx)
	must(t, z.DeleteBackup(z.ctx, alice, b.ID))
	z.work(z.ctx)
	z.wantSecrets("two volumes", 2)
}

// encryptedCopies makes an encrypted volume, a clone and a backup of it, and
// deletes the first, so that the jobs of all of that are disturbed.
func encryptedCopies(z *zone) func(bool) {
	vt := z.encryptedType("hushed", block.BackEnd)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	z.atHost(v, hushed, 1)
	b := z.backedUp(control.NewBackup{VolumeID: v.ID})
	fresh, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	must(z.t, err)
	clone, err := z.CreateVolume(z.ctx, alice, control.NewVolume{SourceVolumeID: &v.ID})
	must(z.t, err)
	_, err = z.RestoreBackup(z.ctx, alice, b.ID, nil, nil)
	must(z.t, err)
	return func(failed bool) {
		z.keysAreThere()
		z.wantSecrets("four volumes and a backup", 5)
		if failed {
			return
		}
		if got := z.atHost(z.volume(clone.ID), "", len(hushed)); got != hushed {
			z.t.Errorf("the clone reads %q", got)
		}
		must(z.t, z.DeleteVolume(z.ctx, alice, fresh.ID, false))
		z.work(z.ctx)
		z.keysAreThere()
		z.wantSecrets("three volumes and a backup", 4)
	}
}

// encryptedDeletion deletes an encrypted volume.
func encryptedDeletion(z *zone) func(bool) {
	vt := z.encryptedType("hushed", block.BackEnd)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name})
	must(z.t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	return func(failed bool) {
		z.keysAreThere()
		z.wantGone(v.ID, failed)
		if failed {
			z.wantSecrets("the volume is in error", 1)
			return
		}
		z.wantSecrets("no volume", 0)
	}
}

// keysAreThere wants each encrypted volume to have its key.
func (z *zone) keysAreThere() {
	z.t.Helper()
	must(z.t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
		all, err := tx.Volumes(block.ListQuery{Limit: -1})
		for _, v := range all {
			if v.Encryption == nil {
				continue
			}
			if _, err := z.Sealer().Key(tx, v.Encryption.Key); err != nil {
				z.t.Errorf("volume %s has no key: %v", v.ID, err)
			}
		}
		return err
	}))
}

// TestSecondVersionOfLUKS: hosts may make containers of version 2, the zone does
// not say that it does.
func TestSecondVersionOfLUKS(t *testing.T) {
	z := newZone(t)
	vt, err := z.CreateType(z.ctx, operator, block.VolumeType{Name: "second", Public: true,
		ExtraSpecs: map[string]string{"volume_backend_name": "fast"}})
	must(t, err)
	e := block.TypeEncryption{TypeID: vt.ID, Provider: "luks2", ControlLocation: block.BackEnd}
	const refused = "The zone encrypts as in LUKS version 1; the provider must be luks where control_location is back-end."
	_, err = z.CreateTypeEncryption(z.ctx, operator, e)
	wantError(t, "by the zone", err, block.Invalid, refused)
	e.ControlLocation = block.FrontEnd
	_, err = z.CreateTypeEncryption(z.ctx, operator, e)
	must(t, err)
	wantError(t, "changed to the zone", z.UpdateTypeEncryption(z.ctx, operator, vt.ID,
		control.EncryptionChange{ControlLocation: ptr(block.BackEnd)}), block.Invalid, refused)
	made := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("second")})
	if v := z.volume(made.ID); v.Encryption == nil || v.Encryption.Provider != "luks2" {
		t.Errorf("the volume is encrypted by %+v", v.Encryption)
	}
}
