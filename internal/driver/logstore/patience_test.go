package logstore

import (
	"errors"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// TestIndexHiccup lets writing the index fail more often in a row than Pebble
// tries in a moment, its tables and its manifest: the store stops for errors
// that last, never for a lack of room, and goes on where neither is the case.
func TestIndexHiccup(t *testing.T) {
	const failures = 40
	for name, c := range map[string]struct {
		errno    syscall.Errno
		prefix   string
		suffix   string
		patience time.Duration
		stops    bool
	}{
		"tables, no room":      {syscall.ENOSPC, "", ".sst", time.Nanosecond, false},
		"manifest, no room":    {syscall.ENOSPC, "MANIFEST-", "", time.Nanosecond, false},
		"tables, quota":        {syscall.EDQUOT, "", ".sst", time.Nanosecond, false},
		"tables, a hiccup":     {syscall.EIO, "", ".sst", time.Hour, false},
		"manifest, a hiccup":   {syscall.EIO, "MANIFEST-", "", time.Hour, false},
		"tables, for good":     {syscall.EIO, "", ".sst", time.Minute / 2, true},
		"manifest, for a time": {syscall.EIO, "MANIFEST-", "", time.Minute / 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			var left atomic.Int32
			mem := vfs.NewMem(1<<30, nil)
			mem.Hook = func(op vfs.Op, file string) error {
				base := path.Base(file)
				if (op == vfs.OpCreate || op == vfs.OpWrite) && path.Base(path.Dir(file)) == "index" &&
					strings.HasPrefix(base, c.prefix) && strings.HasSuffix(base, c.suffix) && left.Add(-1) >= 0 {
					return c.errno
				}
				return nil
			}
			o := crashOptions(mem, nil)
			o.idle, o.indexPatience, o.Now = true, c.patience, leaps()
			s := openTest(t, o)
			must(t, s.CreateVolume(t.Context(), "v", crashSize))
			left.Store(failures)
			err := s.flushIndex()
			if c.stops {
				if !block.Is(err, block.Unavailable) || s.Status().Err == nil || left.Load() <= 0 {
					t.Errorf("after errors that last: %v", err)
				}
				left.Store(0)
				endChecked(t, s)
				return
			}
			if err != nil || left.Load() > 0 {
				t.Errorf("after %d failures: %v", failures-left.Load(), err)
			}
			must(t, s.CreateVolume(t.Context(), "w", crashSize))
		})
	}
}

// leaps is a clock that goes on by two seconds whenever it is looked at, so that
// pauses are over at once.
func leaps() func() time.Time {
	var n atomic.Int64
	return func() time.Time { return time.Unix(1_000_000+2*n.Add(1), 0) }
}

// TestCloseWithoutRoom: closing a store whose index has no room ends, with an
// error, and loses nothing.
func TestCloseWithoutRoom(t *testing.T) {
	var full atomic.Bool
	mem := vfs.NewMem(1<<30, nil)
	mem.Hook = func(op vfs.Op, file string) error {
		if op == vfs.OpCreate && full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}
	o := crashOptions(mem, nil)
	o.idle, o.indexPatience, o.Now = true, time.Minute/2, leaps()
	s := openTest(t, o)
	must(t, s.CreateVolume(t.Context(), "v", crashSize))
	full.Store(true)
	if err := s.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("closing: %v", err)
	}
	full.Store(false)
	s = openTest(t, o)
	if _, err := s.Snapshots(t.Context(), "v"); err != nil {
		t.Error(err)
	}
}

// TestPatiencePauses: pauses double up to a second, and begin anew with what is
// no more of the same.
func TestPatiencePauses(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	p := &patience{most: time.Hour, now: func() time.Time { return at }, log: quiet(), closing: make(chan struct{}),
		forRoom: func() bool { return false }}
	fail := func() time.Duration {
		p.failed(syscall.EIO)
		return p.delay
	}
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 320, 640, 1000, 1000} {
		if got := fail(); got != want*time.Millisecond {
			t.Errorf("failure %d asks for a pause of %v", i, got)
		}
	}
	if p.well(); fail() != firstPause {
		t.Error("a failure after success asks for a long pause")
	}
	fail()
	at = at.Add(failureGap + 1)
	if fail() != firstPause {
		t.Error("a failure long after asks for a long pause")
	}
	over := make(chan struct{})
	close(over)
	p.closing = over
	for range 40 {
		fail()
		p.pause()
	}
}
