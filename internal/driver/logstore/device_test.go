package logstore

import (
	"bytes"
	"sync"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// TestWriteUnderWayWhileClosed holds a write until its volume was closed and
// then deleted, or rewound: it is refused, it is in nobody's history, and the
// store goes on and opens again.
func TestWriteUnderWayWhileClosed(t *testing.T) {
	to := driver.SnapshotRef{Volume: "v", Name: "p"}
	for name, end := range map[string]func(s *Store) error{
		"deleted": func(s *Store) error { return s.DeleteVolume(t.Context(), "v") },
		"rewound": func(s *Store) error { return s.Revert(t.Context(), to) },
		"neither": func(*Store) error { return nil },
	} {
		var once sync.Once
		in, on, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		mem, hooks := vfs.NewMem(1<<30, nil), &testHooks{between: func() { once.Do(func() { close(in); <-on }) }}
		o := crashOptions(mem, hooks)
		o.idle = true // nobody else reads
		s, err := Open(t.Context(), o)
		must(t, err)
		must(t, s.CreateVolume(t.Context(), "v", crashSize))
		open, err := s.OpenVolume(t.Context(), "v")
		must(t, err)
		writeNumbered(t, open, 0, 4)
		must(t, s.CreateSnapshot(t.Context(), to))
		go func() {
			_, err := open.WriteAt([]byte("late"), 100)
			done <- err
		}()
		<-in
		must(t, open.Close())
		must(t, end(s))
		close(on)
		d, p := open.(*device), bytes.Repeat([]byte{0xee}, blockSize)
		_, together := d.writeTogether([]driver.Part{{Data: p}, {Data: p, Off: blockSize}})
		for what, err := range map[string]error{"a part": <-done, "whole blocks": d.writeBlocks(0, p),
			"zeros": d.zeroBlocks(0, 1), "many": together} {
			if !block.Is(err, block.Unavailable) {
				t.Errorf("%s: writing %s late: %v, want Unavailable", name, what, err)
			}
		}
		if name != "deleted" {
			hasNumbered(t, s, 4)
		}
		must(t, s.CreateVolume(t.Context(), "other", crashSize))
		img := mem.Kill()
		endChecked(t, s)
		s, err = Open(t.Context(), crashOptions(img, nil))
		must(t, err)
		if name != "deleted" {
			hasNumbered(t, s, 4)
		}
		endChecked(t, s)
	}
}

// TestCloseWhileRead: a store is not closed under whoever reads a snapshot, and
// a reader that is still there when it ended without being asked is told so.
func TestCloseWhileRead(t *testing.T) {
	s := openTest(t, crashOptions(vfs.NewMem(1<<30, nil), nil))
	ref := driver.SnapshotRef{Volume: "v", Name: "p"}
	must(t, s.CreateVolume(t.Context(), "v", crashSize))
	must(t, s.CreateSnapshot(t.Context(), ref))
	r, err := s.OpenSnapshot(t.Context(), ref)
	must(t, err)
	if err := s.Close(); !block.Is(err, block.Conflict) {
		t.Errorf("closing: %v", err)
	}
	extents := func() (err error) {
		for _, e := range r.(driver.ExtentReader).Extents(0, r.Size()) {
			err = e
		}
		return err
	}
	must(t, extents())
	must(t, s.Check(t.Context()))
	s.release()
	if err := extents(); !block.Is(err, block.Unavailable) {
		t.Errorf("extents of a store that ended: %v", err)
	}
	must(t, r.Close())
}
