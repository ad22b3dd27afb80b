package replication

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// mirror copies volumes of one zone's store to another's under their ids, as the
// mirroring of storage clusters does.
type mirror struct {
	w        *world
	from, to *mem.Store

	mu       sync.Mutex // guards below
	moments  map[block.VolumeID]uint64
	reached  map[block.VolumeID]uint64
	ended    map[block.VolumeID]int
	down     bool                  // nothing is copied
	promoted bool                  // what is there is no copy
	refuse   error                 // what Mirror answers
	spoil    bool                  // a copy gets a wrong block
	torn     bool                  // the end of a copy can't be read
	looked   func(look int)        // before each look
	looks    int                   // of Mirrored
	copied   map[block.PointID]int // how often
}

func newMirror(w *world, from, to *zone) *mirror {
	m := &mirror{w: w, from: from.store, to: to.store, moments: map[block.VolumeID]uint64{},
		reached: map[block.VolumeID]uint64{}, ended: map[block.VolumeID]int{}, copied: map[block.PointID]int{}}
	from.mirror, to.mirror = m, m
	return m
}

// mirroredDisk is a store of either end of a mirror.
type mirroredDisk struct {
	richDisk
	m *mirror
}

func (d mirroredDisk) Mirror(_ context.Context, id block.VolumeID) (uint64, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.m.refuse != nil {
		return 0, d.m.refuse
	}
	d.m.moments[id]++
	return d.m.moments[id], nil
}

func (d mirroredDisk) Unmirror(_ context.Context, id block.VolumeID) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.ended[id]++
	return nil
}

// OpenSnapshot gives what can't be read to the end, if it is of a torn copy.
func (d mirroredDisk) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	r, err := d.richDisk.OpenSnapshot(ctx, ref)
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if err == nil && d.m.torn && d.z.store == d.m.to && d.m.moments[ref.Volume] > 0 {
		return tornReader{r}, nil
	}
	return r, err
}

type tornReader struct{ driver.Reader }

func (r tornReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.Size()/2 {
		return 0, block.Errorf(block.Unavailable, "an object can't be read")
	}
	return r.Reader.ReadAt(p, off)
}

// Mirrored copies at every third look.
func (d mirroredDisk) Mirrored(ctx context.Context, id block.VolumeID, moment uint64) (driver.MirrorState, error) {
	d.m.w.advance(time.Second)
	d.m.mu.Lock()
	d.m.looks++
	n, looked := d.m.looks, d.m.looked
	d.m.mu.Unlock()
	if looked != nil {
		looked(n)
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.m.promoted {
		return driver.MirrorState{}, block.Errorf(block.Conflict, "it is no copy")
	}
	if n%3 == 0 && !d.m.down {
		if err := d.m.copy(ctx, id); err != nil {
			d.m.w.t.Error(err)
		}
		d.m.reached[id] = d.m.moments[id]
	}
	if d.m.reached[id] == 0 {
		return driver.MirrorState{}, block.Errorf(block.NotFound, "there is no copy")
	}
	return driver.MirrorState{Whole: d.m.reached[id] >= moment}, nil
}

// copy brings the copy's snapshots to where the volume's are.
func (m *mirror) copy(ctx context.Context, id block.VolumeID) error {
	all, err := m.from.Snapshots(ctx, id)
	if err != nil || len(all) == 0 {
		return err
	}
	if err := m.to.CreateVolume(ctx, id, all[0].Size); err != nil && !block.Is(err, block.Conflict) {
		return err
	}
	there, err := m.to.Snapshots(ctx, id)
	if err != nil {
		return err
	}
	have, keep := map[block.PointID]bool{}, map[block.PointID]bool{}
	for _, s := range there {
		have[s.Name] = true
	}
	for _, s := range all {
		if keep[s.Name] = true; have[s.Name] {
			continue
		}
		if err := m.copySnapshot(ctx, driver.SnapshotRef{Volume: id, Name: s.Name}); err != nil {
			return err
		}
	}
	for _, s := range there {
		if !keep[s.Name] {
			err = errors.Join(err, m.to.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: id, Name: s.Name}))
		}
	}
	return err
}

