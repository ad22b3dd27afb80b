package logstore

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

const (
	readyTarget = 4         // segments that are kept ready for the log, new ones if need be
	readyMost   = 32        // used ones that are made ready ahead of that, at most
	readyBytes  = 128 << 20 // and how many bytes they may have
	zeroChunk   = 1 << 20   // bytes zeroed by one write
)

// reserve is how many ready segments must be left for a record to be written,
// so that moving data out of the way is possible when writing is not, and
// deleting when neither is. Two segments between writing and moving let even a
// segment be emptied that is live almost as a whole. Trimming leaves one of
// them: however much is trimmed in small pieces, something can still be moved.
type reserve int

const (
	forDeleting reserve = 0
	forMoving   reserve = 1
	forTrimming reserve = 2
	forWriting  reserve = 3
)

// pool keeps segments ready for the log: files of full size whose bytes are
// allocated, so that appending to them changes no metadata of the file system.
// One of them is the reserve out of which deletion is always possible.
type pool struct {
	fs   vfs.FS
	dir  string
	size int64
	max  int64 // bytes of all segments; 0 for no bound
	// reclaim looks for segments with nothing live; it may return none.
	reclaim func(ctx context.Context) error
	grew    func()                // is told when segments were used up
	gone    func(id uint32) error // is told of a segment that has no file any more
	// index tells how many bytes the index has on the disk, and for a while only.
	index    func() (size, passing int64)
	memTable int64 // bytes of one of the index's memory tables
	handles  *handles
	hooks    *testHooks

	mu      sync.Mutex // guards all below
	change  *sync.Cond // on mu: ready, margin, full, or closed changed
	margin  margin
	all     map[uint32]bool
	ready   []uint32 // in order of use
	free    []uint32 // nothing live, index durable: may be overwritten
	next    uint32   // id
	full    error    // why no segment can be had
	retries int      // how often somebody said that there may be room now
	failed  error    // the log stopped
	wake    chan struct{}
	freed   chan struct{} // has something after setFree
}

func newPool(fsys vfs.FS, dir string, size, maxBytes int64, h *handles, hooks *testHooks) *pool {
	p := &pool{fs: fsys, dir: dir, size: size, max: maxBytes, handles: h, hooks: hooks, all: map[uint32]bool{},
		next: 1, wake: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
	p.change = sync.NewCond(&p.mu)
	return p
}

// load lists the segment files. A process that was killed may have named some
// whose names are not on the disk yet; they are used as those are that this one
// names.
func (p *pool) load() error {
	dir := path.Join(p.dir, segmentDir)
	if err := p.fs.MkdirAll(dir); err != nil {
		return block.Wrap(ioKind(err), err, "the store's directory can't be made")
	}
	if err := p.syncDir(); err != nil {
		return block.Wrap(ioKind(err), err, "the store's directory can't be synced")
	}
	names, err := p.fs.List(dir)
	if err != nil {
		return block.Wrap(block.Unavailable, err, "the store's segments can't be listed")
	}
	for _, name := range names {
		if id, ok := segmentID(name); ok {
			p.all[id] = true
			p.next = max(p.next, id+1)
		}
	}
	return nil
}

// adopt takes the segments after the log's end as ready, once recovery knows
// that end. Files that were never filled are removed.
func (p *pool) adopt(last uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(p.all)) {
		if id <= last {
			continue
		}
		h, err := p.handles.get(id)
		if err != nil {
			return err
		}
		size, err := h.Size()
		if err == nil && size == p.size {
			err = h.Sync() // a process that was killed may have filled it with zeros, and no more
		}
		p.handles.put(h)
		if err != nil {
			return block.Wrap(block.Unavailable, err, "a segment of the store can't be read")
		}
		if size == p.size {
			p.ready = append(p.ready, id)
			continue
		}
		p.handles.drop(id)
		if err := p.fs.Remove(segmentName(p.dir, id)); err != nil {
			return block.Wrap(block.Unavailable, err, "a segment of the store can't be removed")
		}
		delete(p.all, id)
	}
	return nil
}

func (p *pool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready)
}

// take returns the next ready segment.
func (p *pool) take() (uint32, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signal()
	if len(p.ready) == 0 {
		return 0, false
	}
	p.grew()
	id := p.ready[0]
	p.ready = p.ready[1:]
	return id, true
}

func (p *pool) giveBack(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = slices.Insert(p.ready, 0, id)
}

func (p *pool) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// wait returns nil when there are segments enough to write a record that keeps
// a reserve, or why there won't be.
func (p *pool) wait(keep reserve) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.has(max(1, keep)) && p.failed == nil && p.full == nil {
		p.signal()
		p.change.Wait()
	}
	if p.failed != nil {
		return p.failed
	}
	if !p.has(max(1, keep)) {
		p.signal() // the file system may have room again
		return p.full
	}
	return nil
}

// fail ends all waiting, now and later.
func (p *pool) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		p.failed = err
	}
	p.change.Broadcast()
}

// run keeps the pool filled until ctx ends.
func (p *pool) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			p.fail(errClosed())
			return
		case <-p.wake:
		}
		for p.wantsMore() && ctx.Err() == nil {
			p.mu.Lock()
			before := p.retries
			p.mu.Unlock()
			err := p.addReady(ctx)
			p.mu.Lock()
			if p.full = err; p.retries != before {
				p.full = nil // room was made meanwhile: look again
				p.signal()
			}
			p.change.Broadcast()
			p.mu.Unlock()
			if err != nil {
				break
			}
		}
	}
}

