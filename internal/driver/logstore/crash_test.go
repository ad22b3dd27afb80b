package logstore

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

const (
	crashSegment = 64 << 10
	crashSize    = (2*leafBlocks + 40) * blockSize // three leaves
)

func crashOptions(fsys vfs.FS, hooks *testHooks) Options {
	if hooks != nil && hooks.wrap != nil {
		fsys = hooks.wrap(fsys)
	}
	return Options{FS: fsys, Dir: "s", SegmentSize: crashSegment, CacheBytes: 64 << 10, MaxBytes: 60 * crashSegment,
		Log: quiet(), hooks: hooks, indexEvery: 96 << 10, sweepBatch: 1}
}

// history is one random run of a store on a file system that is cut off again
// and again: before any operation on a file, an image is taken of what the disk
// might hold, and another store is opened from it.
type history struct {
	rng   *rand.Rand
	hooks *testHooks
	fs    *vfs.Mem
	store *Store
	open  map[block.VolumeID]driver.Device

	mu     sync.Mutex // guards all below
	states []model    // after each atom; the last may be under way
	acked  int        // states[acked] was acknowledged
	synced int        // states[synced] was flushed
	every  int        // an image before each of so many operations
	ops    int
	points int
	failed error
	dice   *rand.Rand
	names  int
	failAt int    // the operation on files that fails; 0 for none
	failBy error  // how
	failIn string // what was under way then
	doing  string
	cuts   map[string]int // images by what was under way
	idle   bool           // see plot
}

// plot is what a history is made of.
type plot struct {
	name  string
	steps int
	every int   // an image before each of so many operations
	max   int64 // bytes of all segments; 0 for so many that none is used again
	step  func(*history) error
	idle  bool // housekeeping is a step of its own, and all is deleted in the end
}

var (
	mixedPlot = plot{name: "everything", steps: 60, every: 1, step: (*history).step}
	fullPlot  = plot{name: "a full store", steps: 160, every: 2, max: 18 * crashSegment, step: (*history).overwrite}
	nounPlot  = plot{name: "clones, rewinds, deletions", steps: 50, every: 1, step: (*history).nouns}
	treePlot  = plot{name: "trees of clones", steps: 60, every: 1, step: (*history).tree, idle: true}

	togetherPlot = plot{name: "writes together", steps: 80, every: 2, step: (*history).together}
	thinPlot     = plot{name: "points thinned out", steps: 80, every: 2, step: (*history).thinOut, idle: true}
)

// newHistory prepares one; nothing is open yet.
func newHistory(seed uint64, p plot, hooks *testHooks) *history {
	h := &history{idle: p.idle, rng: rand.New(rand.NewPCG(seed, 1)), hooks: hooks, every: p.every,
		fs: vfs.NewMem(1<<30, rand.New(rand.NewPCG(seed, 2))), states: []model{{}}, cuts: map[string]int{},
		open: map[block.VolumeID]driver.Device{}, dice: rand.New(rand.NewPCG(seed, 3))}
	h.fs.Hook = h.before
	return h
}

// runHistory plays a history and returns how many images were checked, by what
// was under way.
func runHistory(seed uint64, p plot, hooks *testHooks) (cuts map[string]int, err error) {
	h := newHistory(seed, p, hooks)
	if err := h.reopen(p.max); err != nil {
		return nil, err
	}
	for i := range p.steps {
		err := p.step(h)
		if err == nil && i == p.steps*2/3 {
			err = h.closeAndReopen(p.max)
		}
		if err != nil {
			h.fail(fmt.Errorf("operation: %w", err))
		}
		if h.failure() != nil {
			break
		}
	}
	if h.idle && h.failure() == nil {
		h.fail(h.fellAll())
	}
	if err := h.finish(); err != nil {
		h.fail(err)
	}
	return h.cuts, h.failure()
}

// as says what is under way, for the count of images.
func (h *history) as(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.doing = what
}

func (h *history) reopen(maxBytes int64) error {
	h.as("open")
	o := crashOptions(h.fs, h.hooks)
	o.idle = h.idle
	if maxBytes > 0 {
		o.MaxBytes = maxBytes
	}
	s, err := Open(context.Background(), o)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.store = s
	return err
}

