package logstore

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// together plays one operation of a history in which most writes are several
// at once, with a flush or a snapshot now and then.
func (h *history) together() error {
	m := h.now()
	if len(m) == 0 {
		return h.create()
	}
	id := slices.Sorted(maps.Keys(m))[0]
	switch n := h.rng.IntN(100); {
	case n < 70:
		return h.writeMany(id, m[id])
	case n < 80:
		h.as("write")
		return h.write(id, m[id])
	case n < 92:
		return h.flush(id)
	default:
		return h.snapshot([]block.VolumeID{id})
	}
}

// thinOut plays one operation of a history of one volume that has a recovery
// point after each few writes, of which any may go: what lies between is swept.
func (h *history) thinOut() error {
	m := h.now()
	if len(m) == 0 {
		return h.create()
	}
	id := slices.Sorted(maps.Keys(m))[0]
	v := m[id]
	h.as("write")
	switch n := h.rng.IntN(100); {
	case n < 40 || len(v.snaps) == 0 && n < 70:
		return h.write(id, v)
	case n < 70 || len(v.snaps) == 0:
		return h.snapshot([]block.VolumeID{id})
	case n < 90:
		return h.deleteSnapshot(id, v)
	default:
		return h.tidy()
	}
}

// losesOfBatch changes a leaf so often that its changes are joined with the next
// one, which is one of two that go together. It reports whether the first of the
// two was lost.
func losesOfBatch(t *testing.T, hooks *testHooks) bool {
	ctx := context.Background()
	s, err := Open(ctx, crashOptions(vfs.NewMem(1<<30, nil), hooks))
	must(t, err)
	defer endChecked(t, s)
	d := openVolume(t, s, "v", leafBlocks)
	old, fresh := bytes.Repeat([]byte{1}, blockSize), bytes.Repeat([]byte{2}, blockSize)
	for range maxOperands - 1 {
		_, err := d.WriteAt(old, 0)
		must(t, err)
	}
	n, err := driver.WriteMany(d, []driver.Part{{Off: 0, Data: fresh}, {Off: 3 * blockSize, Data: fresh}})
	if n != 2 {
		t.Fatalf("%d of 2 were written: %v", n, err)
	}
	got := make([]byte, blockSize)
	_, err = d.ReadAt(got, 0)
	must(t, err)
	return !bytes.Equal(got, fresh)
}

// gapForgotten deletes a point and ends the store while it sweeps what that
// left. It reports whether the next store does not sweep it either.
func gapForgotten(t *testing.T, hooks *testHooks) bool {
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	o := crashOptions(mem, hooks)
	o.idle = true
	s, err := Open(ctx, o)
	must(t, err)
	d := openVolume(t, s, "v", leafBlocks)
	for i := range 3 {
		_, err := d.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, blockSize), 0)
		must(t, err)
		must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: pointName(i)}))
	}
	for i := range 2 {
		must(t, s.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: pointName(i)}))
	}
	ended, end := context.WithCancel(ctx)
	end()
	if err := s.sweepAll(ended); err == nil {
		t.Fatal("there was nothing to sweep")
	}
	must(t, s.flushIndex())
	o.FS = mem.Kill()
	s.release()
	s, err = Open(ctx, o)
	must(t, err)
	defer endChecked(t, s)
	must(t, s.sweepAll(ctx))
	versions := 0
	must(t, s.eachVersion(s.volumes["v"].branch.num, 0, head, func(uint64, *cells) bool {
		versions++
		return true
	}))
	return versions != 1
}
