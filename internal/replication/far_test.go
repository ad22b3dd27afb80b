package replication

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// far is a store of which several ranges are read and written at once. It keeps no
// snapshot for those who read it: who deletes one that is open is refused.
type far struct {
	driver.Driver
	readers *readers
}

func newFar(d driver.Driver) far { return far{d, &readers{open: map[driver.SnapshotRef]int{}}} }

// readers are the snapshots that are open.
type readers struct {
	mu      sync.Mutex // guards below
	open    map[driver.SnapshotRef]int
	refused int // deletions
}

type farReader struct {
	driver.Reader
	close func()
}

// Extents implements driver.ExtentReader.
func (r farReader) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return extents(r.Reader, off, length)
}

func (r farReader) Close() error {
	defer r.close()
	return r.Reader.Close()
}

func (f far) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	r, err := f.Driver.OpenSnapshot(ctx, ref)
	if err != nil {
		return nil, err
	}
	f.readers.mu.Lock()
	defer f.readers.mu.Unlock()
	f.readers.open[ref]++
	return farReader{r, sync.OnceFunc(func() {
		f.readers.mu.Lock()
		defer f.readers.mu.Unlock()
		if f.readers.open[ref]--; f.readers.open[ref] == 0 {
			delete(f.readers.open, ref)
		}
	})}, nil
}

func (f far) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	f.readers.mu.Lock()
	defer f.readers.mu.Unlock()
	if f.readers.open[ref] > 0 {
		f.readers.refused++
		return block.Errorf(block.Conflict, "snapshot %s is open", ref.Name)
	}
	return f.Driver.DeleteSnapshot(ctx, ref)
}

func (f far) DeleteVolume(ctx context.Context, id block.VolumeID) error {
	f.readers.mu.Lock()
	defer f.readers.mu.Unlock()
	for ref := range f.readers.open {
		if ref.Volume == id {
			f.readers.refused++
			return block.Errorf(block.Conflict, "snapshot %s is open", ref.Name)
		}
	}
	return f.Driver.DeleteVolume(ctx, id)
}

// Depth implements driver.Distant.
func (far) Depth() int { return 4 }

// Unwrap implements driver.Unwrapper.
func (f far) Unwrap() driver.Driver { return f.Driver }

// filled is such a store that has what changed with its bytes, but for some of it.
type filled struct{ far }