func (h *history) closeAndReopen(maxBytes int64) error {
	h.as("close")
	for id := range h.open {
		h.close(id)
	}
	if err := h.end(true, h.store.Close()); err != nil {
		return err
	}
	return h.reopen(maxBytes)
}

func (h *history) finish() error {
	h.as("check")
	if err := h.store.Check(context.Background()); err != nil {
		return fmt.Errorf("check at the end: %w", err)
	}
	h.as("close")
	for _, d := range h.open {
		d.Close()
	}
	got, err := readAll(context.Background(), h.store)
	if err != nil {
		return err
	}
	h.mu.Lock()
	want := h.states[len(h.states)-1]
	h.mu.Unlock()
	if d := got.differs(want); d != "" {
		return fmt.Errorf("at the end: %s", d)
	}
	if err := checkDiffs(context.Background(), h.store, want); err != nil {
		return err
	}
	return h.store.Close()
}

func (h *history) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil && err != nil {
		h.failed = err
	}
}

func (h *history) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// before is called before each operation on a file.
func (h *history) before(op vfs.Op, _ string) error {
	if h.failAt == 0 && (op == vfs.OpRead || op == vfs.OpOpen) {
		return nil
	}
	h.mu.Lock()
	if h.ops++; h.ops == h.failAt {
		h.failIn = h.doing
		h.mu.Unlock()
		return h.failBy
	}
	if h.every == 0 || h.ops%h.every != 0 || h.failed != nil {
		h.mu.Unlock()
		return nil
	}
	kill, lo, lost := h.dice.IntN(4) == 0, h.synced, 0
	dice := rand.New(rand.NewPCG(h.dice.Uint64(), 5))
	if kill {
		lost = h.acked - h.synced
	}
	h.points++
	h.cuts[h.underWay()]++
	at := h.ops
	h.mu.Unlock()
	var image *vfs.Mem
	if kill {
		image = h.fs.Kill()
	} else {
		image = h.fs.Crash(dice)
	}
	h.mu.Lock()
	states := h.states[lo:len(h.states):len(h.states)]
	h.mu.Unlock()
	if err := verifyImage(image, states, lost, h.hooks, dice, 2); err != nil {
		h.fail(fmt.Errorf("operation %d on files (%s, kill %v): %w", at, op, kill, err))
	}
	return nil
}

// underWay names what is going on: the operation, or that segments are being
// got back beside it. The caller holds mu.
func (h *history) underWay() string {
	if h.store == nil {
		return h.doing
	}
	if !h.store.reclaiming.TryLock() {
		return "getting segments back"
	}
	h.store.reclaiming.Unlock()
	return h.doing
}

// verifyImage opens a store from an image and finds its state among those that
// it may have. While it recovers, the power goes again, at some operation; what
// is recovered then must be one of the same states; and once it is open, the
// state stays over another power cut. The first few states are too old for the
// image of a killed process, but not once the power went.
func verifyImage(image *vfs.Mem, states []model, tooOld int, hooks *testHooks, dice *rand.Rand, depth int) error {
	var second *vfs.Mem
	var mu sync.Mutex
	left := 1 + dice.IntN(12)
	if depth > 1 && dice.IntN(3) == 0 {
		image.Hook = func(op vfs.Op, _ string) error {
			if op == vfs.OpRead || op == vfs.OpOpen {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				second = image.Crash(dice)
			}
			return nil
		}
	}
	s, err := Open(context.Background(), crashOptions(image, hooks))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer s.release()
	got, err := readAll(context.Background(), s)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	k := tooOld + slices.IndexFunc(states[tooOld:], func(m model) bool { return got.differs(m) == "" })
	if k < tooOld {
		return fmt.Errorf("the state is none of %d; against the first: %s; against the last: %s", len(states)-tooOld,
			got.differs(states[tooOld]), got.differs(states[len(states)-1]))
	}
	if dice.IntN(4) == 0 {
		if err := s.Check(context.Background()); err != nil {
			return err
		}
		if err := checkDiffs(context.Background(), s, got); err != nil {
			return err
		}
	}
	mu.Lock()
	cut := second
	mu.Unlock()
	if cut != nil {
		recoveryCuts.Add(1)
		if err := verifyImage(cut, states, 0, hooks, dice, 1); err != nil {
			return fmt.Errorf("cut in recovery: %w", err)
		}
	}
	if depth > 1 && dice.IntN(4) == 0 {
		if err := verifyImage(image.Crash(dice), states[k:k+1], 0, hooks, dice, 1); err != nil {
			return fmt.Errorf("cut after recovery: %w", err)
		}
	}
	return nil
}

