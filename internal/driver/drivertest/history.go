package drivertest

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// SeedsVariable names the environment variable that says how many random
// histories the suite plays instead of the default.
const SeedsVariable = "KVOL_DRIVERTEST_SEEDS"

const (
	historySteps = 250
	maxTwins     = 5
)

var historyCases = []testCase{{"random, against a copy of the bytes", func(r *room) { r.histories(nil) }}}

// histories plays random histories, one for each seed. again, if not nil,
// opens the store anew after it was closed.
func (r *room) histories(again func() driver.Driver) {
	seeds := r.seeds
	if n, err := strconv.Atoi(os.Getenv(SeedsVariable)); err == nil {
		seeds = n
	}
	for seed := range uint64(seeds) {
		h := &history{room: r, rnd: rand.New(rand.NewPCG(seed, 4096)), seed: seed, again: again}
		for range cmp.Or(r.steps, historySteps) {
			h.step()
		}
		h.end()
	}
}

// history plays random steps on a store and keeps a copy of what it must hold.
type history struct {
	*room
	rnd   *rand.Rand
	seed  uint64
	again func() driver.Driver // nil: the store stays open
	twins []*twin
	log   []string
}

// twin is a volume and what it must hold.
type twin struct {
	id      block.VolumeID
	dev     driver.Device // nil while closed
	content []byte
	moments []moment
}

// moment is a snapshot and what it must hold.
type moment struct {
	ref     driver.SnapshotRef
	content []byte
}

