package program

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSocketsOfKilledProcesses: what nobody has a lock on is removed when it is old, and
// what somebody uses stays.
func TestSocketsOfKilledProcesses(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	const prefix = "kvol-test-"
	old := time.Now().Add(-2 * socketsAge)
	make := func(name string, at time.Time) string {
		dir := filepath.Join(os.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "socket"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir, at, at); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	used, err := NewSockets(prefix, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(used.Dir, old, old); err != nil {
		t.Fatal(err)
	}
	left, young, other := make(prefix+"left", old), make(prefix+"young", time.Now()), make("else", old)
	again, err := NewSockets(prefix, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	exists := func(dir string) bool { _, err := os.Stat(dir); return err == nil }
	if exists(left) {
		t.Error("what a killed process left is there still")
	}
	for _, dir := range []string{used.Dir, young, other, again.Dir} {
		if !exists(dir) {
			t.Errorf("%s is gone", dir)
		}
	}
	for _, s := range []Sockets{used, again, used, {}} {
		if err := s.Remove(); err != nil || s.Dir != "" && exists(s.Dir) {
			t.Errorf("%s is not removed: %v", s.Dir, err)
		}
	}
}
