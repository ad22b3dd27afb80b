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

	"kvol/internal/block"
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

// glanceAsk asks Glance as a user.
func (c *cloud) glanceAsk(token, method, path, kind string, body io.Reader) answer {
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
	return decoded(resp, text)
}

// glanceCall is glanceAsk for an answer of a status.
func (c *cloud) glanceCall(status int, token, method, path, kind string, body io.Reader) answer {
	c.Helper()
	a := c.glanceAsk(token, method, path, kind, body)
	if a.status != status {
		c.Fatalf("%s %s: %d %s, want %d\n%s", method, path, a.status, a.text, status, c.glance.Log())
	}
	return a
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

// begin begins to make an image of a volume.
func (c *cloud) begin(token, project, volume, format, more string) (image string) {
	c.Helper()
	return c.want(202, token, "POST", volumes(project)+"/"+volume+"/action", fmt.Sprintf(
		`{"os-volume_upload_image":{"image_name":"a copy","disk_format":%q,"container_format":"bare"%s}}`, format, more),
		"OpenStack-API-Version", "volume 3.1").at("os-volume_upload_image", "image_id").(string)
}

// toImage makes an image of a volume and waits for it.
func (c *cloud) toImage(token, project, volume, format, more string) (image string) {
	c.Helper()
	image = c.begin(token, project, volume, format, more)
	c.await(token, project, volume, "available")
	return image
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
