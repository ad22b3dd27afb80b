package zone_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
)

// endingZone is a zone that a test ends, on a catalog that outlives it.
type endingZone struct {
	t    *testing.T
	url  string
	stop context.CancelFunc
	done chan error // gets what Run returns
}

func newEndingZone(t *testing.T, dir string) *endingZone {
	t.Helper()
	path := filepath.Join(dir, "kvol.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, lonely, ""), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := zone.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := zone.Open(t.Context(), c, zone.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	z := &endingZone{t: t, url: s.URL(), done: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	z.stop = stop
	go func() { z.done <- s.Run(ctx) }()
	return z
}

func (z *endingZone) login() *client.Session {
	z.t.Helper()
	s, err := client.Login(z.t.Context(), client.Auth{URL: z.url + "/identity", User: "alice",
		Password: "a long password", Project: "blue", HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		z.t.Fatal(err)
	}
	return s
}

// image makes one without bytes.
func (z *endingZone) image(s *client.Session) string {
	z.t.Helper()
	i, err := s.CreateImage(z.t.Context(), client.NewImage{Name: "i", DiskFormat: "raw", ContainerFormat: "bare"})
	if err != nil {
		z.t.Fatal(err)
	}
	return i.ID
}

// upload begins to send an image's bytes, and returns where the rest goes and what
// becomes of it.
func (z *endingZone) upload(s *client.Session, id string) (*io.PipeWriter, <-chan error) {
	z.t.Helper()
	r, w := io.Pipe()
	answered := make(chan error, 1)
	go func() { answered <- s.UploadImage(z.t.Context(), id, r) }()
	if _, err := w.Write([]byte("half")); err != nil {
		z.t.Fatal(err)
	}
	for { // until the zone is at it
		i, err := s.Image(z.t.Context(), id)
		if err != nil {
			z.t.Fatal(err)
		}
		if i.Status == "saving" {
			return w, answered
		}
	}
}

// end tells the zone to end, and returns when it takes no more requests.
func (z *endingZone) end() {
	z.stop()
	for {
		conn, err := net.Dial("tcp", strings.TrimPrefix(z.url, "http://"))
		if err != nil {
			return
		}
		conn.Close()
	}
}

// TestRequestsUnderWayAreDone ends a zone while it takes an image: it is taken whole,
// and still there after the next start.
func TestRequestsUnderWayAreDone(t *testing.T) {
	dir := t.TempDir()
	z := newEndingZone(t, dir)
	s := z.login()
	id := z.image(s)
	rest, answered := z.upload(s, id)
	z.end()
	if _, err := rest.Write([]byte(" and half")); err != nil {
		t.Error(err)
	}
	rest.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-z.done; err != nil {
		t.Error(err)
	}
	z = newEndingZone(t, dir)
	var got bytes.Buffer
	if err := z.login().DownloadImage(t.Context(), id, &got); err != nil || got.String() != "half and half" {
		t.Errorf("%q, %v", got.String(), err)
	}
	z.stop()
	if err := <-z.done; err != nil {
		t.Error(err)
	}
}

// TestRequestsThatTakeTooLongAreToldSo ends a zone while it takes an image that never
// ends: its client hears that it is not done, and so it is.
func TestRequestsThatTakeTooLongAreToldSo(t *testing.T) {
	t.Parallel() // waits for the zone's patience
	dir := t.TempDir()
	z := newEndingZone(t, dir)
	s := z.login()
	id := z.image(s)
	rest, answered := z.upload(s, id)
	z.end()
	trickle := time.NewTicker(10 * time.Millisecond)
	defer trickle.Stop()
	for waiting := true; waiting; {
		select {
		case err := <-answered:
			waiting = false
			if err == nil || !strings.Contains(err.Error(), "did not finish") {
				t.Errorf("the upload ended with %v", err)
			}
		case <-trickle.C:
			go rest.Write([]byte("more")) //nolint:errcheck // nobody reads once it is answered
		}
	}
	rest.Close()
	if err := <-z.done; err != nil {
		t.Error(err)
	}
	z = newEndingZone(t, dir)
	if i, err := z.login().Image(t.Context(), id); err != nil || i.Status != "queued" {
		t.Errorf("the image is %s, %v", i.Status, err)
	}
	z.stop()
	if err := <-z.done; err != nil {
		t.Error(err)
	}
}
