package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"kvol/internal/block"
	"kvol/internal/driver"
)

var capabilityCases = []testCase{
	{"Differ", func(r *room) { capable(r, func(d driver.Differ) { differ(r, d.Diff) }) }},
	{"DiffReader", func(r *room) { capable(r, func(d driver.DiffReader) { differ(r, r.pieces(d)) }) }},
	{"Reverter", func(r *room) { capable(r, func(d driver.Reverter) { reverter(r, d) }) }},
	{"GroupSnapshotter", func(r *room) { capable(r, func(d driver.GroupSnapshotter) { group(r, d) }) }},
	{"ChangeCounter", func(r *room) { capable(r, func(d driver.ChangeCounter) { counter(r, d) }) }},
	{"ExtentReader", extents},
}

func capable[T any](r *room, test func(T)) {
	r.Helper()
	d, ok := driver.As[T](r.d)
	if !ok {
		r.Skip("this driver does not claim it")
	}
	test(d)
}

// diffing is Differ.Diff.
type diffing func(ctx context.Context, from, to driver.SnapshotRef) iter.Seq2[driver.Extent, error]

// pieces is what a DiffReader yields as a difference, its bytes being those that the
// younger snapshot has.
func (r *room) pieces(d driver.DiffReader) diffing {
	return func(ctx context.Context, from, to driver.SnapshotRef) iter.Seq2[driver.Extent, error] {
		return func(yield func(driver.Extent, error) bool) {
			size := int64(kib4)
			younger, err := r.d.OpenSnapshot(ctx, to)
			if err == nil { // else who reads the difference says so
				size = younger.Size()
				defer func() { r.ok(younger.Close()) }()
			}
			all := d.ReadDiff(ctx, from, to, size)
			if all == nil {
				r.Fatal("a small volume's difference is not read")
			}
			for p, err := range all {
				if p.Data != nil {
					if p.Zero || int64(len(p.Data)) != p.Len || p.Len > driver.MaxPiece {
						r.Fatalf("piece %+v has %d bytes", p.Extent, len(p.Data))
					}
					if where := firstDifference(p.Data, r.read(younger, p.Off, p.Len)); where != "" {
						r.Fatalf("piece %+v has other bytes than its snapshot: %s", p.Extent, where)
					}
				}
				if !yield(p.Extent, err) {
					return
				}
			}
		}
	}
}

func differ(r *room, diff diffing) {
	id, dev := r.opened(1100)
	now := make([]byte, 1100*kib4)
	change := func(off int64, p []byte) { r.write(dev, p, off); copy(now[off:], p) }
	empty := r.snapshot(id)
	change(3*kib4+5, pattern(1, 2*kib4))
	change(1099*kib4, pattern(2, kib4))
	a, dataA := r.snapshot(id), bytes.Clone(now)
	same := r.snapshot(id)
	change(3*kib4, pattern(3, 1))
	r.ok(dev.Zero(1099*kib4, kib4))
	clear(now[1099*kib4:])
	r.ok(r.d.ExtendVolume(r.ctx, id, 1105*kib4))
	now = append(now, make([]byte, 5*kib4)...)
	change(1104*kib4, pattern(4, kib4))
	b, dataB := r.snapshot(id), bytes.Clone(now)

	zero := driver.SnapshotRef{}
	r.diffIsTrue(diff(r.ctx, zero, empty), nil, make([]byte, 1100*kib4))
	r.diffIsTrue(diff(r.ctx, zero, b), nil, dataB)
	r.diffIsTrue(diff(r.ctx, empty, a), nil, dataA)
	r.diffIsTrue(diff(r.ctx, a, same), dataA, dataA)
	r.diffIsTrue(diff(r.ctx, a, b), dataA, dataB)
	r.diffIsTrue(diff(r.ctx, same, b), dataA, dataB)
	r.ok(r.d.DeleteSnapshot(r.ctx, same))
	r.diffIsTrue(diff(r.ctx, a, b), dataA, dataB)
	r.ok(r.d.DeleteSnapshot(r.ctx, a))
	r.diffIsTrue(diff(r.ctx, empty, b), nil, dataB)
	for range diff(r.ctx, empty, b) {
		break // the walk may be left early
	}
	for _, pair := range [][2]driver.SnapshotRef{{a, b}, {empty, a}, {zero, a}} {
		var last error
		for _, err := range diff(r.ctx, pair[0], pair[1]) {
			last = err
		}
		r.want(block.NotFound, last)
	}
}

