package keystone_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/control"
	ourglance "kvol/internal/glance"
	ours "kvol/internal/keystone"
)

// imageMiB is the size of the disks that images are made of.
const imageMiB = 6

// picture makes a file of random bytes and its form as an image of another format.
func (c *cloud) picture(format string, options ...string) (raw, path string) {
	c.Helper()
	dir := c.TempDir()
	raw, path = filepath.Join(dir, "raw"), filepath.Join(dir, "image")
	content := make([]byte, imageMiB<<20)
	chance := rand.NewChaCha8([32]byte{byte(len(format))})
	if _, err := chance.Read(content[1<<20:]); err != nil { // and zeros before
		c.Fatal(err)
	}
	if err := os.WriteFile(raw, content, 0o600); err != nil {
		c.Fatal(err)
	}
	c.qemu(append(append([]string{"convert", "-f", "raw", "-O", format}, options...), raw, path)...)
	return raw, path
}

func (c *cloud) qemu(args ...string) {
	c.Helper()
	if out, err := exec.CommandContext(c.Context(), "qemu-img", args...).CombinedOutput(); err != nil {
		c.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

// glanceCall asks Glance as a user, and wants a status.
func (c *cloud) glanceCall(status int, token, method, path, kind string, body io.Reader) answer {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, c.glance.URL()+"/v2/images"+path, body)
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("Content-Type", kind)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	if resp.StatusCode != status {
		c.Fatalf("%s %s: %d %s, want %d\n%s", method, path, resp.StatusCode, text, status, c.glance.Log())
	}
	return decoded(resp, text)
}

// upload puts a file into Glance as a user's image.
func (c *cloud) upload(token, format, path, more string) string {
	c.Helper()
	id := c.glanceCall(201, token, "POST", "", "application/json", strings.NewReader(fmt.Sprintf(
		`{"name":%q,"disk_format":%q,"container_format":"bare","visibility":"private"%s}`,
		filepath.Base(path), format, more))).at("id").(string)
	text, err := os.ReadFile(path)
	if err != nil {
		c.Fatal(err)
	}
	c.glanceCall(204, token, "PUT", "/"+id+"/file", "application/octet-stream", bytes.NewReader(text))
	return id
}

// of makes a volume of an image.
func (c *cloud) of(token, project, image string) string {
	c.Helper()
	return c.want(202, token, "POST", volumes(project), fmt.Sprintf(`{"volume":{"size":1,"imageRef":%q}}`, image)).
		at("volume", "id").(string)
}

// toImage makes an image of a volume and waits for it.
func (c *cloud) toImage(token, project, volume, format, more string) string {
	c.Helper()
	a := c.want(202, token, "POST", volumes(project)+"/"+volume+"/action", fmt.Sprintf(
		`{"os-volume_upload_image":{"image_name":"copy","disk_format":%q,"container_format":"bare"%s}}`, format, more),
		"OpenStack-API-Version", "volume 3.1")
	c.await(token, project, volume, "available")
	return a.at("os-volume_upload_image", "image_id").(string)
}

// images: what is in an image of each format is in the volume that is made of it,
// and in the image that is made of that.
func images(c *cloud) {
	alice := c.login("alice", c.blue)
	for _, format := range []struct {
		name, qemu string
		options    []string
		back       string
	}{{"qcow2", "qcow2", []string{"-c"}, "qcow2"}, {"raw", "raw", nil, "vmdk"},
		{"vmdk", "vmdk", []string{"-o", "subformat=streamOptimized"}, ""}} {
		raw, path := c.picture(format.qemu, format.options...)
		image := c.upload(alice, format.name, path, `,"min_disk":1,"hw_disk_bus":"scsi","os_distro":"debian"`)
		volume := c.of(alice, c.blue, image)
		shown := c.await(alice, c.blue, volume, "available")
		meta, _ := shown.at("volume", "volume_image_metadata").(map[string]any)
		kept := c.glanceCall(200, alice, "GET", "/"+image, "application/json", http.NoBody)
		if shown.at("volume", "bootable") != "true" || meta["image_id"] != image || meta["hw_disk_bus"] != "scsi" ||
			meta["os_distro"] != "debian" || meta["disk_format"] != format.name || meta["min_disk"] != "1" ||
			meta["checksum"] != kept.at("checksum") || meta["os_hash_algo"] != nil || meta["owner"] != nil {
			c.Errorf("%s: bootable %v, %v", format.name, shown.at("volume", "bootable"), meta)
		}
		if format.back == "" {
			continue
		}
		copied := c.toImage(alice, c.blue, volume, format.back, `,"visibility":"shared","protected":true`)
		about := c.glanceCall(200, alice, "GET", "/"+copied, "application/json", http.NoBody)
		if about.at("status") != "active" || about.at("visibility") != "shared" || about.at("protected") != true ||
			about.at("owner") != c.blue || about.at("hw_disk_bus") != "scsi" || about.at("os_hash_algo") != "sha512" {
			c.Errorf("the image is %s", about.text)
		}
		c.qemu("compare", "-f", "raw", "-F", format.back, raw, c.glance.File(copied))
		if format.name == "raw" { // back in raw, which is streamed with nothing between: what is behind it are zeros
			again := c.of(alice, c.blue, copied)
			c.await(alice, c.blue, again, "available")
		}
	}

	// Others' images are not there, and who asks for public ones has to be allowed.
	_, path := c.picture("raw")
	hers := c.upload(alice, "raw", path, "")
	bob := c.login("bob", c.green)
	a := c.want(400, bob, "POST", volumes(c.green), fmt.Sprintf(`{"volume":{"size":1,"imageRef":%q}}`, hers))
	if a.at("badRequest", "message") != "Invalid image identifier or unable to access requested image." {
		c.Error(a.text)
	}
	made := c.want(202, bob, "POST", volumes(c.green), `{"volume":{"size":1}}`).at("volume", "id").(string)
	c.await(bob, c.green, made, "available")
	c.want(403, bob, "POST", volumes(c.green)+"/"+made+"/action",
		`{"os-volume_upload_image":{"image_name":"x","visibility":"public"}}`, "OpenStack-API-Version", "volume 3.1")

	// A job goes on after the user's token has expired, by kvol's own beside it.
	k, err := ours.New(ours.Config{AuthURL: c.keystone.URL(), User: "kvol", Password: "kvols-password"})
	if err != nil {
		c.Fatal(err)
	}
	service, err := ourglance.New(ourglance.Config{Keystone: k, Region: "RegionOne"})
	if err != nil {
		c.Fatal(err)
	}
	late := block.Caller{Token: block.Token(c.keystone.Expired(c.T, c.alice, c.blue))}
	if img, err := service.Find(c.Context(), late, hers); err != nil || img.ID != hers {
		c.Errorf("with an expired token: %v %v", img, err)
	}
	if _, err := service.Find(c.Context(), block.Caller{Token: "nonsense"}, hers); !block.Is(err, block.Forbidden) {
		c.Errorf("with nonsense: %v", err)
	}
	var _ control.Images = service
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

// imageFailures: bytes that are not those of the image's hash make no volume, an
// upload that Glance refuses puts the volume back, and a Glance that comes back is
// waited for.
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

	// Glance takes no image of 1 GiB here.
	accepted := c.want(202, alice, "POST", volumes(c.blue)+"/"+whole+"/action",
		`{"os-volume_upload_image":{"image_name":"x","disk_format":"raw","protected":true}}`,
		"OpenStack-API-Version", "volume 3.1")
	c.await(alice, c.blue, whole, "available")
	if said := c.messages(alice, c.blue); !strings.Contains(said, whole) ||
		!strings.Contains(said, "copy volume to image") {
		c.Errorf("the tenant is told %s", said)
	}
	gone := accepted.at("os-volume_upload_image", "image_id").(string)
	err = client.Poll(c.Context(), 100*time.Millisecond, func() (bool, error) {
		r, err := http.NewRequestWithContext(c.Context(), "GET", c.glance.URL()+"/v2/images/"+gone, http.NoBody)
		if err != nil {
			return false, err
		}
		r.Header.Set("X-Auth-Token", alice)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false, err
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusNotFound, nil
	})
	if err != nil {
		c.Errorf("the image that was not uploaded stays: %v", err)
	}
}
