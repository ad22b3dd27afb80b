package drivertest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"kvol/internal/block"
	"kvol/internal/driver"
)

var snapshotCases = []testCase{
	{"holds the moment, while the volume goes on", func(r *room) {
		id, dev := r.opened(520)
		var moments [][]byte
		var refs []driver.SnapshotRef
		now := make([]byte, 520*kib4)
		for i := range uint64(5) {
			p := pattern(i, 3*kib4+int(i))
			off := int64(i) * 170 * 2000
			r.write(dev, p, off)
			copy(now[off:], p)
			refs = append(refs, r.snapshot(id))
			moments = append(moments, bytes.Clone(now))
		}
		r.write(dev, pattern(99, 520*kib4), 0)
		for i, ref := range refs {
			r.holds(r.openSnapshot(ref), moments[i])
		}
	}},
	{"of a closed volume", func(r *room) {
		id, dev := r.opened(2)
		data := pattern(1, 2*kib4)
		r.write(dev, data, 0)
		r.ok(dev.Close())
		ref := r.snapshot(id)
		r.write(r.open(id), pattern(2, 2*kib4), 0)
		r.holds(r.openSnapshot(ref), data)
	}},
	{"a name that exists stays as it is", func(r *room) {
		id, dev := r.opened(1)
		data := pattern(1, kib4)
		r.write(dev, data, 0)
		ref := r.snapshot(id)
		r.write(dev, pattern(2, kib4), 0)
		r.ok(r.d.CreateSnapshot(r.ctx, ref))
		r.holds(r.openSnapshot(ref), data)
		all, err := r.d.Snapshots(r.ctx, id)
		r.ok(err)
		if len(all) != 1 {
			r.Fatalf("Snapshots lists %v", all)
		}
	}},
	{"names belong to their volume", func(r *room) {
		a, devA := r.opened(1)
		b, devB := r.opened(1)
		r.write(devA, []byte("a"), 0)
		r.write(devB, []byte("b"), 0)
		for _, id := range []block.VolumeID{a, b} {
			r.ok(r.d.CreateSnapshot(r.ctx, driver.SnapshotRef{Volume: id, Name: "same"}))
		}
		r.ok(r.d.DeleteSnapshot(r.ctx, driver.SnapshotRef{Volume: a, Name: "same"}))
		got := r.read(r.openSnapshot(driver.SnapshotRef{Volume: b, Name: "same"}), 0, 1)
		if string(got) != "b" {
			r.Fatalf("the other volume's snapshot of that name holds %q", got)
		}
	}},
	{"listed from old to new with their sizes", func(r *room) {
		id := r.volume(1)
		var want []driver.SnapshotInfo
		for n := int64(1); n < 20; n++ {
			r.ok(r.d.ExtendVolume(r.ctx, id, n*kib4))
			want = append(want, driver.SnapshotInfo{Name: r.snapshot(id).Name, Size: n * kib4})
		}
		r.ok(r.d.DeleteSnapshot(r.ctx, driver.SnapshotRef{Volume: id, Name: want[7].Name}))
		want = slices.Delete(want, 7, 8)
		got, err := r.d.Snapshots(r.ctx, id)
		r.ok(err)
		if !slices.Equal(got, want) {
			r.Fatalf("Snapshots lists %v, want %v", got, want)
		}
	}},
	{"deleting what is gone succeeds", func(r *room) {
		ref := r.snapshot(r.volume(1))
		r.ok(r.d.DeleteSnapshot(r.ctx, ref))
		r.ok(r.d.DeleteSnapshot(r.ctx, ref))
		_, err := r.d.OpenSnapshot(r.ctx, ref)
		r.want(block.NotFound, err)
		r.ok(r.d.DeleteSnapshot(r.ctx, driver.SnapshotRef{Volume: block.VolumeID(block.NewID()), Name: "x"}))
	}},
	{"deleting one keeps the others and the volume", deleteOne},
	{"opened many times", func(r *room) {
		id, dev := r.opened(1)
		data := pattern(1, kib4)
		r.write(dev, data, 0)
		ref := r.snapshot(id)
		a, b := r.openSnapshot(ref), r.openSnapshot(ref)
		r.ok(a.Close())
		r.holds(b, data)
		r.holds(r.openSnapshot(ref), data)
	}},
	{"deleting an open one is a conflict or leaves the reader working", func(r *room) {
		id, dev := r.opened(1)
		data := pattern(1, kib4)
		r.write(dev, data, 0)
		ref := r.snapshot(id)
		reader := r.openSnapshot(ref)
		if err := r.d.DeleteSnapshot(r.ctx, ref); err != nil {
			r.want(block.Conflict, err)
		}
		r.write(dev, pattern(2, kib4), 0)
		r.holds(reader, data)
	}},
	{"taken under a writer, it is a prefix of what was written", func(r *room) {
		id, dev := r.opened(prefixBlocks)
		writer := &prefixWriter{devices: []driver.Device{dev}}
		for range 20 {
			writer.during(r, func() []driver.SnapshotRef { return []driver.SnapshotRef{r.snapshot(id)} })
		}
	}},
}