// diffIsTrue checks a difference against the bytes at its two ends; from may be
// shorter and is filled up with zeros.
func (r *room) diffIsTrue(diff iter.Seq2[driver.Extent, error], from, to []byte) {
	r.Helper()
	if why := diffFault(diff, from, to); why != "" {
		r.Fatal(why)
	}
}

// diffFault says what is wrong with a difference; "" if nothing is.
func diffFault(diff iter.Seq2[driver.Extent, error], from, to []byte) string {
	older := make([]byte, len(to))
	copy(older, from)
	at := int64(0) // all before it was yielded or must be equal
	for e, err := range diff {
		switch {
		case err != nil:
			return fmt.Sprintf("Diff failed: %v", err)
		case e.Len <= 0 || e.Off < at || e.End() > int64(len(to)):
			return fmt.Sprintf("extent %+v is out of order (after %d) or out of range (%d)", e, at, len(to))
		case e.Off%kib4 != 0 || e.Len%kib4 != 0 && e.End() != int64(len(to)):
			return fmt.Sprintf("extent %+v is not aligned", e)
		case e.Zero && !driver.IsZero(to[e.Off:e.End()]):
			return fmt.Sprintf("extent %+v is said to be zero and is not", e)
		}
		if where := firstDifference(older[at:e.Off], to[at:e.Off]); where != "" {
			return fmt.Sprintf("a changed block between %d and %d was left out: %s", at, e.Off, where)
		}
		at = e.End()
	}
	if where := firstDifference(older[at:], to[at:]); where != "" {
		return fmt.Sprintf("a changed block after %d was left out: %s", at, where)
	}
	return ""
}

func reverter(r *room, d driver.Reverter) {
	id, dev := r.opened(4)
	r.write(dev, pattern(1, 4*kib4), 0)
	first := r.snapshot(id)
	want := pattern(2, 4*kib4)
	r.write(dev, want, 0)
	kept := r.snapshot(id)
	r.ok(r.d.ExtendVolume(r.ctx, id, 6*kib4))
	r.write(dev, pattern(3, 6*kib4), 0)
	lost := r.snapshot(id)
	_, clone := r.clone(lost, 6)
	r.write(dev, pattern(4, kib4), 0)

	r.want(block.Conflict, d.Revert(r.ctx, kept))
	r.ok(dev.Close())
	for range 2 { // it may be repeated
		r.ok(d.Revert(r.ctx, kept))
	}
	dev = r.open(id)
	r.holds(dev, want)
	r.holds(r.openSnapshot(kept), want)
	r.holds(r.openSnapshot(first), pattern(1, 4*kib4))
	r.holds(clone, pattern(3, 6*kib4))
	_, err := r.d.OpenSnapshot(r.ctx, lost)
	r.want(block.NotFound, err)

	r.write(dev, []byte("after"), kib4)
	copy(want[kib4:], "after")
	r.holds(dev, want)
	r.ok(r.d.ExtendVolume(r.ctx, id, 6*kib4))
	r.holds(dev, append(bytes.Clone(want), make([]byte, 2*kib4)...)) // nothing of what was lost
	r.ok(r.d.CreateSnapshot(r.ctx, lost))                            // the name is free again
	r.ok(dev.Close())
	r.want(block.NotFound, d.Revert(r.ctx, driver.SnapshotRef{Volume: id, Name: "never"}))
	r.want(block.NotFound, d.Revert(r.ctx, driver.SnapshotRef{Volume: block.VolumeID(block.NewID()), Name: "x"}))
}

func group(r *room, d driver.GroupSnapshotter) {
	const volumes = 3
	var ids []block.VolumeID
	var devices []driver.Device
	for range volumes {
		id, dev := r.opened(prefixBlocks)
		ids, devices = append(ids, id), append(devices, dev)
	}
	refs := func() (refs []driver.SnapshotRef) {
		for _, id := range ids {
			refs = append(refs, driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())})
		}
		return refs
	}
	writer := &prefixWriter{devices: devices}
	for range r.rounds {
		writer.during(r, func() []driver.SnapshotRef {
			taken := refs()
			r.ok(d.CreateSnapshots(r.ctx, taken))
			r.ok(d.CreateSnapshots(r.ctx, taken)) // repeated: stays as it is
			return taken
		})
	}
	taken := refs()
	for i, ref := range taken {
		r.write(devices[i], pattern(1, kib4), 0)
		if i == 1 { // as a call that was interrupted leaves it
			r.ok(r.d.CreateSnapshot(r.ctx, ref))
		}
	}
	for _, dev := range devices {
		r.write(dev, pattern(2, kib4), 0)
	}
	r.ok(d.CreateSnapshots(r.ctx, taken))
	for i, ref := range taken {
		if got := r.read(r.openSnapshot(ref), 0, kib4); !bytes.Equal(got, pattern(2, kib4)) {
			r.Errorf("snapshot %d of a group that was there in part is of another instant", i)
		}
	}
	unknown := append(refs(), driver.SnapshotRef{Volume: block.VolumeID(block.NewID()), Name: "x"})
	r.want(block.NotFound, d.CreateSnapshots(r.ctx, unknown))
	r.ok(d.CreateSnapshots(r.ctx, nil))
}

