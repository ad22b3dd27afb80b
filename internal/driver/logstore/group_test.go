package logstore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

const (
	groupVolumes = 4
	groupChains  = 4
	chainBlocks  = 16
)

// chain writes 1, 2, 3 and so on, each number to all volumes of a group in
// turn, one write after the other was acknowledged.
type chain struct {
	index   int64
	started atomic.Uint64 // numbers that a write of was begun
	acked   atomic.Uint64 // numbers that all volumes have
}

func (c *chain) run(ctx context.Context, devices []driver.Device) error {
	p := make([]byte, blockSize)
	for n := uint64(1); ctx.Err() == nil; n++ {
		c.started.Store(n)
		le.PutUint64(p, n)
		for _, d := range devices {
			if _, err := d.WriteAt(p, c.place(n)*blockSize); err != nil {
				return err
			}
		}
		c.acked.Store(n)
	}
	return nil
}

func (c *chain) place(n uint64) int64 { return c.index*chainBlocks + int64(n%chainBlocks) }

// TestGroupSnapshotUnderLoad: a snapshot of many volumes that are written to
// shows a prefix of each one's writes, at least all that were acknowledged
// before it and none that began after it, and the same cut in all: who has a
// write has every write of the group that was acknowledged before that began.
func TestGroupSnapshotUnderLoad(t *testing.T) {
	s := openTest(t, Options{FS: vfs.NewMem(1<<30, nil), Dir: "s", SegmentSize: 1 << 20, CacheBytes: 4 << 20,
		MaxBytes: 64 << 20})
	ctx := context.Background()
	var devices []driver.Device
	for v := range groupVolumes {
		id := block.VolumeID(fmt.Sprint("v", v))
		must(t, s.CreateVolume(ctx, id, leafBlocks*blockSize))
		d, err := s.OpenVolume(ctx, id)
		must(t, err)
		defer d.Close()
		devices = append(devices, d)
	}
	writing, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	chains := make([]chain, groupChains)
	for i := range chains {
		chains[i].index = int64(i)
		wg.Go(func() {
			if err := chains[i].run(writing, devices); err != nil {
				t.Error(err)
			}
		})
	}
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for round := range rounds {
		name := block.PointID(fmt.Sprint("s", round))
		var refs []driver.SnapshotRef
		for v := range groupVolumes {
			refs = append(refs, driver.SnapshotRef{Volume: block.VolumeID(fmt.Sprint("v", v)), Name: name})
		}
		var before, after [groupChains]uint64
		for i := range chains {
			before[i] = chains[i].acked.Load()
		}
		must(t, s.CreateSnapshots(ctx, refs))
		for i := range chains {
			after[i] = chains[i].started.Load()
		}
		for i := range chains {
			cut := chainCut(t, s, refs, &chains[i])
			if cut[0] < before[i] || cut[0] > after[i] || cut[groupVolumes-1]+1 < cut[0] {
				t.Fatalf("round %d, chain %d: cut at %d; %d to %d were possible", round, i, cut, before[i], after[i])
			}
			for v := 1; v < groupVolumes; v++ {
				if cut[v] > cut[v-1] {
					t.Fatalf("round %d, chain %d: volume %d is ahead of the one written before it: %d", round, i, v, cut)
				}
			}
		}
		for _, ref := range refs {
			must(t, s.DeleteSnapshot(ctx, ref))
		}
	}
}

// chainCut returns up to which number each snapshot has a chain, and sees that
// it has all numbers up to that.
func chainCut(t *testing.T, s *Store, refs []driver.SnapshotRef, c *chain) (cut []uint64) {
	t.Helper()
	for _, ref := range refs {
		r, err := s.OpenSnapshot(context.Background(), ref)
		must(t, err)
		p := make([]byte, chainBlocks*blockSize)
		_, err = r.ReadAt(p, c.index*chainBlocks*blockSize)
		must(t, err)
		must(t, r.Close())
		last := uint64(0)
		for i := range chainBlocks {
			last = max(last, le.Uint64(p[i*blockSize:]))
		}
		for n := last; n > 0 && n+chainBlocks > last; n-- {
			if got := le.Uint64(p[n%chainBlocks*blockSize:]); got != n {
				t.Fatalf("%s of %s has %d but lacks %d: there is %d", ref.Name, ref.Volume, last, n, got)
			}
		}
		cut = append(cut, last)
	}
	return cut
}