func deleteOne(r *room) {
	const blocks, count = 12, 5
	for victim := range count {
		id, dev := r.opened(blocks)
		now := make([]byte, blocks*kib4)
		var moments [][]byte
		var refs []driver.SnapshotRef
		for i := range count {
			p := pattern(uint64(10*victim+i), 2*kib4)
			off := int64(i*2) * kib4
			r.write(dev, p, off)
			copy(now[off:], p)
			if i%2 == 1 {
				r.ok(dev.Zero(0, kib4))
				clear(now[:kib4])
			}
			refs = append(refs, r.snapshot(id))
			moments = append(moments, bytes.Clone(now))
		}
		r.ok(r.d.DeleteSnapshot(r.ctx, refs[victim]))
		for i, ref := range refs {
			if i != victim {
				r.holds(r.openSnapshot(ref), moments[i])
			}
		}
		r.holds(dev, now)
	}
}

// prefixBlocks is the size of the volumes that a prefixWriter writes.
const prefixBlocks = 8

// prefixWriter writes the numbers 1, 2, 3... one after the other, each into the
// next block, going round over the blocks of all its devices in turn. What a
// snapshot of all of them may hold follows from its greatest number alone.
type prefixWriter struct {
	devices   []driver.Device
	next      uint64 // the number that is written next
	completed atomic.Uint64
}

// place tells where the number k goes.
func (w *prefixWriter) place(k uint64) (device int, off int64) {
	n := uint64(len(w.devices))
	return int(k % n), int64(k/n%prefixBlocks) * kib4
}

// during takes snapshots (one for each device, in order) while it writes, and
// checks them.
func (w *prefixWriter) during(r *room, take func() []driver.SnapshotRef) {
	r.Helper()
	stop := make(chan struct{})
	started := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		defer once.Do(func() { close(started) })
		var p [8]byte
		for ; ; w.next++ {
			select {
			case <-stop:
				return
			default:
			}
			device, off := w.place(w.next)
			binary.BigEndian.PutUint64(p[:], w.next)
			if _, err := w.devices[device].WriteAt(p[:], off); err != nil {
				r.Error(err)
				return
			}
			w.completed.Store(w.next)
			once.Do(func() { close(started) })
		}
	})
	<-started
	atLeast := w.completed.Load()
	refs := take()
	close(stop)
	wg.Wait()
	w.check(r, refs, atLeast)
}

func (w *prefixWriter) check(r *room, refs []driver.SnapshotRef, atLeast uint64) {
	r.Helper()
	got := map[[2]int64]uint64{}
	var newest uint64
	for i, ref := range refs {
		reader := r.openSnapshot(ref)
		for off := int64(0); off < prefixBlocks*kib4; off += kib4 {
			k := binary.BigEndian.Uint64(r.read(reader, off, 8))
			got[[2]int64{int64(i), off}] = k
			newest = max(newest, k)
		}
		r.ok(reader.Close())
	}
	if newest < atLeast {
		r.Fatalf("write %d completed before the snapshot, which has only %d", atLeast, newest)
	}
	want := map[[2]int64]uint64{}
	round := uint64(len(w.devices) * prefixBlocks)
	for k := max(newest, round) - round; k <= newest; k++ {
		device, off := w.place(k)
		want[[2]int64{int64(device), off}] = k
	}
	for place, k := range got {
		if k != want[place] {
			r.Fatalf("the snapshot has write %d, but device %d holds %d at %d where it should be %d",
				newest, place[0], k, place[1], want[place])
		}
	}
}
