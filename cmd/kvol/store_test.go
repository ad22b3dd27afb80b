package main

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/driver/logstore"
)

// runStore runs "kvol store" with arguments and returns what it printed.
func runStore(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := storeCommand(&output{format: "table"})
	var printed bytes.Buffer
	c.SetArgs(args)
	c.SetOut(&printed)
	c.SetErr(&printed)
	c.SilenceErrors, c.SilenceUsage = true, true
	err := c.ExecuteContext(t.Context())
	return printed.String(), err
}

// TestStoreMend mends a store of which the index is whole, then one with a
// damaged table: what was lost is listed with its volume and told by the exit
// status, and a check names it until it is gone.
func TestStoreMend(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir)
	if out, err := runStore(t, "mend", dir); err != nil {
		t.Fatalf("a whole index: %v\n%s", err, out)
	}
	name, size := "", int64(0)
	err := filepath.WalkDir(filepath.Join(dir, "index"), func(p string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".sst") {
			info, ierr := e.Info()
			if err = ierr; err == nil && info.Size() > size {
				name, size = p, info.Size()
			}
		}
		return err
	})
	if err != nil || name == "" {
		t.Fatalf("the index has no table: %v", err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text[size/2] ^= 1
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged errDamaged
	out, err := runStore(t, "mend", dir)
	if !errors.As(err, &damaged) || damaged == 0 || !strings.Contains(out, "precious") {
		t.Fatalf("a damaged index: %v\n%s", err, out)
	}
	if out, err := runStore(t, "check", dir); !errors.As(err, &damaged) {
		t.Errorf("check: %v\n%s", err, out)
	}
	if out, err := runStore(t, "mend", t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no store") {
		t.Errorf("an empty directory: %v\n%s", err, out)
	}
}

// fill makes a store with a volume that is written to all over.
func fill(t *testing.T, dir string) {
	t.Helper()
	s, err := logstore.Open(t.Context(), logstore.Options{Dir: dir, SegmentSize: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateVolume(t.Context(), "precious", 4<<30); err != nil {
		t.Fatal(err)
	}
	d, err := s.OpenVolume(t.Context(), "precious")
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(6, 6))
	for range 4000 {
		if _, err := d.WriteAt(make([]byte, 4096), rnd.Int64N(1<<20)*4096); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.Close(), s.Check(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
}
