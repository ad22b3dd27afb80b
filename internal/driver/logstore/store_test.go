package logstore

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/vfs"
)

// quiet drops what a store logs; tests look at what it does.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestSuiteInMemory(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) driver.Driver {
		return openTest(t, Options{FS: vfs.NewMem(1<<30, nil), Dir: "s", SegmentSize: 1 << 20, CacheBytes: 1 << 20})
	})
}

func TestSuiteOnDisk(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) driver.Driver {
		return openTest(t, Options{Dir: t.TempDir(), SegmentSize: 1 << 20, CacheBytes: 8 << 20})
	})
}

// openTest opens a store that is checked and closed when the test ends.
func openTest(t testing.TB, o Options) *Store {
	t.Helper()
	o.Log = quiet()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.closed.Load() {
			if err := s.Check(context.Background()); err != nil {
				t.Errorf("check: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	return s
}
