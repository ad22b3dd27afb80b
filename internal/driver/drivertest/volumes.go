package drivertest

import (
	"bytes"
	"maps"
	"slices"

	"kvol/internal/block"
	"kvol/internal/driver"
)

var volumeCases = []testCase{
	{"new volume reads as zeros", func(r *room) {
		_, dev := r.opened(8)
		r.holds(dev, make([]byte, 8*kib4))
	}},
	{"creating again with the same size succeeds and keeps the bytes", func(r *room) {
		id, dev := r.opened(4)
		data := pattern(1, 4*kib4)
		r.write(dev, data, 0)
		r.ok(r.d.CreateVolume(r.ctx, id, 4*kib4))
		r.holds(dev, data)
	}},
	{"creating again with another size is a conflict", func(r *room) {
		id := r.volume(4)
		r.want(block.Conflict, r.d.CreateVolume(r.ctx, id, 8*kib4))
		r.holds(r.open(id), make([]byte, 4*kib4))
	}},
	{"a size that is no multiple of a block is invalid", func(r *room) {
		for _, size := range []int64{-kib4, 1, kib4 + 512} {
			r.want(block.Invalid, r.d.CreateVolume(r.ctx, block.VolumeID(block.NewID()), size))
		}
		r.want(block.Invalid, r.d.ExtendVolume(r.ctx, r.volume(1), kib4+1))
	}},
	{"what is not there is not found", notFound},
	{"deleting what is gone succeeds", func(r *room) {
		id := r.volume(1)
		r.ok(r.d.DeleteVolume(r.ctx, id))
		r.ok(r.d.DeleteVolume(r.ctx, id))
		r.ok(r.d.DeleteVolume(r.ctx, block.VolumeID(block.NewID())))
	}},
	{"deleting an open volume is a conflict", func(r *room) {
		id, dev := r.opened(1)
		r.write(dev, []byte("still here"), 7)
		r.want(block.Conflict, r.d.DeleteVolume(r.ctx, id))
		if got := r.read(dev, 7, 10); string(got) != "still here" {
			r.Fatalf("after the refused deletion the volume holds %q", got)
		}
		r.ok(dev.Close())
		r.ok(r.d.DeleteVolume(r.ctx, id))
	}},
	{"deleting takes the snapshots with it", func(r *room) {
		id := r.volume(1)
		ref := r.snapshot(id)
		r.ok(r.d.DeleteVolume(r.ctx, id))
		_, err := r.d.OpenSnapshot(r.ctx, ref)
		r.want(block.NotFound, err)
		_, err = r.d.Snapshots(r.ctx, id)
		r.want(block.NotFound, err)
	}},
	{"what is made anew never shows old bytes", neverOldBytes},
	{"opened once at a time", func(r *room) {
		id, dev := r.opened(1)
		_, err := r.d.OpenVolume(r.ctx, id)
		r.want(block.Conflict, err)
		r.ok(dev.Close())
		again := r.open(id)
		_, err = r.d.OpenVolume(r.ctx, id)
		r.want(block.Conflict, err)
		r.ok(again.Close())
	}},
	{"closing and opening keeps the bytes", func(r *room) {
		id, dev := r.opened(600)
		data := pattern(2, 600*kib4)
		r.write(dev, data, 0)
		r.ok(dev.Close())
		r.holds(r.open(id), data)
	}},
	{"extend", extend},
	{"listing shows what there is", listing},
	{"a terabyte costs nothing until it is written", func(r *room) {
		const tib = int64(1) << 40
		_, dev := r.opened(tib / kib4)
		end := pattern(3, kib4)
		r.write(dev, end, tib-kib4)
		if !bytes.Equal(r.read(dev, tib-kib4, kib4), end) || !driver.IsZero(r.read(dev, tib/2, 1<<20)) {
			r.Fatal("the far end of a large volume does not hold what was written")
		}
	}},
	{"capacity", func(r *room) {
		c, err := r.d.Capacity(r.ctx)
		r.ok(err)
		if c.Total <= 0 || c.Free < 0 || c.Free > c.Total {
			r.Fatalf("Capacity is %+v", c)
		}
	}},
}