func (m *mirror) copySnapshot(ctx context.Context, ref driver.SnapshotRef) (err error) {
	r, err := m.from.OpenSnapshot(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := m.to.ExtendVolume(ctx, ref.Volume, r.Size()); err != nil {
		return err
	}
	dev, err := m.to.OpenVolume(ctx, ref.Volume)
	if err != nil {
		return err
	}
	p := make([]byte, r.Size())
	_, err = r.ReadAt(p, 0)
	if m.spoil {
		p[0] ^= 1
	}
	if err == nil {
		_, err = dev.WriteAt(p, 0)
	}
	if err = errors.Join(err, dev.Close()); err != nil {
		return err
	}
	m.copied[ref.Name]++
	return m.to.CreateSnapshot(ctx, ref)
}

// onMirror plays with zones whose stores are mirrored, and a protection that
// says so.
func onMirror(t *testing.T, play func(t *testing.T, w *world, m *mirror, a, b *zone)) {
	for _, distant := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world, a, b *zone) {
			m := newMirror(w, a, b)
			w.protections[0].Transport = block.TransportMirror
			a.far, b.far = distant, distant
			a.start(0)
			b.start(0)
			play(t, w, m, a, b)
		})
	}
}

// current fails the test unless zone b has the volume's newest bytes in a
// committed point that came by a transport.
func (z *zone) current(b *zone, id block.VolumeID, want []byte, by block.Transport) {
	t := z.w.t
	t.Helper()
	l, rep := z.link(id), b.replica(id)
	if l.Target != nil || l.Confirmed.ID == "" || rep.Newest.ID != l.Confirmed.ID {
		t.Fatalf("the link is %+v, the replica %+v", l, rep)
	}
	if l.Transport != by {
		t.Fatalf("point %s came by %q, not %q", l.Confirmed.ID, l.Transport, by)
	}
	if got := b.content(driver.SnapshotRef{Volume: rep.ID, Name: rep.Newest.ID}); !bytes.Equal(got[:len(want)], want) {
		t.Fatal("the replica's newest point is not what was written")
	}
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
}

// TestPointsComeByTheMirror: a first copy and differences, holes and growth come
// out of the copy that the stores keep; next to nothing goes on the wire. A policy
// that wants it no more ends the mirroring.
func TestPointsComeByTheMirror(t *testing.T) {
	onMirror(t, func(t *testing.T, w *world, m *mirror, a, b *zone) {
		const size = 64 * driver.BlockSize
		id, want := a.volume("gold", 64), noise(size)
		a.write(id, 0, want)
		a.later(0)
		a.current(b, id, want, block.TransportMirror)
		copy(want[8192:], noise(5000))
		a.write(id, 8192, want[8192:13192])
		a.write(id, 7*driver.BlockSize, nil)
		clear(want[7*driver.BlockSize : 8*driver.BlockSize])
		a.later(10 * time.Second)
		a.current(b, id, want, block.TransportMirror)
		if err := a.store.ExtendVolume(t.Context(), id, 2*size); err != nil {
			t.Fatal(err)
		}
		want = append(want, make([]byte, size)...)
		copy(want[size+4096:], "grown")
		a.write(id, size+4096, []byte("grown"))
		a.later(10 * time.Second)
		a.current(b, id, want, block.TransportMirror)
		if sent := a.link(id).BytesSent; sent > 32<<10 {
			t.Fatalf("%d bytes went by the stream", sent)
		}
		if !a.link(id).Mirrored || m.ended[id] != 0 {
			t.Fatalf("the link is %+v; mirroring was ended %d times", a.link(id), m.ended[id])
		}
		w.protections[0].Transport = block.TransportStream
		a.write(id, 0, []byte("streamed"))
		copy(want, "streamed")
		a.later(10 * time.Second)
		a.current(b, id, want, block.TransportStream)
		if a.link(id).Mirrored || m.ended[id] != 1 {
			t.Fatalf("the link is %+v; mirroring was ended %d times", a.link(id), m.ended[id])
		}
	})
}

