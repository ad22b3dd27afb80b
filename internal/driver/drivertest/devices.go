package drivertest

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"kvol/internal/block"
	"kvol/internal/driver"
)

var deviceCases = []testCase{
	{"reads and writes at any byte", anyByte},
	{"beyond the size is invalid and changes nothing", beyondSize},
	{"zero", zero},
	{"zero, snapshot, read", func(r *room) {
		id, dev := r.opened(6)
		data := pattern(1, 6*kib4)
		r.write(dev, data, 0)
		r.ok(dev.Zero(kib4, 2*kib4))
		r.ok(dev.Zero(4*kib4+100, 200))
		ref := r.snapshot(id)
		clear(data[kib4 : 3*kib4])
		clear(data[4*kib4+100 : 4*kib4+300])
		r.write(dev, pattern(2, 6*kib4), 0)
		r.holds(r.openSnapshot(ref), data)
	}},
	{"zero over a snapshot's data, then part of it is written", func(r *room) {
		id, dev := r.opened(2)
		data := pattern(1, 2*kib4)
		r.write(dev, data, 0)
		ref := r.snapshot(id)
		r.ok(dev.Zero(0, 2*kib4))
		r.write(dev, []byte{7}, 10)
		want := make([]byte, 2*kib4)
		want[10] = 7
		r.holds(dev, want)
		r.holds(r.openSnapshot(ref), data)
	}},
	{"a write is seen by later reads, flushed or not", func(r *room) {
		_, dev := r.opened(1)
		for i := range byte(50) {
			r.write(dev, []byte{i}, int64(i))
			if got := r.read(dev, int64(i), 1); got[0] != i {
				r.Fatalf("read %d after writing %d", got[0], i)
			}
			if i%10 == 0 {
				r.ok(dev.Flush())
			}
		}
	}},
	{"writers of neighbouring bytes don't disturb each other", neighbours},
	{"overlapping writes end block by block", overlapping},
	{"readers and writers at once", readersAndWriters},
	{"a write passes its bytes on and keeps nothing of the buffer", func(r *room) {
		_, dev := r.opened(2)
		data := pattern(1, 2*kib4)
		p := bytes.Clone(data)
		r.write(dev, p, 0)
		clear(p)
		r.holds(dev, data)
		copy(r.read(dev, 0, 2*kib4), p)
		r.holds(dev, data)
	}},
}

func anyByte(r *room) {
	const blocks = 8
	_, dev := r.opened(blocks)
	want := make([]byte, blocks*kib4)
	for i, c := range []struct{ off, n int64 }{
		{0, 1}, {0, kib4}, {1, 1}, {kib4 - 1, 2}, {511, 513}, {kib4 + 7, 3 * kib4}, {3*kib4 - 1, 1}, {3 * kib4, 2 * kib4},
		{5*kib4 + 512, 512}, {blocks*kib4 - 1, 1}, {blocks*kib4 - 5000, 5000}, {0, blocks * kib4}, {2*kib4 + 1, 4*kib4 - 2},
		{blocks * kib4, 0}, {17, 0},
	} {
		p := pattern(uint64(i), int(c.n))
		r.write(dev, p, c.off)
		copy(want[c.off:], p)
		if !bytes.Equal(r.read(dev, c.off, c.n), p) {
			r.Fatalf("%d bytes at %d don't read as written", c.n, c.off)
		}
		r.holds(dev, want)
	}
	for off := int64(0); off < blocks*kib4; off += 1021 {
		n := min(2*kib4+33, blocks*kib4-off)
		if !bytes.Equal(r.read(dev, off, n), want[off:off+n]) {
			r.Fatalf("%d bytes at %d don't read as written", n, off)
		}
	}
}

func beyondSize(r *room) {
	id, dev := r.opened(2)
	data := pattern(1, 2*kib4)
	r.write(dev, data, 0)
	snap := r.openSnapshot(r.snapshot(id))
	for _, c := range []struct{ off, n int64 }{
		{-1, 1}, {-kib4, 2 * kib4}, {2 * kib4, 1}, {2*kib4 - 1, 2}, {0, 2*kib4 + 1}, {1 << 40, kib4}, {1<<63 - 1, 2},
	} {
		p := make([]byte, c.n)
		_, err := dev.ReadAt(p, c.off)
		r.want(block.Invalid, err)
		_, err = snap.ReadAt(p, c.off)
		r.want(block.Invalid, err)
		_, err = dev.WriteAt(p, c.off)
		r.want(block.Invalid, err)
		r.want(block.Invalid, dev.Zero(c.off, c.n))
	}
	r.want(block.Invalid, dev.Zero(0, -1))
	r.holds(dev, data)
	r.holds(snap, data)
}

