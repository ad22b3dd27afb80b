package control_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/vfs"
)

// formats are those that need qemu-img.
var formats = []string{"qcow2", "vmdk", "vdi", "vhdx"}

// qemu runs qemu-img, and skips the test where there is none.
func qemu(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("qemu-img")
	if err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") == "1" {
			t.Fatal("qemu-img is not installed, and KVOL_REQUIRE_TOOLS=1")
		}
		t.Skip("NOT TESTED: QEMU-IMG IS NOT INSTALLED")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v: %s", args, err, out)
	}
}

// raw makes a file of some MiB that begins with a text.
func raw(t *testing.T, mib int, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raw")
	must(t, os.WriteFile(path, append([]byte(text), make([]byte, mib<<20-len(text))...), 0o600))
	return path
}

// lastJob returns the newest job of a volume.
func (z *zone) lastJob(id block.VolumeID) (j block.Job) {
	z.t.Helper()
	must(z.t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
		jobs, err := tx.JobsOf(string(id))
		j = jobs[len(jobs)-1]
		return err
	}))
	return j
}

func (z *zone) fromImage(image string) block.Volume {
	z.t.Helper()
	v, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1)), ImageRef: &image})
	must(z.t, err)
	z.work(z.ctx)
	return z.volume(v.ID)
}

func TestVolumeFromImage(t *testing.T) {
	z := newZone(t)
	for _, format := range formats {
		file := filepath.Join(t.TempDir(), "image")
		qemu(t, "convert", "-f", "raw", "-O", format, raw(t, 3, "boot "+format), file)
		stored, err := os.ReadFile(file)
		must(t, err)
		id := z.images.add(control.Image{Name: "os", DiskFormat: format, ContainerFormat: "bare", Checksum: "c",
			MinRAM: 5, Properties: map[string]string{"os_distro": "debian"}}, stored)
		v := z.fromImage(id)
		if v.Status != block.VolumeAvailable || !v.Bootable || v.ImageMetadata["image_id"] != id ||
			v.ImageMetadata["disk_format"] != format || v.ImageMetadata["os_distro"] != "debian" ||
			v.ImageMetadata["min_ram"] != "5" || v.ImageMetadata["image_name"] != "os" {
			t.Fatalf("%s: %+v (%s)", format, v, z.lastJob(v.ID).Error)
		}
		if got := z.content(v, 5+len(format)); got != "boot "+format {
			t.Errorf("%s: the volume reads %q", format, got)
		}
		clone := z.make(control.NewVolume{SourceVolumeID: &v.ID})
		if !clone.Bootable || clone.ImageMetadata["image_id"] != id {
			t.Errorf("%s: its clone is %+v", format, clone)
		}
	}
}