func notFound(r *room) {
	gone := block.VolumeID(block.NewID())
	ref := driver.SnapshotRef{Volume: gone, Name: "x"}
	_, err := r.d.OpenVolume(r.ctx, gone)
	r.want(block.NotFound, err)
	_, err = r.d.OpenSnapshot(r.ctx, ref)
	r.want(block.NotFound, err)
	_, err = r.d.Snapshots(r.ctx, gone)
	r.want(block.NotFound, err)
	r.want(block.NotFound, r.d.ExtendVolume(r.ctx, gone, kib4))
	r.want(block.NotFound, r.d.CreateSnapshot(r.ctx, ref))
	r.want(block.NotFound, r.d.CloneSnapshot(r.ctx, block.VolumeID(block.NewID()), ref, kib4))

	there := driver.SnapshotRef{Volume: r.volume(1), Name: "never taken"}
	_, err = r.d.OpenSnapshot(r.ctx, there)
	r.want(block.NotFound, err)
	r.want(block.NotFound, r.d.CloneSnapshot(r.ctx, block.VolumeID(block.NewID()), there, kib4))
}

func neverOldBytes(r *room) {
	for round := range uint64(3) {
		id, dev := r.opened(64)
		r.write(dev, pattern(round, 64*kib4), 0)
		r.snapshot(id)
		r.write(dev, pattern(round+100, 64*kib4), 0)
		r.ok(dev.Flush())
		r.ok(dev.Close())
		r.ok(r.d.DeleteVolume(r.ctx, id))

		_, fresh := r.opened(64)
		r.holds(fresh, make([]byte, 64*kib4))
		r.write(fresh, []byte{1}, 5*kib4+9) // the rest of the block too
		want := make([]byte, 64*kib4)
		want[5*kib4+9] = 1
		r.holds(fresh, want)
		r.ok(fresh.Close())
	}
}

func extend(r *room) {
	id, dev := r.opened(3)
	data := pattern(4, 3*kib4)
	r.write(dev, data, 0)
	ref := r.snapshot(id)
	r.ok(r.d.ExtendVolume(r.ctx, id, 5*kib4)) // open
	r.holds(dev, append(slices.Clone(data), make([]byte, 2*kib4)...))
	r.ok(r.d.ExtendVolume(r.ctx, id, 5*kib4)) // repeated
	r.ok(r.d.ExtendVolume(r.ctx, id, kib4))   // less changes nothing
	tail := pattern(5, 2*kib4)
	r.write(dev, tail, 3*kib4)
	whole := append(slices.Clone(data), tail...)
	r.holds(dev, whole)
	r.ok(dev.Close())
	r.ok(r.d.ExtendVolume(r.ctx, id, 700*kib4)) // closed
	r.holds(r.open(id), append(slices.Clone(whole), make([]byte, 695*kib4)...))
	snap := r.openSnapshot(ref)
	r.holds(snap, data)
	_, err := snap.ReadAt(make([]byte, 1), 3*kib4)
	r.want(block.Invalid, err)
}

func listing(r *room) {
	a, b, c := r.volume(1), r.volume(2), r.volume(3)
	r.ok(r.d.DeleteVolume(r.ctx, b))
	r.ok(r.d.ExtendVolume(r.ctx, a, 9*kib4))
	got := map[block.VolumeID]int64{}
	for info, err := range r.d.Volumes(r.ctx) {
		r.ok(err)
		if _, twice := got[info.ID]; twice {
			r.Fatalf("volume %s is listed twice", info.ID)
		}
		got[info.ID] = info.Size
	}
	if len(got) != 2 || got[a] != 9*kib4 || got[c] != 3*kib4 {
		r.Fatalf("Volumes lists %v, want %s with %d and %s with %d bytes", got, a, 9*kib4, c, 3*kib4)
	}
	for range r.d.Volumes(r.ctx) {
		break // the walk may be left early
	}
	var ids []block.VolumeID
	for id, err := range driver.VolumeIDs(r.ctx, r.d) {
		r.ok(err)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if want := slices.Sorted(maps.Keys(got)); !slices.Equal(ids, want) {
		r.Fatalf("VolumeIDs lists %v, want %v", ids, want)
	}
	for range driver.VolumeIDs(r.ctx, r.d) {
		break
	}
	ref := r.snapshot(a)
	for id, want := range map[block.VolumeID]int64{a: 9 * kib4, c: 3 * kib4} {
		if info, err := driver.Find(r.ctx, r.d, id); err != nil || info != (driver.VolumeInfo{ID: id, Size: want}) {
			r.Fatalf("Find gives %v, %v, want %d bytes", info, err, want)
		}
	}
	for _, id := range []block.VolumeID{b, "", "../" + a, a + "@" + block.VolumeID(ref.Name)} {
		_, err := driver.Find(r.ctx, r.d, id)
		r.want(block.NotFound, err)
	}
}