func zero(r *room) {
	const blocks = 1200
	_, dev := r.opened(blocks)
	want := pattern(1, blocks*kib4)
	r.write(dev, want, 0)
	for _, c := range []struct{ off, n int64 }{
		{0, 1}, {100, 50}, {kib4, kib4}, {2*kib4 - 1, 2}, {4*kib4 + 5, 3 * kib4}, {10 * kib4, 5*kib4 + 1}, {kib4, kib4},
		{500 * kib4, 600 * kib4}, {blocks*kib4 - 7, 7}, {33, 0},
	} {
		r.ok(dev.Zero(c.off, c.n))
		clear(want[c.off : c.off+c.n])
		r.holds(dev, want)
	}
	again := pattern(2, 3*kib4)
	r.write(dev, again, 4*kib4+1)
	copy(want[4*kib4+1:], again)
	r.holds(dev, want)
	r.ok(dev.Zero(0, blocks*kib4))
	r.holds(dev, make([]byte, blocks*kib4))
}

// neighbours writes single bytes of the same blocks from many goroutines, over
// the data of a snapshot, so that each write must keep what the others wrote.
func neighbours(r *room) {
	const writers, blocks = 4, 16
	id, dev := r.opened(blocks)
	want := pattern(1, blocks*kib4)
	r.write(dev, want, 0)
	r.snapshot(id)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < blocks*kib4; i += 64 + w%2 {
				if i%writers != w {
					continue
				}
				if _, err := dev.WriteAt([]byte{byte(w)}, int64(i)); err != nil {
					r.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for w := range writers {
		for i := w; i < blocks*kib4; i += 64 + w%2 {
			if i%writers == w {
				want[i] = byte(w)
			}
		}
	}
	r.holds(dev, want)
}

func overlapping(r *room) {
	const blocks, rounds = 16, 20
	_, dev := r.opened(blocks)
	for round := range rounds {
		var wg sync.WaitGroup
		for w := range byte(3) {
			p := bytes.Repeat([]byte{1 + w + byte(round)*3}, blocks*kib4)
			wg.Go(func() {
				if _, err := dev.WriteAt(p, 0); err != nil {
					r.Error(err)
				}
			})
		}
		wg.Wait()
		got := r.read(dev, 0, blocks*kib4)
		for b := range blocks {
			one := got[b*kib4 : (b+1)*kib4]
			if !bytes.Equal(one, bytes.Repeat(one[:1], kib4)) || (int(one[0])-1)/3 != round {
				r.Fatalf("block %d is mixed from writes or of an earlier round", b)
			}
		}
	}
}

// readersAndWriters checks that a read sees every write that returned before
// it, while others are under way and snapshots are taken.
func readersAndWriters(r *room) {
	const blocks, rounds = 8, 200
	id, dev := r.opened(blocks)
	var completed [blocks]atomic.Int32 // the last value that is in the block for sure
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range rounds {
				b := 2*(i%(blocks/2)) + w
				if _, err := dev.WriteAt(bytes.Repeat([]byte{byte(i)}, kib4), int64(b)*kib4); err != nil {
					r.Error(err)
					return
				}
				completed[b].Store(int32(i))
				if i%50 != 0 {
					continue
				}
				ref := driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())}
				if err := r.d.CreateSnapshot(r.ctx, ref); err != nil {
					r.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		p := make([]byte, kib4)
		for i := range 2 * rounds {
			atLeast := byte(completed[i%blocks].Load())
			if _, err := dev.ReadAt(p, int64(i%blocks)*kib4); err != nil {
				r.Error(err)
				return
			}
			if got := slices.Min(p); got < atLeast {
				r.Errorf("block %d reads as %d after %d was written", i%blocks, got, atLeast)
				return
			}
		}
	})
	wg.Wait()
}