func counter(r *room, d driver.ChangeCounter) {
	id, dev := r.opened(4)
	seen := map[uint64]string{}
	step := func(what string) {
		r.Helper()
		n, err := d.Changes(r.ctx, id)
		r.ok(err)
		if before, again := seen[n]; again {
			r.Fatalf("the number %d after %q was there already after %q", n, what, before)
		}
		seen[n] = what
	}
	step("creation")
	r.write(dev, []byte{1}, 0)
	step("a write")
	r.write(dev, []byte{2}, 0)
	step("another")
	r.ok(dev.Zero(0, kib4))
	step("zero")
	r.ok(r.d.ExtendVolume(r.ctx, id, 5*kib4))
	step("extension")
	r.write(dev, []byte{3}, 3*kib4)
	r.ok(dev.Close())
	step("a write and a close")
	if rev, ok := driver.As[driver.Reverter](r.d); ok {
		ref := r.snapshot(id)
		dev = r.open(id)
		r.write(dev, []byte{4}, 0)
		r.ok(dev.Close())
		step("a write after a snapshot")
		r.ok(rev.Revert(r.ctx, ref))
		step("a revert")
	}
	_, err := d.Changes(r.ctx, block.VolumeID(block.NewID()))
	r.want(block.NotFound, err)
}

func extents(r *room) {
	id, dev := r.opened(1100)
	if _, ok := dev.(driver.ExtentReader); !ok {
		r.Skip("this driver's devices do not claim it")
	}
	now := make([]byte, 1100*kib4)
	check := func(from sizedReader) {
		r.Helper()
		er, ok := from.(driver.ExtentReader)
		if !ok {
			return
		}
		for _, c := range [][2]int64{
			{0, 1100 * kib4}, {kib4, kib4}, {5, 3}, {kib4 - 1, 2}, {700 * kib4, 100*kib4 + 1}, {0, 1},
		} {
			if why := extentsFault(er.Extents(c[0], c[1]), now, c[0], c[1]); why != "" {
				r.Fatalf("Extents(%d, %d): %s", c[0], c[1], why)
			}
		}
	}
	check(dev)
	r.write(dev, pattern(1, 3*kib4), 100)
	copy(now[100:], pattern(1, 3*kib4))
	r.write(dev, pattern(2, 300*kib4), 450*kib4)
	copy(now[450*kib4:], pattern(2, 300*kib4))
	check(dev)
	ref := r.snapshot(id)
	check(r.openSnapshot(ref))
	_, clone := r.clone(ref, 1100)
	check(clone)
	r.ok(dev.Zero(500*kib4, 10*kib4+3))
	clear(now[500*kib4 : 510*kib4+3])
	check(dev)
	for _, err := range dev.(driver.ExtentReader).Extents(1099*kib4, 2*kib4) {
		r.want(block.Invalid, err)
	}
}

// extentsFault says what is wrong with the extents of a range; "" if nothing is.
func extentsFault(seq iter.Seq2[driver.Extent, error], content []byte, off, length int64) string {
	at := off
	for e, err := range seq {
		switch {
		case err != nil:
			return err.Error()
		case e.Off > at || at == off && e.End() <= at || at > off && e.Off != at || e.Len <= 0:
			return fmt.Sprintf("extent %+v does not follow %d", e, at)
		case e.Zero && !driver.IsZero(content[max(0, e.Off):min(e.End(), int64(len(content)))]):
			return fmt.Sprintf("extent %+v is said to be zero and is not", e)
		}
		at = e.End()
	}
	if at < off+length {
		return fmt.Sprintf("they end at %d", at)
	}
	return ""
}
