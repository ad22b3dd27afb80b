package keystone_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kvol/internal/client"
)

// unfit: images of which Cinder makes no volume are refused at once, with its
// sentences.
func unfit(c *cloud) {
	alice := c.login("alice", c.blue)
	_, path := c.picture("qcow2")
	large := filepath.Join(c.TempDir(), "large")
	c.qemu("create", "-q", "-f", "qcow2", large, "2G")
	queued := c.glanceCall(201, alice, "POST", "", "application/json", strings.NewReader(
		`{"name":"queued","disk_format":"raw","container_format":"bare"}`)).at("id").(string)
	idle := c.upload(alice, "qcow2", path, "")
	c.glanceCall(204, c.admin(), "POST", "/"+idle+"/actions/deactivate", "application/json", http.NoBody)
	signed := c.upload(alice, "qcow2", path, "")
	c.glanceCall(200, alice, "PATCH", "/"+signed, "application/openstack-images-v2.1-json-patch",
		strings.NewReader(`[{"op":"add","path":"/img_signature","value":"x"}]`))
	small := c.upload(alice, "qcow2", path, `,"min_disk":2`)
	wide := c.upload(alice, "qcow2", large, "")
	typed := c.upload(alice, "qcow2", path, `,"cinder_img_volume_type":"none"`)
	for image, want := range map[string]string{
		queued: "is not active.", idle: "is not active.", signed: "is signed, and its signature can't be verified here.",
		small: "Volume size 1GB cannot be smaller than the image minDisk size 2GB.",
		wide:  "Image virtual size is 2GB and doesn't fit in a volume of size 1GB.",
		typed: "Volume type with name none could not be found.",
	} {
		a := c.ask(alice, "POST", volumes(c.blue), fmt.Sprintf(`{"volume":{"size":1,"imageRef":%q}}`, image))
		if a.status != http.StatusBadRequest && a.status != http.StatusNotFound || !strings.Contains(a.text, want) {
			c.Errorf("%d %s, want %s", a.status, a.text, want)
		}
	}
}

// attacks: an image that would have qemu-img read other files of this machine makes
// no volume, and its owner is told.
func attacks(c *cloud) {
	alice := c.login("alice", c.blue)
	dir := c.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, bytes.Repeat([]byte("secret! "), 128<<10), 0o600); err != nil {
		c.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	c.qemu("create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, at("backing"))
	c.qemu("create", "-q", "-f", "qcow2", "-o", "data_file="+at("data"), at("datafile"), "1M")
	c.qemu("create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", at("flat.vmdk"), "1M")
	descriptor, err := os.ReadFile(at("flat.vmdk"))
	if err != nil {
		c.Fatal(err)
	}
	descriptor = bytes.ReplaceAll(descriptor, []byte("flat-flat.vmdk"), []byte(secret))
	if err := os.WriteFile(at("flat"), descriptor, 0o600); err != nil {
		c.Fatal(err)
	}
	for name, format := range map[string]string{"backing": "qcow2", "datafile": "qcow2", "flat": "vmdk",
		"secret": "qcow2"} {
		image := c.upload(alice, format, at(name), "")
		volume := c.of(alice, c.blue, image)
		c.failed(alice, c.blue, volume, "error")
		if said := c.messages(alice, c.blue); !strings.Contains(said, volume) || !strings.Contains(said,
			"copy image to volume") {
			c.Errorf("%s: the tenant is told %s", name, said)
		}
		c.want(202, alice, "DELETE", volumes(c.blue)+"/"+volume, "")
	}
}

// failed waits until a volume is in a status, whatever it is in before.
func (c *cloud) failed(token, project, volume, status string) {
	c.Helper()
	err := client.Poll(c.Context(), 50*time.Millisecond, func() (bool, error) {
		a := c.want(200, token, "GET", "/v3/"+project+"/volumes/"+volume, "")
		if now := a.at("volume", "status"); now == "available" && status != now {
			return false, fmt.Errorf("the volume is available")
		}
		return a.at("volume", "status") == status, nil
	})
	if err != nil {
		c.Fatal(err)
	}
}

// imageFailures: bytes that are not those of the image's hash make no volume, nor do
// such as end early, and a Glance that comes back is waited for.
func imageFailures(c *cloud) {
	alice := c.login("alice", c.blue)
	_, path := c.picture("raw")
	image := c.upload(alice, "raw", path, "")
	file, err := os.OpenFile(c.glance.File(image), os.O_WRONLY, 0)
	if err != nil {
		c.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("changed"), imageMiB<<20-7); err != nil {
		c.Fatal(err)
	}
	if err := file.Close(); err != nil {
		c.Fatal(err)
	}
	c.failed(alice, c.blue, c.of(alice, c.blue, image), "error")
	if err := os.Truncate(c.glance.File(image), 1<<20); err != nil { // Glance says how long it was
		c.Fatal(err)
	}
	short := c.of(alice, c.blue, image)
	c.inTime(alice, c.blue, short, "error")
	c.want(202, alice, "DELETE", volumes(c.blue)+"/"+short, "")

	// A Glance that is away when it is asked is said to be so; while a job needs it,
	// it is waited for.
	_, path = c.picture("qcow2")
	image = c.upload(alice, "qcow2", path, "")
	ready := c.want(202, alice, "POST", volumes(c.blue), `{"volume":{"size":1}}`).at("volume", "id").(string)
	c.await(alice, c.blue, ready, "available")
	whole := c.of(alice, c.blue, image)
	c.glance.Kill()
	a := c.want(503, alice, "POST", volumes(c.blue), fmt.Sprintf(`{"volume":{"size":1,"imageRef":%q}}`, image))
	if a.at("serviceUnavailable", "message") != "The image service can't be reached." {
		c.Error(a.text)
	}
	c.want(503, alice, "POST", volumes(c.blue)+"/"+ready+"/action", `{"os-volume_upload_image":{"image_name":"x"}}`)
	c.glance.Resume(c.T)
	c.glance.Await(c.T)
	c.await(alice, c.blue, whole, "available")
}
