package drivertest

import (
	"bytes"
	"slices"

	"kvol/internal/block"
	"kvol/internal/driver"
)

var cloneCases = []testCase{
	{"has the snapshot's content and zeros beyond", func(r *room) {
		id, dev := r.opened(3)
		data := pattern(1, 3*kib4)
		r.write(dev, data, 0)
		ref := r.snapshot(id)
		r.write(dev, pattern(2, 3*kib4), 0)
		r.ok(r.d.ExtendVolume(r.ctx, id, 9*kib4))
		r.write(dev, pattern(3, 6*kib4), 3*kib4)
		_, clone := r.clone(ref, 7)
		r.holds(clone, append(slices.Clone(data), make([]byte, 4*kib4)...))
	}},
	{"is a volume of its own", func(r *room) {
		id, dev := r.opened(4)
		data := pattern(1, 4*kib4)
		r.write(dev, data, 0)
		ref := r.snapshot(id)
		cloneID, clone := r.clone(ref, 4)
		mine := bytes.Clone(data)
		copy(mine[kib4+5:], "mine")
		r.write(clone, []byte("mine"), kib4+5)
		r.ok(clone.Zero(2*kib4, kib4))
		clear(mine[2*kib4 : 3*kib4])
		r.holds(clone, mine)
		r.holds(dev, data)
		r.holds(r.openSnapshot(ref), data)
		all, err := r.d.Snapshots(r.ctx, cloneID)
		r.ok(err)
		if len(all) != 0 {
			r.Fatalf("a new clone has snapshots: %v", all)
		}
		r.ok(r.d.ExtendVolume(r.ctx, cloneID, 6*kib4))
		r.holds(clone, append(mine, make([]byte, 2*kib4)...))
	}},
	{"lives on when snapshot and volume are deleted", livesOn},
	{"takes the place of a volume that was deleted", func(r *room) {
		id, dev := r.opened(6)
		r.write(dev, pattern(1, 6*kib4), 0)
		r.snapshot(id)
		r.ok(dev.Close())
		copied, to := r.opened(6)
		want := pattern(2, 6*kib4)
		r.write(to, want, 0)
		ref := r.snapshot(copied)
		r.ok(to.Close())
		for range 2 { // a swap that was interrupted is repeated
			r.ok(r.d.DeleteVolume(r.ctx, id))
			r.ok(r.d.CloneSnapshot(r.ctx, id, ref, 6*kib4))
		}
		r.ok(r.d.DeleteVolume(r.ctx, copied))
		r.holds(r.open(id), want)
		all, err := r.d.Snapshots(r.ctx, id)
		r.ok(err)
		if len(all) != 0 {
			r.Fatalf("snapshots of the deleted volume: %v", all)
		}
	}},
	{"cloning again succeeds, even when the snapshot is gone", func(r *room) {
		id, dev := r.opened(2)
		r.write(dev, pattern(1, 2*kib4), 0)
		ref := r.snapshot(id)
		cloneID, clone := r.clone(ref, 2)
		data := pattern(2, 2*kib4)
		r.write(clone, data, 0)
		r.ok(r.d.CloneSnapshot(r.ctx, cloneID, ref, 2*kib4))
		r.ok(r.d.DeleteSnapshot(r.ctx, ref))
		r.ok(r.d.CloneSnapshot(r.ctx, cloneID, ref, 2*kib4))
		r.holds(clone, data)
		r.want(block.Conflict, r.d.CloneSnapshot(r.ctx, cloneID, ref, 3*kib4))
	}},
	{"smaller than the snapshot is invalid", func(r *room) {
		ref := r.snapshot(r.volume(3))
		r.want(block.Invalid, r.d.CloneSnapshot(r.ctx, block.VolumeID(block.NewID()), ref, 2*kib4))
		r.want(block.Invalid, r.d.CloneSnapshot(r.ctx, block.VolumeID(block.NewID()), ref, 3*kib4+1))
	}},
	{"of a clone of a clone", chain},
	{"parts of a block over the snapshot's data", func(r *room) {
		id, dev := r.opened(1)
		want := pattern(1, kib4)
		r.write(dev, want, 0)
		_, clone := r.clone(r.snapshot(id), 1)
		r.write(clone, []byte{0}, 100)
		r.ok(clone.Zero(2000, 96))
		want[100] = 0
		clear(want[2000:2096])
		r.holds(clone, want)
	}},
}

func livesOn(r *room) {
	id, dev := r.opened(600)
	data := pattern(1, 600*kib4)
	r.write(dev, data, 0)
	ref := r.snapshot(id)
	cloneID, clone := r.clone(ref, 600)
	r.write(clone, []byte("own"), 9)
	want := bytes.Clone(data)
	copy(want[9:], "own")
	r.ok(r.d.DeleteSnapshot(r.ctx, ref))
	r.holds(clone, want)
	r.ok(dev.Close())
	r.ok(r.d.DeleteVolume(r.ctx, id))
	r.holds(clone, want)
	_, other := r.opened(600) // may be given the space that came back
	r.write(other, pattern(2, 600*kib4), 0)
	r.holds(clone, want)
	r.ok(clone.Close())
	r.holds(r.open(cloneID), want)
}

// chain clones a clone of a clone and so on, and deletes the ancestors.
func chain(r *room) {
	const blocks, depth = 20, 12
	id, dev := r.opened(blocks)
	want := make([]byte, blocks*kib4)
	for i := range uint64(depth) {
		p := pattern(i, kib4+100)
		off := int64(i) * 1700 * 3
		r.write(dev, p, off)
		copy(want[off:], p)
		if i%3 == 2 {
			r.ok(dev.Zero(off/2, 3000))
			clear(want[off/2 : off/2+3000])
		}
		ref := r.snapshot(id)
		cloneID, clone := r.clone(ref, blocks)
		r.ok(dev.Close())
		if i%2 == 0 {
			r.ok(r.d.DeleteSnapshot(r.ctx, ref))
		}
		if i%4 != 1 {
			r.ok(r.d.DeleteVolume(r.ctx, ref.Volume))
		}
		id, dev = cloneID, clone
		r.holds(dev, want)
	}
	r.holds(r.openSnapshot(driver.SnapshotRef{Volume: id, Name: r.snapshot(id).Name}), want)
}