// TestManyVolumesAtOnce writes to 256 volumes at once, with flushes and a
// snapshot of all; each has its own bytes, also after a kill.
func TestManyVolumesAtOnce(t *testing.T) {
	const volumes = 256
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	o := Options{FS: mem, Dir: "s", SegmentSize: 1 << 20, CacheBytes: 4 << 20, MaxBytes: 128 << 20, Log: quiet()}
	s, err := Open(ctx, o)
	must(t, err)
	defer s.release()
	want := make([][]byte, volumes)
	var wg sync.WaitGroup
	for v := range volumes {
		wg.Go(func() {
			var err error
			if want[v], err = oneOfMany(ctx, s, v, rounds); err != nil {
				t.Errorf("volume %d: %v", v, err)
			}
		})
	}
	wg.Wait()
	must(t, s.Check(ctx))
	o.FS = mem.Kill()
	again := openTest(t, o)
	for v := range volumes {
		d, err := again.OpenVolume(ctx, manyID(v))
		must(t, err)
		got := make([]byte, len(want[v]))
		_, err = d.ReadAt(got, 0)
		must(t, err)
		if !bytes.Equal(got, want[v]) {
			t.Errorf("volume %d has other bytes than its own", v)
		}
		must(t, d.Close())
	}
}

func manyID(v int) block.VolumeID { return block.VolumeID(fmt.Sprint("v", v)) }

// oneOfMany creates a volume, writes to it, and returns what it should hold.
func oneOfMany(ctx context.Context, s *Store, v, rounds int) ([]byte, error) {
	const blocks = 8
	if err := s.CreateVolume(ctx, manyID(v), blocks*blockSize); err != nil {
		return nil, err
	}
	d, err := s.OpenVolume(ctx, manyID(v))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	rng := rand.New(rand.NewPCG(uint64(v), 7))
	want := make([]byte, blocks*blockSize)
	for i := range rounds {
		off := rng.IntN(blocks*blockSize - 6000)
		p := randomBytes(rng, 6000)
		if _, err := d.WriteAt(p, int64(off)); err != nil {
			return nil, err
		}
		copy(want[off:], p)
		if i == rounds/2 {
			ref := driver.SnapshotRef{Volume: manyID(v), Name: "half"}
			if err := s.CreateSnapshot(ctx, ref); err != nil {
				return nil, err
			}
		}
		got := make([]byte, len(want))
		if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			return nil, fmt.Errorf("read: %w, or other bytes than its own", err)
		}
	}
	return want, d.Flush()
}

// TestTwoNamesOfOneInstant: a volume can't get two snapshots by one call. It
// would have one of them only after the store was opened again.
func TestTwoNamesOfOneInstant(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, crashOptions(vfs.NewMem(1<<30, nil), nil))
	must(t, s.CreateVolume(ctx, "v", crashSize))
	must(t, s.CreateVolume(ctx, "w", crashSize))
	a, b, other := driver.SnapshotRef{Volume: "v", Name: "a"}, driver.SnapshotRef{Volume: "v", Name: "b"},
		driver.SnapshotRef{Volume: "w", Name: "a"}
	if err := s.CreateSnapshots(ctx, []driver.SnapshotRef{a, other, b}); !block.Is(err, block.Invalid) {
		t.Errorf("two names of one volume: %v", err)
	}
	if all, err := s.Snapshots(ctx, "v"); err != nil || len(all) != 0 {
		t.Errorf("snapshots after that: %v, %v", all, err)
	}
	must(t, s.CreateSnapshots(ctx, []driver.SnapshotRef{a, other, a}))
}
