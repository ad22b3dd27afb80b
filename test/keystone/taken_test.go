package keystone_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
)

// taken: what a zone takes that others refuse: signed images where it is told to,
// and volumes that hosts have open where who asks for their image insists.
func taken(c *cloud) {
	alice := c.login("alice", c.blue)
	raw, path := c.picture("qcow2")
	signed := c.upload(alice, "qcow2", path, "")
	c.glanceCall(200, alice, "PATCH", "/"+signed, "application/openstack-images-v2.1-json-patch",
		strings.NewReader(`[{"op":"add","path":"/img_signature","value":"x"},{"op":"add","path":"/os_distro","value":"y"}]`))
	p := c.processOf(strings.Replace(config, "stall: 15s", "stall: 15s, signed_images: accept", 1))
	volume := p.of(alice, c.blue, signed)
	shown := p.await(alice, c.blue, volume, "available")
	meta, _ := shown.at("volume", "volume_image_metadata").(map[string]any)
	if meta["signature_verified"] != "False" || meta["img_signature"] != "x" || meta["os_distro"] != "y" {
		c.Errorf("the volume says of its image %v", meta)
	}

	const writes = "write -P 0xab 1M 64k"
	url := p.attach(alice, volume)
	for _, at := range []string{url, raw} { // what the image has to have
		out, err := exec.CommandContext(c.Context(), "qemu-io", "-f", "raw", "-c", writes, at).CombinedOutput()
		if err != nil {
			c.Fatalf("%s: %v\n%s", at, err, out)
		}
	}
	refused := p.want(http.StatusBadRequest, alice, "POST", volumes(c.blue)+"/"+volume+"/action",
		`{"os-volume_upload_image":{"image_name":"a copy","disk_format":"qcow2"}}`, "OpenStack-API-Version", "volume 3.1")
	if !strings.Contains(refused.text, fmt.Sprintf("Volume %s status must be available", volume)) {
		c.Error(refused.text)
	}
	image := p.begin(alice, c.blue, volume, "qcow2", `,"force":true`)
	p.await(alice, c.blue, volume, "in-use")
	about := c.glanceCall(200, alice, "GET", "/"+image, "application/json", http.NoBody)
	if about.at("status") != "active" || about.at("os_distro") != "y" || about.at("img_signature") != nil {
		c.Errorf("the image is %s", about.text)
	}
	c.qemu("compare", "-f", "raw", "-F", "qcow2", raw, c.glance.File(image))
}

// attach makes a volume one that a host has open, and returns where.
func (c *cloud) attach(token, volume string) (url string) {
	c.Helper()
	const server = "c0ffee00-0000-4000-8000-000000000002"
	a := c.want(200, token, "POST", "/v3/"+c.blue+"/attachments", fmt.Sprintf(
		`{"attachment":{"volume_uuid":%q,"instance_uuid":%q,"connector":{"host":"h","ip":"127.0.0.1"}}}`, volume, server),
		"OpenStack-API-Version", "volume 3.54")
	url, _ = a.at("attachment", "connection_info", "url").(string)
	c.want(
		http.StatusNoContent,
		token,
		"POST",
		fmt.Sprintf("/v3/%s/attachments/%v/action", c.blue, a.at("attachment", "id")),
		`{"os-complete":{}}`,
		"OpenStack-API-Version",
		"volume 3.54",
	)
	c.await(token, c.blue, volume, "in-use")
	if url == "" {
		c.Fatalf("no path was given: %s", a.text)
	}
	return url
}