// TestBadImages: what can't be used, and what would read other files of this
// machine, puts the volume into error with a reason.
func TestBadImages(t *testing.T) {
	z := newZone(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	must(t, os.WriteFile(secret, bytes.Repeat([]byte("secret"), 1<<16), 0o600))
	backed := filepath.Join(dir, "backed")
	qemu(t, "create", "-f", "qcow2", "-b", secret, "-F", "raw", backed)
	backedBytes, err := os.ReadFile(backed)
	must(t, err)
	large := filepath.Join(dir, "large")
	qemu(t, "create", "-f", "qcow2", large, "2G")
	largeBytes, err := os.ReadFile(large)
	must(t, err)
	flat := "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n" +
		"RW 512 FLAT \"" + secret + "\" 0\n"
	for name, c := range map[string]struct {
		format string
		bytes  []byte
		want   string
	}{
		"backing file":  {"qcow2", backedBytes, "The image has a backing file, which is not allowed."},
		"too large":     {"qcow2", largeBytes, "Image virtual size is 2GB and doesn't fit in a volume of size 1GB."},
		"not a qcow2":   {"qcow2", []byte("hello"), "The image is no valid qcow2."},
		"several files": {"vmdk", []byte(flat), "is not allowed."},
		"no raw":        {"raw", largeBytes, "The image format was claimed to be 'raw' but the image data appears"},
		"unknown":       {"docker", []byte("x"), "Images of disk format docker can't be read."},
	} {
		v := z.fromImage(z.images.add(control.Image{DiskFormat: c.format}, c.bytes))
		if reason := z.lastJob(v.ID).Error; v.Status != block.VolumeError || !strings.Contains(reason, c.want) {
			t.Errorf("%s: the volume is %s: %s", name, v.Status, reason)
		}
	}
	must(t, os.Mkdir(filepath.Join(z.temp, "kvol-image-of-a-killed-process"), 0o700))
	z.restart()
	left, err := filepath.Glob(filepath.Join(z.temp, "*"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("conversions left %v", left)
	}
}

// TestCutImage: of less than the whole image no volume is made that is said to be it.
func TestCutImage(t *testing.T) {
	z := newZone(t)
	file := filepath.Join(t.TempDir(), "image")
	qemu(t, "convert", "-f", "raw", "-O", "qcow2", raw(t, 3, "boot"), file)
	cow, err := os.ReadFile(file)
	must(t, err)
	z.images.lose = 512
	for format, content := range map[string][]byte{"raw": bytes.Repeat([]byte("x"), 3<<20), "qcow2": cow} {
		v := z.fromImage(z.images.add(control.Image{Name: "os", DiskFormat: format, Checksum: "c"}, content))
		if reason := z.lastJob(v.ID).Error; v.Status != block.VolumeError || v.Bootable || len(v.ImageMetadata) > 0 ||
			!strings.Contains(reason, "of them could be read") {
			t.Errorf("%s: the volume is %s, of image %v: %s", format, v.Status, v.ImageMetadata, reason)
		}
	}
}

// TestRoomForConversion: an image that becomes far larger once it is converted fills
// no file system. What never fits ends in error with a reason; what does later waits.
func TestRoomForConversion(t *testing.T) {
	z := newZone(t)
	file := filepath.Join(t.TempDir(), "image")
	plain := filepath.Join(t.TempDir(), "raw")
	must(t, os.WriteFile(plain, bytes.Repeat([]byte("U"), 64<<20), 0o600))
	qemu(t, "convert", "-c", "-f", "raw", "-O", "qcow2", plain, file)
	stored, err := os.ReadFile(file)
	must(t, err)
	bomb := z.images.add(control.Image{Name: "os", DiskFormat: "qcow2"}, stored)
	var asked atomic.Int32
	spaceOf := func(total int64, free func(asked int32) int64) {
		asked.Store(0)
		z.space = func(string) (vfs.Space, error) {
			return vfs.Space{Total: total, Free: free(asked.Add(1))}, nil
		}
		z.restart()
	}
	spaceOf(63<<20, func(int32) int64 { return 63 << 20 })
	v := z.fromImage(bomb)
	told, err := z.Messages(z.ctx, alice, block.ListQuery{Limit: -1})
	must(t, err)
	if v.Status != block.VolumeError || len(told) != 1 ||
		!strings.HasSuffix(told[0].Text, "Image used for creating volume exceeds available space.") {
		t.Errorf("the volume is %s (%s); its project was told %+v", v.Status, z.lastJob(v.ID).Error, told)
	}
	spaceOf(1<<30, func(asked int32) int64 {
		if asked <= 2 { // the download, which fits, and the conversion, which does not
			return 100 << 20
		}
		return 1 << 30
	})
	if v = z.fromImage(bomb); v.Status != block.VolumeAvailable || z.content(v, 3) != "UUU" || asked.Load() < 4 {
		t.Errorf("the volume is %s; the room was looked at %d times", v.Status, asked.Load())
	}
	v = z.make(control.NewVolume{Size: ptr(int64(1))})
	z.write(v, bytes.Repeat([]byte("U"), 64<<20), 0)
	spaceOf(128<<20, func(int32) int64 { return 128 << 20 })
	up, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "copy", DiskFormat: "qcow2"})
	must(t, err)
	z.work(z.ctx)
	if _, err := z.images.Find(z.ctx, alice, up.ImageID); !block.Is(err, block.NotFound) ||
		z.volume(v.ID).Status != block.VolumeAvailable {
		t.Errorf("an upload without room: %v; the volume is %s", err, z.volume(v.ID).Status)
	}
	left, err := filepath.Glob(filepath.Join(z.temp, "*"))
	if must(t, err); len(left) > 0 {
		t.Errorf("conversions left %v", left)
	}
}

func TestWithoutQemu(t *testing.T) {
	z := newZone(t)
	z.qemu = "/nonexistent/qemu-img"
	z.restart()
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	_, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "i", DiskFormat: "qcow2"})
	wantError(t, "upload", err, block.Invalid,
		"Invalid input received: This zone has no qemu-img and can't write disk format qcow2; use raw.")
	if z.images.count() != 0 || z.volume(v.ID).Status != block.VolumeAvailable {
		t.Error("a refused upload left something")
	}
	made := z.fromImage(z.images.add(control.Image{DiskFormat: "vdi"}, []byte("x")))
	if reason := z.lastJob(made.ID).Error; made.Status != block.VolumeError || !strings.Contains(reason, "no qemu-img") {
		t.Errorf("the volume is %s: %s", made.Status, reason)
	}
}

