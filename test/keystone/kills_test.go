package keystone_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kvol/internal/client"
)

// maxPeakMiB is what a zone may have of memory at most while it moves images of
// 1 GiB.
const maxPeakMiB = 400

// midway begins to make a raw image of a volume and returns when Glance has taken
// some of it, and not all: Glance hangs then.
func (c *cloud) midway(token, project, volume string) (image string) {
	c.Helper()
	for {
		image = c.begin(token, project, volume, "raw", `,"protected":true`)
		err := client.Poll(c.Context(), 5*time.Millisecond, func() (bool, error) {
			info, err := os.Stat(c.glance.File(image))
			return err == nil && info.Size() > 0, nil
		})
		if err != nil {
			c.Fatal(err)
		}
		c.glance.Pause(c.T)
		if info, err := os.Stat(c.glance.File(image)); err == nil && info.Size() < 1<<30 {
			return image
		}
		c.glance.Continue(c.T) // it was faster than us
		c.await(token, project, volume, "available")
	}
}

// kvolDies: a zone that is killed while it moves an image goes on when it is back:
// with what it sends to Glance, and with what it gets from there. All of 1 GiB is
// streamed.
func kvolDies(c *cloud) {
	alice := c.login("alice", c.blue)
	raw, path := c.picture("qcow2")
	source := c.upload(alice, "qcow2", path, "")
	p := c.process()
	volume := p.of(alice, c.blue, source)
	p.await(alice, c.blue, volume, "available")

	image := p.midway(alice, c.blue, volume)
	p.kill()
	c.glance.Continue(c.T)
	p.start()
	p.await(alice, c.blue, volume, "available")
	about := c.glanceCall(200, alice, "GET", "/"+image, "application/json", http.NoBody)
	if about.at("status") != "active" || about.at("size") != float64(1<<30) {
		c.Errorf("the image is %s", about.text)
	}
	c.qemu("compare", "-f", "raw", "-F", "raw", raw, c.glance.File(image))
	peak := p.peak()

	// The next one is of that image: Glance hangs before it has sent it all.
	copied := p.of(alice, c.blue, image)
	err := client.Poll(c.Context(), 5*time.Millisecond, func() (bool, error) {
		status := p.want(200, alice, "GET", volumes(c.blue)+"/"+copied, "").at("volume", "status")
		return status == "downloading" || status == "available", nil
	})
	if err != nil {
		c.Fatal(err)
	}
	c.glance.Pause(c.T)
	p.kill()
	c.glance.Continue(c.T)
	p.start()
	p.await(alice, c.blue, copied, "available")
	again := p.toImage(alice, c.blue, copied, "qcow2", "")
	c.qemu("compare", "-f", "raw", "-F", "qcow2", raw, c.glance.File(again))
	if peak = max(peak, p.peak()); peak > maxPeakMiB {
		c.Errorf("the zone had %d MiB of memory", peak)
	}

	// Glance has no room for another one.
	refused := p.begin(alice, c.blue, copied, "raw", `,"protected":true`)
	p.await(alice, c.blue, copied, "available")
	if said := p.messages(alice, c.blue); !strings.Contains(said, copied) ||
		!strings.Contains(said, "copy volume to image") {
		c.Errorf("the tenant is told %s", said)
	}
	p.gone(alice, refused)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(p.config), "*", "kvol-image-*"))
	if err != nil || len(left) > 0 {
		c.Errorf("it left %v %v", left, err)
	}
	c.unprotect(alice, image)
}

// gone waits until Glance has no such image.
func (c *cloud) gone(token, image string) {
	c.Helper()
	err := client.Poll(c.Context(), 100*time.Millisecond, func() (bool, error) {
		a := c.glanceAsk(token, "GET", "/"+image, "application/json", http.NoBody)
		return a.status == http.StatusNotFound, nil
	})
	if err != nil {
		c.Fatal(err)
	}
}

