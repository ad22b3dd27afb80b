// Package drivertest is the suite that every driver passes: Run proves the
// contract of package driver sentence by sentence, then by random histories
// against a copy of the bytes, and then every capability that the driver
// claims. Faults is a wrapper that lets calls fail, for the tests of others. It
// is not about what one driver alone promises (formats, crashes of its files,
// cost): those tests lie with the driver.
package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
)

const kib4 = driver.BlockSize

// Run runs the whole suite. open gives an empty store; it registers the store's
// Close, and whatever check the driver has of itself, as clean-ups of t.
func Run(t *testing.T, open func(t *testing.T) driver.Driver) {
	t.Helper()
	run(t, open, effort{rounds: 60, seeds: 8})
}

// RunCostly is Run for drivers of which a call takes tenths of a second: every
// case, with fewer rounds of those that repeat.
func RunCostly(t *testing.T, open func(t *testing.T) driver.Driver) {
	t.Helper()
	run(t, open, effort{rounds: 6, seeds: 1})
}

// effort says how often the cases that repeat do so.
type effort struct {
	rounds int // snapshots of a group under writers
	seeds  int // random histories, unless SeedsVariable says more
	steps  int // of each history; 0: historySteps
}

func run(t *testing.T, open func(t *testing.T) driver.Driver, e effort) {
	t.Helper()
	groups := []struct {
		name  string
		cases []testCase
	}{
		{"Volume", volumeCases}, {"Device", deviceCases}, {"Snapshot", snapshotCases}, {"Clone", cloneCases},
		{"Capability", capabilityCases}, {"General", generalCases}, {"History", historyCases},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.cases {
				t.Run(c.name, func(t *testing.T) {
					c.run(&room{T: t, d: open(t), ctx: t.Context(), effort: e})
				})
			}
		})
	}
}

// RunReopen plays random histories on a store that is closed and opened again
// now and then. open gives the store that lies in dir; RunReopen closes it.
func RunReopen(t *testing.T, open func(t *testing.T, dir string) driver.Driver) {
	t.Helper()
	reopen(t, open, effort{seeds: 8})
}

// RunReopenCostly is RunReopen with one history, in which the store is opened at
// least twice.
func RunReopenCostly(t *testing.T, open func(t *testing.T, dir string) driver.Driver) {
	t.Helper()
	reopen(t, open, effort{seeds: 1, steps: 45})
}

func reopen(t *testing.T, open func(t *testing.T, dir string) driver.Driver, e effort) {
	t.Helper()
	dir := t.TempDir()
	opened := 0
	again := func() driver.Driver { opened++; return open(t, dir) }
	r := &room{T: t, d: again(), ctx: t.Context(), effort: e}
	r.histories(again)
	if opened < 2 {
		t.Errorf("the store was opened %d times", opened)
	}
	r.ok(r.d.Close())
}

type testCase struct {
	name string
	run  func(r *room)
}

// room is a store under test and what the cases do with it.
type room struct {
	*testing.T
	d   driver.Driver
	ctx context.Context
	effort
}

func (r *room) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("unexpected error: %v", err)
	}
}

func (r *room) want(kind block.Kind, err error) {
	r.Helper()
	if !block.Is(err, kind) {
		r.Fatalf("got %v, want an error of kind %q", err, kind)
	}
}

// volume makes a volume of n blocks.
func (r *room) volume(n int64) block.VolumeID {
	r.Helper()
	id := block.VolumeID(block.NewID())
	r.ok(r.d.CreateVolume(r.ctx, id, n*kib4))
	return id
}

func (r *room) open(id block.VolumeID) driver.Device {
	r.Helper()
	dev, err := r.d.OpenVolume(r.ctx, id)
	r.ok(err)
	r.Cleanup(func() { dev.Close() })
	return dev
}

// opened makes a volume of n blocks and opens it.
func (r *room) opened(n int64) (block.VolumeID, driver.Device) {
	r.Helper()
	id := r.volume(n)
	return id, r.open(id)
}

// snapshot takes a snapshot under a name of its own.
func (r *room) snapshot(id block.VolumeID) driver.SnapshotRef {
	r.Helper()
	ref := driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())}
	r.ok(r.d.CreateSnapshot(r.ctx, ref))
	return ref
}

func (r *room) openSnapshot(ref driver.SnapshotRef) driver.Reader {
	r.Helper()
	reader, err := r.d.OpenSnapshot(r.ctx, ref)
	r.ok(err)
	r.Cleanup(func() { reader.Close() })
	return reader
}

func (r *room) clone(from driver.SnapshotRef, blocks int64) (block.VolumeID, driver.Device) {
	r.Helper()
	id := block.VolumeID(block.NewID())
	r.ok(r.d.CloneSnapshot(r.ctx, id, from, blocks*kib4))
	return id, r.open(id)
}

func (r *room) write(dev driver.Device, p []byte, off int64) {
	r.Helper()
	n, err := dev.WriteAt(p, off)
	if err != nil || n != len(p) {
		r.Fatalf("WriteAt of %d bytes at %d: %d, %v", len(p), off, n, err)
	}
}

type sizedReader interface {
	ReadAt(p []byte, off int64) (int, error)
	Size() int64
}

func (r *room) read(from sizedReader, off, n int64) []byte {
	r.Helper()
	p := bytes.Repeat([]byte{0xee}, int(n)) // a reader that leaves the buffer alone is seen
	got, err := from.ReadAt(p, off)
	if err != nil || got != len(p) {
		r.Fatalf("ReadAt of %d bytes at %d: %d, %v", n, off, got, err)
	}
	return p
}

// holds checks that from holds exactly content.
func (r *room) holds(from sizedReader, content []byte) {
	r.Helper()
	if got := from.Size(); got != int64(len(content)) {
		r.Fatalf("Size is %d, want %d", got, len(content))
	}
	if where := firstDifference(r.read(from, 0, from.Size()), content); where != "" {
		r.Fatal(where)
	}
}

func firstDifference(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d (block %d, offset %d in it) is %#x, want %#x", i, i/kib4, i%kib4, got[i], want[i])
		}
	}
	return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
}

// pattern returns n bytes that differ from those of any other seed, none of
// its blocks zero.
func pattern(seed uint64, n int) []byte {
	var key [32]byte
	copy(key[:], fmt.Sprintf("drivertest %d", seed))
	p := make([]byte, n)
	rand.NewChaCha8(key).Read(p)
	for i := range p {
		p[i] |= 1
	}
	return p
}
