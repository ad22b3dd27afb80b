package demo

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