func TestUpload(t *testing.T) {
	z := newZone(t)
	v := z.fromImage(z.images.add(control.Image{Name: "os", DiskFormat: "raw", Properties: map[string]string{"os": "x"}},
		[]byte("content")))
	for _, format := range formats {
		up, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "copy", DiskFormat: format})
		must(t, err)
		if _, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "x"}); !block.Is(err, block.Invalid) {
			t.Errorf("an upload during an upload: %v", err)
		}
		z.work(z.ctx)
		img, err := z.images.Find(z.ctx, alice, up.ImageID)
		must(t, err)
		if img.Status != "active" || img.Name != "copy" || img.DiskFormat != format || img.ContainerFormat != "bare" ||
			img.Visibility != "private" || img.Properties["os"] != "x" || len(img.Properties) != 1 {
			t.Errorf("%s: %+v", format, img)
		}
		if got := z.volume(v.ID).Status; got != block.VolumeAvailable {
			t.Errorf("%s: the volume is %s", format, got)
		}
		back := z.fromImage(up.ImageID)
		if got := z.content(back, 7); got != "content" {
			t.Errorf("%s comes back as %q", format, got)
		}
	}
	for _, format := range []string{"zz", "aki"} {
		_, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "i", DiskFormat: format})
		if !block.Is(err, block.Invalid) {
			t.Errorf("format %s: %v", format, err)
		}
	}
}

// TestUploadGone: the image was deleted by its owner meanwhile.
func TestUploadGone(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	up, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "i"})
	must(t, err)
	must(t, z.images.Delete(z.ctx, alice, up.ImageID))
	z.work(z.ctx)
	if got := z.volume(v.ID).Status; got != block.VolumeAvailable {
		t.Errorf("the volume is %s", got)
	}
	z.images.fail = func(string) error { return block.Errorf(block.Unavailable, "The image service is away.") }
	_, err = z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "i"})
	if !block.Is(err, block.Unavailable) || z.volume(v.ID).Status != block.VolumeAvailable {
		t.Errorf("without an image service: %v", err)
	}
	z.images.fail = nil
	z.wantStored(string(v.ID))
}

// TestImageRules: an image may name the type of volumes that are made of it; one
// that is compressed or signed makes none; and what is true of an image alone is not
// said of one that is made of the volume.
func TestImageRules(t *testing.T) {
	z := newZone(t)
	image := func(container string, properties map[string]string) string {
		return z.images.add(control.Image{DiskFormat: "raw", ContainerFormat: container, Properties: properties},
			[]byte("boot"))
	}
	create := func(image string, kind *string) (block.Volume, error) {
		return z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1)), ImageRef: &image, VolumeType: kind})
	}
	typed := image("bare", map[string]string{"cinder_img_volume_type": "slow", "os_glance_x": "1", "os": "debian",
		"signature_verified": "True"})
	for want, kind := range map[string]*string{"slow": nil, "fast": ptr("fast")} {
		v, err := create(typed, kind)
		must(t, err)
		z.work(z.ctx)
		if v = z.volume(v.ID); v.TypeName != want || v.ImageMetadata["signature_verified"] != "False" {
			t.Errorf("the volume is %+v, want type %s", v, want)
		}
		up, err := z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "copy"})
		must(t, err)
		img, err := z.images.Find(z.ctx, alice, up.ImageID)
		if must(t, err); len(img.Properties) != 2 || img.Properties["os"] != "debian" {
			t.Errorf("the image has %v", img.Properties)
		}
		z.work(z.ctx)
		_, err = z.UploadImage(z.ctx, alice, v.ID, control.UploadRequest{ImageName: "x", ContainerFormat: "compressed"})
		wantError(t, "a compressed upload", err, block.Invalid,
			"Invalid input received: Image compression upload disallowed, but container_format is compressed")
	}
	_, err := create(image("bare", map[string]string{"cinder_img_volume_type": "none"}), nil)
	wantError(t, "no such type", err, block.NotFound, "Volume type with name none could not be found.")
	for what, id := range map[string]string{"compressed": image("compressed", nil),
		"signed": image("bare", map[string]string{"img_signature": "x"})} {
		if v, err := create(id, nil); !block.Is(err, block.Invalid) {
			t.Errorf("of a %s image: %+v %v", what, v, err)
		}
	}
}
