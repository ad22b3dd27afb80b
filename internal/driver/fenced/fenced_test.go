package fenced_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/fenced"
	"kvol/internal/driver/mem"
)

// turn counts who is inside, and lets nobody in any more when it is over.
type turn struct {
	inside, entered atomic.Int64
	over            atomic.Bool
}

func (t *turn) Enter(context.Context) error {
	if t.over.Load() {
		return errors.New("it is over")
	}
	t.inside.Add(1)
	t.entered.Add(1)
	return nil
}

func (t *turn) Leave() { t.inside.Add(-1) }

// TestFenced: a fenced store is a store; when the turn is over every change is
// refused and changes nothing, and what is read is as before.
func TestFenced(t *testing.T) {
	own := &turn{}
	drivertest.Run(t, func(t *testing.T) driver.Driver {
		return fenced.New(context.WithoutCancel(t.Context()), mem.New(mem.Options{}), own)
	})
	if own.inside.Load() != 0 || own.entered.Load() == 0 {
		t.Errorf("%d of %d are inside", own.inside.Load(), own.entered.Load())
	}
}

// copied is a store whose volumes are copied to another one.
type copied struct{ *mem.Store }

func (copied) Mirror(context.Context, block.VolumeID) (uint64, error) { return 1, nil }
func (copied) Unmirror(context.Context, block.VolumeID) error         { return nil }
func (copied) Mirrored(context.Context, block.VolumeID, uint64) (driver.MirrorState, error) {
	return driver.MirrorState{}, nil
}

func TestOver(t *testing.T) {
	own, store := &turn{}, mem.New(mem.Options{})
	s := fenced.New(t.Context(), copied{store}, own)
	m, ok := driver.As[driver.Mirrorer](s)
	if !ok {
		t.Fatal("a store that is mirrored is not any more")
	}
	ctx, at := t.Context(), driver.SnapshotRef{Volume: "v", Name: "p"}
	if err := errors.Join(s.CreateVolume(ctx, "v", block.GiB), s.CreateSnapshot(ctx, at)); err != nil {
		t.Fatal(err)
	}
	dev, err := s.OpenVolume(ctx, "v")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	reader, err := s.OpenSnapshot(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	before, err := store.Changes(ctx, "v")
	if err != nil {
		t.Fatal(err)
	}
	own.over.Store(true)
	p := make([]byte, driver.BlockSize)
	for what, do := range map[string]func() error{
		"create":      func() error { return s.CreateVolume(ctx, "w", block.GiB) },
		"clone":       func() error { return s.CloneSnapshot(ctx, "w", at, block.GiB) },
		"extend":      func() error { return s.ExtendVolume(ctx, "v", 2*block.GiB) },
		"delete":      func() error { return s.DeleteVolume(ctx, "v") },
		"snapshot":    func() error { return s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "q"}) },
		"snapshots":   func() error { return s.CreateSnapshots(ctx, []driver.SnapshotRef{{Volume: "v", Name: "q"}}) },
		"drop":        func() error { return s.DeleteSnapshot(ctx, at) },
		"revert":      func() error { return s.Revert(ctx, at) },
		"lend":        func() error { return s.Lend(ctx, "v") },
		"cut":         func() error { return s.Cut(ctx, "v", nil) },
		"withhold":    func() error { return s.Withhold(ctx, "v") },
		"reclaim":     func() error { return s.Reclaim(ctx, "v") },
		"mirror":      func() error { _, err := m.Mirror(ctx, "v"); return err },
		"unmirror":    func() error { return m.Unmirror(ctx, "v") },
		"open":        func() error { _, err := s.OpenVolume(ctx, "v"); return err },
		"read":        func() error { _, err := s.OpenSnapshot(ctx, at); return err },
		"write":       func() error { _, err := dev.WriteAt(p, 0); return err },
		"zero":        func() error { return dev.Zero(0, driver.BlockSize) },
		"write parts": func() error { _, err := driver.WriteMany(dev, []driver.Part{{Data: p}}); return err },
	} {
		if err := do(); !block.Is(err, block.Unavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	after, err := store.Changes(ctx, "v")
	if _, read := dev.ReadAt(p, 0); err != nil || read != nil || after != before {
		t.Errorf("changes went from %d to %d: %v, %v", before, after, err, read)
	}
	if _, err := reader.ReadAt(p, 0); err != nil {
		t.Errorf("a snapshot that is open: %v", err)
	}
}