// recoveryCuts counts power cuts while a store recovered from another.
var recoveryCuts atomic.Int64

// begin notes the states that an operation may pass through; end that it was
// acknowledged, and flushed as far as it says.
func (h *history) begin(atoms ...func(m model)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range atoms {
		m := h.states[len(h.states)-1].clone()
		a(m)
		h.states = append(h.states, m)
	}
}

func (h *history) end(flushed bool, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		return err
	}
	h.acked = len(h.states) - 1
	if flushed {
		h.synced = h.acked
	}
	return nil
}

func (h *history) now() model {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.states[len(h.states)-1]
}

func (h *history) name() string {
	h.names++
	return fmt.Sprintf("n%d", h.names)
}

// step plays one random operation.
func (h *history) step() error {
	m := h.now()
	ids := make([]block.VolumeID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if len(ids) == 0 || len(ids) < 4 && h.rng.IntN(20) == 0 {
		return h.create()
	}
	id := ids[h.rng.IntN(len(ids))]
	v := m[id]
	h.as("write")
	switch n := h.rng.IntN(100); {
	case n < 48:
		return h.write(id, v)
	case n < 56:
		return h.writePart(id, v)
	case n < 63:
		return h.zero(id, v)
	case n < 73:
		return h.flush(id)
	case n < 83:
		return h.snapshot(ids)
	case n < 86 && len(v.snaps) > 0 && len(ids) < 5:
		return h.cloneOf(id, v)
	case n < 89:
		return h.extend(id, v)
	case n < 92 && len(v.snaps) > 0:
		return h.revert(id, v)
	case n < 97 && len(v.snaps) > 0:
		return h.deleteSnapshot(id, v)
	case n < 98:
		return h.delete(id)
	default:
		return h.write(id, v)
	}
}

func (h *history) flush(id block.VolumeID) error {
	d := h.device(id)
	h.as("flush")
	return h.end2(d.Flush())
}

// overwrite plays one operation of a store that is full most of the time: one
// volume is written over and over, with a snapshot now and then.
func (h *history) overwrite() error {
	m := h.now()
	if len(m) == 0 {
		return h.create()
	}
	for id, v := range m {
		h.as("write")
		switch n := h.rng.IntN(100); {
		case n < 7:
			return h.flush(id)
		case n < 11 && len(v.snaps) > 0:
			return h.deleteSnapshot(id, v)
		case n < 11:
			return h.snapshot([]block.VolumeID{id})
		default:
			return h.write(id, v)
		}
	}
	return nil
}

// nouns plays one operation of a history with few writes.
func (h *history) nouns() error {
	m := h.now()
	ids := slices.Sorted(maps.Keys(m))
	if len(ids) == 0 {
		return h.create()
	}
	id := ids[h.rng.IntN(len(ids))]
	v := m[id]
	h.as("write")
	switch n := h.rng.IntN(100); {
	case n < 30 || len(v.snaps) == 0 && n < 60:
		return h.write(id, v)
	case n < 50 || len(v.snaps) == 0:
		return h.snapshot(ids)
	case n < 60 && len(ids) < 5:
		return h.cloneOf(id, v)
	case n < 70:
		return h.revert(id, v)
	case n < 80:
		return h.deleteSnapshot(id, v)
	case n < 88:
		return h.extend(id, v)
	default:
		return h.delete(id)
	}
}

// tree plays one operation of a history in which long chains of clones and
// rewound volumes come and go.
func (h *history) tree() error {
	m := h.now()
	ids := slices.Sorted(maps.Keys(m))
	if len(ids) == 0 {
		return h.create()
	}
	id := ids[h.rng.IntN(len(ids))]
	v := m[id]
	h.as("write")
	switch n := h.rng.IntN(100); {
	case n < 25 || len(v.snaps) == 0 && n < 45:
		return h.write(id, v)
	case n < 45 || len(v.snaps) == 0:
		return h.snapshot([]block.VolumeID{id})
	case n < 60 && len(ids) < 6:
		return h.cloneOf(id, v)
	case n < 72:
		return h.revert(id, v)
	case n < 80:
		return h.deleteSnapshot(id, v)
	case n < 90 && len(ids) > 1:
		return h.delete(id)
	default:
		return h.tidy()
	}
}

// tidy sweeps and absorbs while the index is written out again and again, so
// that the power is cut with each part of it durable.
func (h *history) tidy() error {
	h.as("sweeping and absorbing")
	s := h.store
	var wg sync.WaitGroup
	var done atomic.Bool
	wg.Go(func() {
		for !done.Load() && s.flushIndex() == nil {
		}
	})
	err := s.tidyBranches(context.Background())
	done.Store(true)
	wg.Wait()
	if err == nil {
		err = s.flushIndex() // on a busy machine the first to be written
	}
	return err
}

// fellAll deletes everything, in no order, and sees that nothing is left.
func (h *history) fellAll() error {
	for m := h.now(); len(m) > 0; m = h.now() {
		for id, v := range m { // any
			err := error(nil)
			if len(v.snaps) > 0 && h.rng.IntN(2) == 0 {
				err = h.deleteSnapshot(id, v)
			} else {
				err = h.delete(id)
			}
			if err == nil && h.rng.IntN(3) == 0 {
				err = h.tidy()
			}
			if err != nil {
				return fmt.Errorf("deleting everything: %w", err)
			}
			break
		}
	}
	h.as("sweeping and absorbing")
	return leftOver(h.store)
}

func (h *history) end2(err error) error { return h.end(true, err) }

func (h *history) device(id block.VolumeID) driver.Device {
	if d := h.open[id]; d != nil {
		return d
	}
	d, err := h.store.OpenVolume(context.Background(), id)
	if err != nil {
		panic(err)
	}
	h.open[id] = d
	return d
}

func (h *history) close(id block.VolumeID) {
	if d := h.open[id]; d != nil {
		d.Close()
		delete(h.open, id)
	}
}

func (h *history) create() error {
	h.as("create")
	id := block.VolumeID(h.name())
	h.begin(func(m model) { m[id] = modelVolume{size: crashSize, data: content{}} })
	return h.end2(h.store.CreateVolume(context.Background(), id, crashSize))
}

// place picks a block: few in number, some next to a leaf's end.
func (h *history) place(v modelVolume) int64 {
	spots := []int64{0, leafBlocks - 4, 2*leafBlocks - 2, v.size/blockSize - 12}
	return spots[h.rng.IntN(len(spots))] + h.rng.Int64N(6)
}

func (h *history) write(id block.VolumeID, v modelVolume) error {
	if h.rng.IntN(6) == 0 {
		return h.writeMany(id, v)
	}
	part, atoms := h.part(id, v)
	h.begin(atoms...)
	_, err := h.device(id).WriteAt(part.Data, part.Off)
	return h.end(false, err)
}

// writeMany writes several at once, of which any first few may be there after a
// power cut.
func (h *history) writeMany(id block.VolumeID, v modelVolume) error {
	h.as("writes together")
	var parts []driver.Part
	var atoms []func(model)
	for range 2 + h.rng.IntN(3) {
		p, a := h.part(id, v)
		parts, atoms = append(parts, p), append(atoms, a...)
	}
	h.begin(atoms...)
	_, err := driver.WriteMany(h.device(id), parts)
	return h.end(false, err)
}

// part makes up a write, and the states that it passes through.
func (h *history) part(id block.VolumeID, v modelVolume) (driver.Part, []func(model)) {
	first, n := h.place(v), 1+h.rng.Int64N(6)
	p := randomBytes(h.rng, int(n)*blockSize)
	var atoms []func(model)
	for done := int64(0); done < n; {
		at := first + done
		k := min(n-done, leafBlocks-at%leafBlocks, h.store.maxRun())
		from := done
		atoms = append(atoms, func(m model) {
			for i := range k {
				m[id].data[at+i] = p[(from+i)*blockSize : (from+i+1)*blockSize]
			}
		})
		done += k
	}
	return driver.Part{Off: first * blockSize, Data: p}, atoms
}

func (h *history) writePart(id block.VolumeID, v modelVolume) error {
	h.as("write of part of a block")
	b, part := h.place(v), h.rng.IntN(blockSize-1)
	p := randomBytes(h.rng, 1+h.rng.IntN(blockSize-part))
	h.begin(func(m model) {
		whole := slices.Clone(m[id].data.get(b))
		copy(whole[part:], p)
		m[id].data[b] = whole
	})
	_, err := h.device(id).WriteAt(p, b*blockSize+int64(part))
	return h.end(false, err)
}

func (h *history) zero(id block.VolumeID, v modelVolume) error {
	h.as("zero")
	first, n := h.place(v), 1+h.rng.Int64N(6)
	if h.rng.IntN(8) == 0 {
		first, n = 0, v.size/blockSize
	}
	h.begin(func(m model) {
		for b := range m[id].data {
			if b >= first && b < first+n {
				delete(m[id].data, b)
			}
		}
	})
	return h.end(false, h.device(id).Zero(first*blockSize, n*blockSize))
}

func (h *history) snapshot(ids []block.VolumeID) error {
	h.as("snapshot")
	var refs []driver.SnapshotRef
	for _, id := range ids {
		if len(refs) == 0 || h.rng.IntN(3) == 0 {
			refs = append(refs, driver.SnapshotRef{Volume: id, Name: block.PointID(h.name())})
		}
	}
	h.begin(func(m model) {
		for _, r := range refs {
			v := m[r.Volume]
			v.snaps = append(v.snaps, modelSnapshot{r.Name, v.size, v.data})
			v.data = content{}
			for b, p := range v.snaps[len(v.snaps)-1].data {
				v.data[b] = p
			}
			m[r.Volume] = v
		}
	})
	return h.end2(h.store.CreateSnapshots(context.Background(), refs))
}

func (h *history) pick(v modelVolume) int { return h.rng.IntN(len(v.snaps)) }

func copyOf(c content) content {
	out := content{}
	for b, p := range c {
		out[b] = p
	}
	return out
}

func (h *history) cloneOf(id block.VolumeID, v modelVolume) error {
	h.as("clone")
	s, to := v.snaps[h.pick(v)], block.VolumeID(h.name())
	size := s.size + h.rng.Int64N(3)*blockSize
	h.begin(func(m model) { m[to] = modelVolume{size: size, data: copyOf(s.data)} })
	ref := driver.SnapshotRef{Volume: id, Name: s.name}
	return h.end2(h.store.CloneSnapshot(context.Background(), to, ref, size))
}

func (h *history) extend(id block.VolumeID, v modelVolume) error {
	h.as("extend")
	size := v.size + 4*blockSize
	h.begin(func(m model) { v := m[id]; v.size = size; m[id] = v })
	return h.end2(h.store.ExtendVolume(context.Background(), id, size))
}

func (h *history) revert(id block.VolumeID, v modelVolume) error {
	h.as("rewind")
	h.close(id)
	i := h.pick(v)
	h.begin(func(m model) {
		v := m[id]
		v.snaps = v.snaps[: i+1 : i+1]
		v.size, v.data = v.snaps[i].size, copyOf(v.snaps[i].data)
		m[id] = v
	})
	ref := driver.SnapshotRef{Volume: id, Name: v.snaps[i].name}
	return h.end2(h.store.Revert(context.Background(), ref))
}

func (h *history) deleteSnapshot(id block.VolumeID, v modelVolume) error {
	h.as("delete snapshot")
	i := h.pick(v)
	h.begin(func(m model) { v := m[id]; v.snaps = slices.Delete(slices.Clone(v.snaps), i, i+1); m[id] = v })
	ref := driver.SnapshotRef{Volume: id, Name: v.snaps[i].name}
	return h.end2(h.store.DeleteSnapshot(context.Background(), ref))
}

func (h *history) delete(id block.VolumeID) error {
	h.as("delete")
	h.close(id)
	h.begin(func(m model) { delete(m, id) })
	return h.end2(h.store.DeleteVolume(context.Background(), id))
}