// unprotect deletes an image that is protected.
func (c *cloud) unprotect(token, image string) {
	c.Helper()
	c.glanceCall(200, token, "PATCH", "/"+image, "application/openstack-images-v2.1-json-patch",
		strings.NewReader(`[{"op":"replace","path":"/protected","value":false}]`))
	c.glanceCall(204, token, "DELETE", "/"+image, "application/json", http.NoBody)
}

// glanceDies: a volume of which an image is being made is available again where
// Glance does not come back, and the image is gone when it does. One that hangs is
// given up for that attempt, and gets the image at the next one.
func glanceDies(c *cloud) {
	alice := c.login("alice", c.blue)
	volume := c.want(202, alice, "POST", volumes(c.blue), `{"volume":{"size":1}}`).at("volume", "id").(string)
	c.await(alice, c.blue, volume, "available")

	image := c.midway(alice, c.blue, volume)
	c.glance.Kill()
	c.inTime(alice, c.blue, volume, "available")
	if said := c.messages(alice, c.blue); !strings.Contains(said, volume) ||
		!strings.Contains(said, "copy volume to image") {
		c.Errorf("the tenant is told %s", said)
	}
	c.glance.Resume(c.T)
	c.glance.Await(c.T)
	if a := c.glanceAsk(alice, "GET", "/"+image, "application/json", http.NoBody); a.at("status") == "active" {
		c.Errorf("half an image is active: %s", a.text)
	}
	c.hurried(alice, c.blue, func() (bool, error) {
		a := c.glanceAsk(alice, "GET", "/"+image, "application/json", http.NoBody)
		return a.status == http.StatusNotFound, nil
	})

	image = c.midway(alice, c.blue, volume)
	before := c.attempts("volume.upload", "retried")
	err := client.Poll(c.Context(), 100*time.Millisecond, func() (bool, error) {
		return c.attempts("volume.upload", "retried") > before, nil
	})
	if err != nil {
		c.Fatal(err)
	}
	c.glance.Continue(c.T)
	c.await(alice, c.blue, volume, "available")
	about := c.glanceCall(200, alice, "GET", "/"+image, "application/json", http.NoBody)
	if about.at("status") != "active" || about.at("size") != float64(1<<30) {
		c.Errorf("the image is %s", about.text)
	}
	c.unprotect(alice, image)
	c.want(202, alice, "DELETE", volumes(c.blue)+"/"+volume, "")
}

// attempts is how many attempts at jobs of a kind ended in a way.
func (c *cloud) attempts(kind, outcome string) (n int) {
	c.Helper()
	want := fmt.Sprintf("kvol_job_attempts_total{kind=%q,outcome=%q} %%d", kind, outcome)
	for line := range strings.Lines(c.want(200, "", "GET", "/metrics", "").text) {
		if found, _ := fmt.Sscanf(line, want, &n); found == 1 {
			return n
		}
	}
	return 0
}

// inTime waits until a volume is in a status while the zone's clock goes fast, so
// that nobody waits for what is tried again.
func (c *cloud) inTime(token, project, volume, status string) {
	c.Helper()
	c.hurried(token, project, func() (bool, error) {
		return c.want(200, token, "GET", volumes(project)+"/"+volume, "").at("volume", "status") == status, nil
	})
}

// hurried waits for something that a job does which is tried again and again: each
// time the clock goes ahead and another job wakes the runner.
func (c *cloud) hurried(token, project string, done func() (bool, error)) {
	c.Helper()
	err := client.Poll(c.Context(), 300*time.Millisecond, func() (bool, error) {
		if ok, err := done(); ok || err != nil {
			return ok, err
		}
		c.later(30 * time.Second)
		waker := c.want(202, token, "POST", volumes(project), `{"volume":{"size":1}}`).at("volume", "id").(string)
		c.await(token, project, waker, "available")
		c.want(202, token, "DELETE", volumes(project)+"/"+waker, "")
		return false, nil
	})
	if err != nil {
		c.Fatal(err)
	}
}