// TestMirrorThatFailsIsDoneWithout: where the copy does not come on, was promoted
// by somebody, or can't be, points go by the stream at once, and by the
// mirror again when some time is over.
func TestMirrorThatFailsIsDoneWithout(t *testing.T) {
	for name, fail := range map[string]func(m *mirror, on bool){
		"down":       func(m *mirror, on bool) { m.down = on },
		"promoted":   func(m *mirror, on bool) { m.promoted = on },
		"unreadable": func(m *mirror, on bool) { m.torn = on },
		"refused": func(m *mirror, on bool) {
			if m.refuse = nil; on {
				m.refuse = block.Errorf(block.Unsupported, "it stands on another one")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onMirror(t, func(t *testing.T, w *world, m *mirror, a, b *zone) {
				id, want := a.volume("gold", 16), noise(16*driver.BlockSize)
				clear(want[5*driver.BlockSize : 6*driver.BlockSize])
				fail(m, true)
				a.write(id, 0, want[:5*driver.BlockSize])
				a.write(id, 6*driver.BlockSize, want[6*driver.BlockSize:])
				a.later(0)
				a.current(b, id, want, block.TransportStream)
				looks := m.looks
				copy(want, "second")
				a.write(id, 0, []byte("second"))
				a.later(10 * time.Second)
				a.current(b, id, want, block.TransportStream)
				if m.looks != looks {
					t.Fatal("the mirror was asked again at once")
				}
				fail(m, false)
				copy(want, "third!")
				a.write(id, 0, []byte("third!"))
				a.later(mirrorAgain + time.Second)
				a.current(b, id, want, block.TransportMirror)
			})
		})
	}
}

// TestMirrorThatIsWrong: bytes that the mirror got wrong become no point, and the
// right ones come by the stream.
func TestMirrorThatIsWrong(t *testing.T) {
	onMirror(t, func(t *testing.T, w *world, m *mirror, a, b *zone) {
		id, want := a.volume("gold", 16), noise(16*driver.BlockSize)
		m.spoil = true
		a.write(id, 0, want)
		a.later(0)
		if l, rep := a.link(id), b.replica(id); l.Confirmed.ID != "" || rep.Newest.ID != "" {
			t.Fatalf("a wrong point is there: %+v, %+v", l, rep)
		}
		a.later(time.Minute)
		a.current(b, id, want, block.TransportStream)
	})
}

// TestMirrorOfWhatWasTakenOver: a zone that recovered the volume while the copy
// comes takes nothing of it, and the source is told.
func TestMirrorOfWhatWasTakenOver(t *testing.T) {
	onMirror(t, func(t *testing.T, w *world, m *mirror, a, b *zone) {
		id, want := a.volume("gold", 16), noise(16*driver.BlockSize)
		a.write(id, 0, want)
		a.later(0)
		a.current(b, id, want, block.TransportMirror)
		first, at := b.replica(id).Newest.ID, block.Recovered{Zone: "b", Volume: "new"}
		m.looked = func(int) {
			b.update(func(tx *catalog.Tx) error { _, err := tx.RaiseEpoch(b.replicaIn(tx, id), at, 1); return err })
			m.mu.Lock()
			defer m.mu.Unlock()
			m.looked = nil
		}
		a.write(id, 0, []byte("too late"))
		a.later(10 * time.Second)
		if rep := b.replica(id); rep.Newest.ID != first {
			t.Fatalf("the replica has %+v", rep)
		}
		if l := a.link(id); l.State != catalog.LinkFenced || a.fenced[id].Epoch == 0 {
			t.Fatalf("the source was not told: %+v, %+v", l, a.fenced)
		}
		a.write(id, 0, []byte("later still"))
		a.later(time.Hour)
		if rep := b.replica(id); rep.Newest.ID != first {
			t.Fatalf("the replica has %+v", rep)
		}
	})
}