func (h *history) step() {
	h.Helper()
	if len(h.twins) == 0 {
		h.create()
		return
	}
	v := h.twins[h.rnd.IntN(len(h.twins))]
	steps := []struct {
		weight int
		do     func(v *twin)
	}{
		{35, h.write}, {15, h.zero}, {15, h.read}, {12, h.snapshot}, {6, h.deleteSnapshot}, {4, h.clone},
		{4, h.extend}, {5, h.reopen}, {5, h.flush}, {3, h.groupSnapshot}, {2, h.revert}, {6, h.diff},
		{3, h.compare}, {1, h.delete}, {2, func(*twin) { h.create() }}, {3, h.reopenStore},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	pick := h.rnd.IntN(total)
	for _, s := range steps {
		if pick -= s.weight; pick < 0 {
			s.do(v)
			return
		}
	}
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// fail ends the test with the seed and the steps that led here.
func (h *history) fail(format string, args ...any) {
	h.Helper()
	tail := h.log[max(0, len(h.log)-40):]
	h.Fatalf("seed %d, step %d: %s\nlast steps:\n  %s", h.seed, len(h.log), fmt.Sprintf(format, args...),
		strings.Join(tail, "\n  "))
}

func (h *history) must(err error) {
	h.Helper()
	if err != nil {
		h.fail("unexpected error: %v", err)
	}
}

func (h *history) short(id block.VolumeID) string { return string(id)[:4] }

// place picks a range within size, half of the time aligned and mostly short.
func (h *history) place(size int64) (off, n int64) {
	off, n = h.rnd.Int64N(size), 1+h.rnd.Int64N(3*kib4)
	if h.rnd.IntN(10) == 0 {
		n = 1 + h.rnd.Int64N(60*kib4)
	}
	if h.rnd.IntN(2) == 0 {
		off, n = off/kib4*kib4, (n+kib4-1)/kib4*kib4
	}
	return off, min(n, size-off)
}

func (h *history) create() {
	if len(h.twins) >= maxTwins {
		return
	}
	blocks := 1 + h.rnd.Int64N(64)
	if h.rnd.IntN(4) == 0 {
		blocks = 480 + h.rnd.Int64N(64) // about a leaf of an index
	}
	v := &twin{id: block.VolumeID(block.NewID()), content: make([]byte, blocks*kib4)}
	h.note("%s: create, %d blocks", h.short(v.id), blocks)
	h.must(h.d.CreateVolume(h.ctx, v.id, blocks*kib4))
	h.twins = append(h.twins, v)
}

func (h *history) device(v *twin) driver.Device {
	if v.dev == nil {
		dev, err := h.d.OpenVolume(h.ctx, v.id)
		h.must(err)
		v.dev = dev
		h.Cleanup(func() { dev.Close() })
	}
	return v.dev
}

func (h *history) write(v *twin) {
	off, n := h.place(int64(len(v.content)))
	p := pattern(h.rnd.Uint64(), int(n))
	if h.rnd.IntN(8) == 0 {
		clear(p) // zeros that are written are no hole
	}
	h.note("%s: write %d at %d", h.short(v.id), n, off)
	if _, err := h.device(v).WriteAt(p, off); err != nil {
		h.fail("write: %v", err)
	}
	copy(v.content[off:], p)
}

func (h *history) zero(v *twin) {
	off, n := h.place(int64(len(v.content)))
	h.note("%s: zero %d at %d", h.short(v.id), n, off)
	h.must(h.device(v).Zero(off, n))
	clear(v.content[off : off+n])
}

func (h *history) read(v *twin) {
	off, n := h.place(int64(len(v.content)))
	p := make([]byte, n)
	if _, err := h.device(v).ReadAt(p, off); err != nil {
		h.fail("read: %v", err)
	}
	if where := firstDifference(p, v.content[off:off+n]); where != "" {
		h.fail("%s: read of %d at %d: %s", h.short(v.id), n, off, where)
	}
}

func (h *history) flush(v *twin) {
	h.note("%s: flush", h.short(v.id))
	h.must(h.device(v).Flush())
}

func (h *history) newMoment(v *twin) driver.SnapshotRef {
	ref := driver.SnapshotRef{Volume: v.id, Name: block.PointID(block.NewID())}
	v.moments = append(v.moments, moment{ref, bytes.Clone(v.content)})
	return ref
}

func (h *history) snapshot(v *twin) {
	h.note("%s: snapshot %d", h.short(v.id), len(v.moments))
	h.must(h.d.CreateSnapshot(h.ctx, h.newMoment(v)))
}

func (h *history) groupSnapshot(*twin) {
	d, ok := driver.As[driver.GroupSnapshotter](h.d)
	if !ok {
		return
	}
	var refs []driver.SnapshotRef
	for _, v := range h.twins {
		refs = append(refs, h.newMoment(v))
	}
	h.note("all: snapshot")
	h.must(d.CreateSnapshots(h.ctx, refs))
}

func (h *history) deleteSnapshot(v *twin) {
	if len(v.moments) == 0 {
		return
	}
	i := h.rnd.IntN(len(v.moments))
	h.note("%s: delete snapshot %d of %d", h.short(v.id), i, len(v.moments))
	h.must(h.d.DeleteSnapshot(h.ctx, v.moments[i].ref))
	v.moments = slices.Delete(v.moments, i, i+1)
}

func (h *history) clone(v *twin) {
	if len(v.moments) == 0 || len(h.twins) >= maxTwins {
		return
	}
	i := h.rnd.IntN(len(v.moments))
	m := v.moments[i]
	c := &twin{id: block.VolumeID(block.NewID()), content: bytes.Clone(m.content)}
	c.content = append(c.content, make([]byte, h.rnd.Int64N(4)*kib4)...)
	h.note("%s: clone of %s's snapshot %d", h.short(c.id), h.short(v.id), i)
	h.must(h.d.CloneSnapshot(h.ctx, c.id, m.ref, int64(len(c.content))))
	h.twins = append(h.twins, c)
}

func (h *history) extend(v *twin) {
	v.content = append(v.content, make([]byte, h.rnd.Int64N(8)*kib4)...)
	h.note("%s: extend to %d blocks", h.short(v.id), len(v.content)/kib4)
	h.must(h.d.ExtendVolume(h.ctx, v.id, int64(len(v.content))))
}

func (h *history) reopen(v *twin) {
	h.note("%s: close", h.short(v.id))
	if v.dev != nil {
		h.must(v.dev.Close())
		v.dev = nil
	}
}

// reopenStore closes the store in good order and opens it again; all must be
// there, flushed or not.
func (h *history) reopenStore(*twin) {
	if h.again == nil {
		return
	}
	for _, v := range h.twins {
		h.reopen(v)
	}
	h.note("all: close the store, open it")
	h.must(h.d.Close())
	h.d = h.again()
}

func (h *history) revert(v *twin) {
	d, ok := driver.As[driver.Reverter](h.d)
	if !ok || len(v.moments) == 0 {
		return
	}
	h.reopen(v)
	i := h.rnd.IntN(len(v.moments))
	h.note("%s: revert to %d of %d", h.short(v.id), i, len(v.moments))
	h.must(d.Revert(h.ctx, v.moments[i].ref))
	v.content = bytes.Clone(v.moments[i].content)
	v.moments = v.moments[:i+1]
}

func (h *history) delete(v *twin) {
	h.reopen(v)
	h.note("%s: delete", h.short(v.id))
	h.must(h.d.DeleteVolume(h.ctx, v.id))
	h.twins = slices.DeleteFunc(h.twins, func(o *twin) bool { return o == v })
}

// diff compares two snapshots of v, or all of one.
func (h *history) diff(v *twin) {
	if len(v.moments) == 0 {
		return
	}
	j := h.rnd.IntN(len(v.moments))
	i := h.rnd.IntN(j+1) - 1
	h.diffOf(v, i, j)
}

// diffOf checks the difference of v's snapshots i and j; -1 is before the volume was.
func (h *history) diffOf(v *twin, i, j int) {
	var from moment
	if i >= 0 {
		from = v.moments[i]
	}
	to := v.moments[j]
	if why := diffFault(driver.Diff(h.ctx, h.d, from.ref, to.ref), from.content, to.content); why != "" {
		h.fail("%s: Diff of snapshots %d and %d: %s", h.short(v.id), i, j, why)
	}
}

// compare checks all that is known of v.
func (h *history) compare(v *twin) {
	h.same(h.short(v.id), h.device(v), v.content)
	infos, err := h.d.Snapshots(h.ctx, v.id)
	h.must(err)
	var want []driver.SnapshotInfo
	for i, m := range v.moments {
		want = append(want, driver.SnapshotInfo{Name: m.ref.Name, Size: int64(len(m.content))})
		snap, err := h.d.OpenSnapshot(h.ctx, m.ref)
		h.must(err)
		h.same(fmt.Sprintf("%s's snapshot %d", h.short(v.id), i), snap, m.content)
		h.must(snap.Close())
	}
	if !slices.Equal(infos, want) {
		h.fail("%s: Snapshots lists %v, want %v", h.short(v.id), infos, want)
	}
}

func (h *history) same(what string, from sizedReader, content []byte) {
	if from.Size() != int64(len(content)) {
		h.fail("%s has %d bytes, want %d", what, from.Size(), len(content))
	}
	got := make([]byte, len(content))
	if _, err := from.ReadAt(got, 0); err != nil {
		h.fail("%s: %v", what, err)
	}
	if where := firstDifference(got, content); where != "" {
		h.fail("%s: %s", what, where)
	}
	if er, ok := from.(driver.ExtentReader); ok {
		if why := extentsFault(er.Extents(0, from.Size()), content, 0, from.Size()); why != "" {
			h.fail("%s: Extents: %s", what, why)
		}
	}
}

// end compares everything and takes it away.
func (h *history) end() {
	for _, v := range slices.Clone(h.twins) {
		h.compare(v)
		for j := range v.moments {
			h.diffOf(v, j-1, j)
			h.diffOf(v, -1, j)
		}
		h.delete(v)
	}
	for info, err := range h.d.Volumes(h.ctx) {
		h.must(err)
		h.fail("volume %s is left over", info.ID)
	}
}
