package demo

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"kvol/internal/zone"
)

// TestDemoOverADemoIsRefused shows that a directory with an earlier demo's data
// is left as it is, and that the error says what to do.
func TestDemoOverADemoIsRefused(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "kilo1", "data")
	if err := os.MkdirAll(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Run(t.Context(), Options{Dir: dir, Exe: "/nowhere", Out: &out, Now: time.Now})
	if err == nil || !strings.Contains(err.Error(), "holds a demo already") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

// TestZoneThatDoesNotStartFailsTheDemo shows that the demo ends with an error
// that names the zone.
func TestZoneThatDoesNotStartFailsTheDemo(t *testing.T) {
	exe, err := exec.LookPath("false")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = Run(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "d"), Exe: exe, Out: &out, Now: time.Now})
	if err == nil || !strings.Contains(err.Error(), "zone mitaka1 did not become ready") {
		t.Errorf("the error is %v", err)
	}
	if !strings.Contains(out.String(), "The demo FAILED") {
		t.Errorf("it said %s", out.String())
	}
}

// TestZonesElsewhere: a zone that is named has its volumes and its catalog where it is
// said, the others have theirs below the directory; one that the demo has not is refused
// before anything is written.
func TestZonesElsewhere(t *testing.T) {
	const url = "postgres://kvol@192.0.2.1/kilo2"
	dir := filepath.Join(t.TempDir(), "d")
	for _, e := range []Elsewhere{{Ceph: map[string]string{"kilo9": "c"}}, {Databases: map[string]string{"kilo9": url}}} {
		_, err := prepare(dir, 0, e)
		if err == nil || !strings.Contains(err.Error(), `no zone "kilo9"; it has mitaka1, kilo1`) {
			t.Errorf("the error is %v", err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("something was written: %v", err)
		}
	}
	conf := filepath.Join(t.TempDir(), "ceph.conf")
	topology, err := prepare(dir, 0, Elsewhere{Ceph: map[string]string{"kilo1": conf},
		Databases: map[string]string{"kilo2": url}})
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range topology.Zones {
		text, err := os.ReadFile(z.Config)
		if err != nil {
			t.Fatal(err)
		}
		var c zone.Config
		if err := yaml.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		store, catalog := zone.StoreConfig{Name: "main", Driver: "logstore", SegmentMiB: 64}, zone.CatalogConfig{}
		switch z.Name {
		case "kilo1":
			store = zone.StoreConfig{Name: "main", Driver: "rbd", RBD: zone.RBDConfig{Conf: conf, Pool: "rbd"}}
		case "kilo2":
			catalog.URL = url
		}
		if !reflect.DeepEqual(c.Stores, []zone.StoreConfig{store}) || c.Catalog != catalog {
			t.Errorf("zone %s has %+v and %+v", z.Name, c.Stores, c.Catalog)
		}
	}
}
