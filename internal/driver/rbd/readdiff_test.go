package rbd_test

import (
	"bytes"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// scatteredChanges: a difference of small changes that is read as a stream at first
// and in another way then has each of them once, the first ones with their bytes.
func scatteredChanges(t *testing.T, c *ceph.Cluster) {
	ctx, d := t.Context(), open(t, c, rbd.Options{})
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const blocks, scattered = 1800, 1200 * driver.BlockSize // and then all in one piece
	id := block.VolumeID(block.NewID())
	ok(d.CreateVolume(ctx, id, blocks*driver.BlockSize))
	dev, err := d.OpenVolume(ctx, id)
	ok(err)
	_, err = dev.WriteAt(bytes.Repeat([]byte{255}, blocks*driver.BlockSize), 0) // else each object is one change
	ok(err)
	refs := []driver.SnapshotRef{{Volume: id, Name: "a"}, {Volume: id, Name: "b"}}
	ok(d.CreateSnapshot(ctx, refs[0]))
	want := bytes.Repeat([]byte{255}, blocks*driver.BlockSize)
	for at := 0; at < scattered; at += 2 * driver.BlockSize {
		for i := range driver.BlockSize {
			want[at+i] = byte(1 + at/driver.BlockSize%250)
		}
		_, err := dev.WriteAt(want[at:][:driver.BlockSize], int64(at))
		ok(err)
	}
	copy(want[scattered:], bytes.Repeat([]byte{254}, len(want)))
	_, err = dev.WriteAt(want[scattered:], scattered)
	ok(err)
	ok(d.CreateSnapshot(ctx, refs[1]))
	reader, reads := driver.As[driver.DiffReader](d)
	if !reads {
		t.Fatal("differences are not read")
	}
	ok(dev.Close())
	next, filled := int64(0), 0
	for p, err := range reader.ReadDiff(ctx, refs[0], refs[1], int64(len(want))) {
		ok(err)
		if next == 0 {
			under := map[string]error{"snapshot": d.DeleteSnapshot(ctx, refs[1]), "volume": d.DeleteVolume(ctx, id)}
			for what, err := range under {
				if !block.Is(err, block.Conflict) {
					t.Errorf("the %s that is read was removed: %v", what, err)
				}
			}
		}
		if p.Off == next && next >= scattered && p.Len <= driver.MaxPiece && !p.Zero {
			next = p.End()
			continue
		}
		if p.Off != next || p.Len != driver.BlockSize || p.Zero {
			t.Fatalf("piece %+v, and the next is at %d", p.Extent, next)
		}
		if p.Data != nil {
			if filled++; !bytes.Equal(p.Data, want[p.Off:p.End()]) {
				t.Fatalf("piece %+v has other bytes", p.Extent)
			}
		}
		next += 2 * driver.BlockSize
	}
	if next < int64(len(want)) || filled == 0 || filled > blocks/4 {
		t.Errorf("pieces up to %d of %d, %d with their bytes", next, len(want), filled)
	}
	if reader.ReadDiff(ctx, refs[0], refs[1], int64(len(want))) != nil {
		t.Error("the next difference is tried in the same way")
	}
	for _, ref := range refs {
		ok(d.DeleteSnapshot(ctx, ref)) // nobody reads it any more
	}
}
