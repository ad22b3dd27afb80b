package logstore

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"syscall"
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

// endChecked lets go of a store without closing it, as a crash would, after a
// check; a store with a deliberate mistake in it is not checked.
func endChecked(t testing.TB, s *Store) {
	t.Helper()
	if s.hooks == nil || s.hooks.on.Load() == 0 {
		if err := s.Check(context.Background()); err != nil {
			t.Errorf("check: %v", err)
		}
	}
	s.release()
}

// refuses is a file system that won't stop copying on write.
type refuses struct {
	vfs.FS
	asked int
}

func (r *refuses) NoCopyOnWrite(string) error {
	r.asked++
	return syscall.EOPNOTSUPP
}

// TestCopyOnWriteRefused: a file system that copies on write and won't stop is
// asked and complained about once, when the store is made; the store works.
func TestCopyOnWriteRefused(t *testing.T) {
	var said bytes.Buffer
	fsys := &refuses{FS: vfs.NewMem(1<<30, nil)}
	for range 2 {
		s, err := Open(t.Context(), Options{FS: fsys, Dir: "s", SegmentSize: 1 << 20,
			Log: slog.New(slog.NewTextHandler(&said, nil))})
		must(t, err)
		must(t, s.CreateVolume(t.Context(), "v", 1<<20))
		must(t, s.Check(t.Context()))
		must(t, s.Close())
	}
	if n := strings.Count(said.String(), "copies on write"); n != 1 || fsys.asked != 1 {
		t.Errorf("asked %d times, said %q", fsys.asked, said.String())
	}
}