// ReadDiff implements driver.DiffReader.
func (f filled) ReadDiff(
	ctx context.Context,
	from, to driver.SnapshotRef,
	_ int64,
) iter.Seq2[driver.Piece, error] {
	return func(yield func(driver.Piece, error) bool) {
		r, err := f.OpenSnapshot(ctx, to)
		if err != nil {
			yield(driver.Piece{}, err)
			return
		}
		defer r.Close()
		n := 0
		for e, err := range joined(driver.Diff(ctx, f.Driver, from, to)) {
			p := driver.Piece{Extent: e}
			if n++; err == nil && !e.Zero && n%5 > 0 {
				p.Data = make([]byte, e.Len)
				_, err = r.ReadAt(p.Data, e.Off)
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// scatter writes, zeros and rewrites at random, and keeps what should be there.
func scatter(r *rand.Rand, want []byte, write func(off int64, p []byte)) {
	for range 1 + r.IntN(40) {
		n := (1 + r.IntN(8)) * driver.BlockSize
		off := r.IntN(len(want)/driver.BlockSize-8) * driver.BlockSize
		p := make([]byte, n)
		if r.IntN(4) > 0 {
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			clear(p[:r.IntN(2)*driver.BlockSize])
		}
		write(int64(off), p)
		copy(want[off:], p)
	}
}

// TestFarTarget replicates to a store that is far away, which remembers nothing and keeps
// few points: each is what was written, and no older one stays because it was open.
func TestFarTarget(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, a, b *zone) {
		b.far = true
		w.protections[0].Retention.Tiers = []block.RetentionTier{{Step: time.Hour, For: 24 * time.Hour}}
		b.start(0)
		b.receiver.recall = nil
		r := rand.New(rand.NewPCG(2, 7))
		const blocks = 2048
		want := make([]byte, blocks*driver.BlockSize)
		id := a.volume("gold", blocks)
		for range 6 {
			scatter(r, want, func(off int64, p []byte) { a.write(id, off, p) })
			a.later(time.Minute)
			rep := b.replica(id)
			if !bytes.Equal(b.content(driver.SnapshotRef{Volume: rep.ID, Name: rep.Newest.ID}), want) {
				t.Fatal("the replica is not what was written")
			}
		}
		a.later(time.Minute) // another visit waits for what is tidied up
		all, err := b.store.Snapshots(t.Context(), b.replica(id).ID)
		if err != nil || len(all) > 2 || b.readers.refused > 0 {
			t.Errorf("the store has %v, and refused %d deletions: %v", all, b.readers.refused, err)
		}
	})
}

// TestFarStoreSendsTheSame: what goes over the wire and its root are the same
// whether a store is far away or not, from wherever a step goes on.
func TestFarStoreSendsTheSame(t *testing.T) {
	ctx, d := t.Context(), mem.New(mem.Options{})
	const size, id = 2048 * driver.BlockSize, block.VolumeID("v")
	if err := d.CreateVolume(ctx, id, size); err != nil {
		t.Fatal(err)
	}
	dev, err := d.OpenVolume(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	r, want := rand.New(rand.NewPCG(1, 7)), make([]byte, size)
	last := block.Point{}
	for n := range 20 {
		scatter(r, want, func(off int64, p []byte) {
			if _, err := dev.WriteAt(p, off); err != nil {
				t.Fatal(err)
			}
		})
		p := block.Point{ID: block.PointID(fmt.Sprint("p", n)), Size: size}
		if err := d.CreateSnapshot(ctx, driver.SnapshotRef{Volume: id, Name: p.ID}); err != nil {
			t.Fatal(err)
		}
		step := block.Step{Base: last, Target: p}
		from := int64(r.IntN(2) * r.IntN(2048) * driver.BlockSize)
		near, nearSum := deltaOf(t, d, step, from)
		for _, store := range []driver.Driver{newFar(d), filled{newFar(d)}} {
			runs, sum := deltaOf(t, store, step, from)
			if sum != nearSum || len(runs) != len(near) {
				t.Fatalf("step %d, %T: %d runs and sum %x, near by %d and %x", n, store, len(runs), sum, len(near), nearSum)
			}
			for i := range runs {
				if runs[i].Off != near[i].Off || runs[i].Len != near[i].Len || !bytes.Equal(runs[i].Data, near[i].Data) {
					t.Fatalf("step %d, %T: run %d is %d, %d", n, store, i, runs[i].Off, runs[i].Len)
				}
			}
		}
		last = p
	}
}

// TestOtherEndRefuses: when the other end can't begin, that is the step's error, and
// nothing is sent, however much was read by then.
func TestOtherEndRefuses(t *testing.T) {
	d := mem.New(mem.Options{})
	w := newMoments(t, d, bytes.Repeat([]byte{1}, 512*driver.BlockSize))
	step := block.Step{Target: w.cut()}
	refusal := block.Errorf(block.Stale, "no")
	for _, from := range []driver.Driver{d, newFar(d), filled{newFar(d)}} {
		store := store{driver: from, volume: "v"}
		_, err := store.Delta(t.Context(), step, Sum{}, func() (int64, error) { return 0, refusal }, func(Run) error {
			t.Error("something was sent")
			return nil
		})
		if !block.Is(err, block.Stale) {
			t.Errorf("%T: %v", store.driver, err)
		}
	}
}

// opening counts the snapshots that are opened.
type opening struct {
	far
	snapshots *atomic.Int64
}

func (o opening) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	o.snapshots.Add(1)
	return o.far.OpenSnapshot(ctx, ref)
}

// TestWhatIsRememberedIsNotRead: a step from the point of the one before opens that
// one only for blocks that are not remembered, and the sum is always the same.
func TestWhatIsRememberedIsNotRead(t *testing.T) {
	for name, most := range map[string]int{"all": recallMost, "little": 4} {
		t.Run(name, func(t *testing.T) {
			d, opened := mem.New(mem.Options{}), atomic.Int64{}
			s := store{opening{newFar(d), &opened}, "v", newRecall(), "v"}
			s.recall.most = most
			near := store{driver: d, volume: "v"}
			r, want := rand.New(rand.NewPCG(3, 7)), make([]byte, 512*driver.BlockSize)
			for i := range want {
				want[i] = byte(r.Uint32())
			}
			w := newMoments(t, d, want)
			last, lastSum := block.Point{}, Sum{}
			for n := range 30 {
				p := w.cut()
				step := block.Step{Base: last, Target: p}
				fails := n%7 == 6
				opened.Store(0)
				sum, err := s.Delta(t.Context(), step, lastSum, from(0), func(r Run) error {
					if fails && r.Off > 256*driver.BlockSize {
						return context.Canceled
					}
					return nil
				})
				// After a step that failed, only what is sent since then is remembered.
				reads := opened.Load() - 1
				if most == recallMost && 0 < n && n < 4 && reads != 0 || n%7 == 0 && n > 0 && reads == 0 {
					t.Errorf("step %d: the base was opened %d times", n, reads)
				}
				if err == nil {
					nearSum, err := near.Delta(t.Context(), step, lastSum, from(0), func(Run) error { return nil })
					if err != nil {
						t.Fatal(err)
					}
					if sum != nearSum {
						t.Fatalf("step %d: sum %x, and it is %x", n, sum, nearSum)
					}
					last, lastSum = p, nearSum
				} else if !fails {
					t.Fatal(err)
				}
				if n == 3 {
					w.zero(0, 300*driver.BlockSize) // longer than a run
				} else {
					scatter(r, want, w.write)
				}
			}
		})
	}
}

// moments is a volume of which moments are named.
type moments struct {
	t   *testing.T
	d   driver.Driver
	dev driver.Device
	n   int
}

func newMoments(t *testing.T, d driver.Driver, content []byte) *moments {
	t.Helper()
	if err := d.CreateVolume(t.Context(), "v", int64(len(content))); err != nil {
		t.Fatal(err)
	}
	dev, err := d.OpenVolume(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	m := &moments{t: t, d: d, dev: dev}
	m.write(0, content)
	return m
}

func (m *moments) write(off int64, p []byte) {
	m.t.Helper()
	if _, err := m.dev.WriteAt(p, off); err != nil {
		m.t.Fatal(err)
	}
}

func (m *moments) zero(off, length int64) {
	m.t.Helper()
	if err := m.dev.Zero(off, length); err != nil {
		m.t.Fatal(err)
	}
}

// cut names the present moment.
func (m *moments) cut() block.Point {
	m.t.Helper()
	m.n++
	p := block.Point{ID: block.PointID(fmt.Sprint("p", m.n)), Size: m.dev.Size()}
	if err := m.d.CreateSnapshot(m.t.Context(), driver.SnapshotRef{Volume: "v", Name: p.ID}); err != nil {
		m.t.Fatal(err)
	}
	return p
}

// from is the other end, which wants what lies from an offset on.
func from(off int64) Begin { return func() (int64, error) { return off, nil } }

func deltaOf(t *testing.T, d driver.Driver, step block.Step, off int64) (runs []Run, sum Sum) {
	t.Helper()
	sum, err := store{
		driver: d,
		volume: "v",
	}.Delta(
		context.WithoutCancel(t.Context()),
		step,
		Sum{},
		from(off),
		func(r Run) error {
			r.Data = bytes.Clone(r.Data)
			runs = append(runs, r)
			return nil
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	return runs, sum
}
