package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCatalogMoveOfNoFile: a mistyped path is said to be one, and no catalog is made
// there.
func TestCatalogMoveOfNoFile(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{filepath.Join(dir, "catlog.db"): "there is no such file",
		dir: "is no file"} {
		out, err := kvol(t, "catalog", "move", path, "postgres://kvol@127.0.0.1:1/kvol")
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "catlog.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}