// mayBeReady is how many used segments are made ready ahead: each costs a
// rename, and all of them together one sync of the directory. The caller holds
// mu.
func (p *pool) mayBeReady() int {
	if p.margin.lack > 0 {
		return p.readyGoal()
	}
	n := min(readyMost, int(readyBytes/p.size))
	if p.max > 0 {
		n = min(n, int(p.max/p.size/16))
	}
	return max(readyTarget, n)
}

// wantsMore tells whether run has something to do.
func (p *pool) wantsMore() bool {
	_ = p.look() // what can't be told is as it was; making segments tells why
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.margin.lack > 0 || len(p.ready) < p.readyGoal() || len(p.free) > 0 && len(p.ready) < p.mayBeReady()
}

// addReady gets more segments ready: recycled ones, a new file, or those that
// reclaiming sets free. Where the index lacks room, it gives some back instead.
func (p *pool) addReady(ctx context.Context) error {
	if ids := p.takeFree(); len(ids) > 0 {
		err := p.recycle(ids...)
		if err == nil || p.count() >= readyTarget || p.grow(ctx) != nil {
			return err
		}
		return nil
	}
	if gave, err := p.giveRoom(); gave || err != nil {
		return err
	}
	err := p.grow(ctx)
	if err == nil || block.KindOf(err) != block.NoSpace {
		return err
	}
	if rerr := p.reclaim(ctx); rerr != nil {
		return rerr
	}
	if ids := p.takeFree(); len(ids) > 0 {
		return p.recycle(ids...)
	}
	if gave, gerr := p.giveRoom(); gave || gerr != nil {
		return gerr
	}
	return err
}

// takeFree takes as many free segments as may be made ready.
func (p *pool) takeFree() []uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free) - min(len(p.free), max(0, p.mayBeReady()-len(p.ready)))
	ids := slices.Clone(p.free[n:])
	p.free = p.free[:n]
	for _, id := range ids {
		delete(p.all, id) // no census finds it dead once more
	}
	return ids
}

// recycle gives dead segments new ids. Their old bytes stay; the generation,
// the sequence and the salt keep them from being taken for records. None is
// used before the directory with its new name is on the disk: the log would
// end where a power cut took the name back.
//
// One that can't be renamed stays free, and so do all, under the names that
// they have by then, where the directory can't be synced.
func (p *pool) recycle(dead ...uint32) error {
	var ids, renamed []uint32
	var failed error
	for _, old := range dead {
		p.mu.Lock()
		id := p.next
		p.next++
		p.mu.Unlock()
		p.handles.drop(old)
		err := p.fs.Rename(segmentName(p.dir, old), segmentName(p.dir, id))
		switch {
		case err == nil:
			ids, renamed = append(ids, id), append(renamed, old)
		case errors.Is(err, fs.ErrNotExist): // an earlier failure was none
			renamed = append(renamed, old)
		default:
			p.addToFree(old)
			failed = err
		}
	}
	if err := p.syncDir(); err != nil {
		p.addToFree(ids...)
		ids, failed = nil, err
	}
	for _, id := range ids {
		p.addToReady(id)
	}
	for _, old := range renamed {
		if err := p.gone(old); err != nil {
			return err
		}
	}
	if len(ids) > 0 || failed == nil {
		return nil
	}
	return block.Wrap(ioKind(failed), failed, "a segment of the store can't be reused")
}

// addToFree puts free segments back, to be taken again after all others.
func (p *pool) addToFree(ids ...uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.all[id] = true
	}
	p.free = append(slices.Clone(ids), p.free...)
}

// shrink gives empty segments back to the file system but for some, of which
// readyTarget stay ready.
func (p *pool) shrink(keep int) error {
	for {
		p.mu.Lock()
		if len(p.free)+len(p.ready) <= keep+readyTarget {
			p.mu.Unlock()
			return nil
		}
		id := p.takeEmpty()
		p.mu.Unlock()
		if err := p.remove(id); err != nil {
			return err
		}
	}
}

func (p *pool) syncDir() error {
	if p.hooks.is(skipSegmentDirSync) {
		return nil
	}
	return p.fs.SyncDir(path.Join(p.dir, segmentDir))
}

func (p *pool) addToReady(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[id] = true
	p.ready = append(p.ready, id)
	slices.Sort(p.ready)
}

// grow makes one more segment file and fills it with zeros.
func (p *pool) grow(ctx context.Context) error {
	if err := p.roomToGrow(); err != nil {
		return err
	}
	p.mu.Lock()
	id := p.next
	p.next++
	p.mu.Unlock()
	name := segmentName(p.dir, id)
	f, err := p.fs.Create(name)
	if err != nil {
		return block.Wrap(ioKind(err), err, "a segment of the store can't be made")
	}
	err = fill(ctx, f, p.size, make([]byte, min(zeroChunk, p.size)))
	f.Close()
	if err == nil {
		err = p.syncDir()
	}
	if err != nil {
		_ = p.fs.Remove(name) // if it stays, the next opening removes or takes it
		return block.Wrap(ioKind(err), err, "a segment of the store can't be filled")
	}
	p.addToReady(id)
	return nil
}

// setFree says that segments have nothing live and that the durable index
// knows it.
func (p *pool) setFree(ids []uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, ids...)
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// retry makes a full pool look again.
func (p *pool) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full = nil
	p.retries++
	p.signal()
}

// counts returns how many segments there are, and how many of them are empty.
func (p *pool) counts() (all, empty int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all), len(p.ready) + len(p.free)
}

// ids lists all segments in order.
func (p *pool) ids() []uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.all))
}

func (p *pool) freeCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.free)
}
