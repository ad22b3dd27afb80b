package mem

import (
	"iter"
	"sync"
	"sync/atomic"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// volume is a volume and its history.
type volume struct {
	store *Store
	id    block.VolumeID

	mu      sync.RWMutex // guards what follows
	now     *tree
	marks   []mark // from old to new
	changes uint64
	open    *device // nil if nobody has it open

	hosts     sync.RWMutex    // guards below; held for reading around each write of a host
	borrowers map[string]bool // by address: whether it may write, or was cut off
	withheld  bool
}

// mark is a snapshot.
type mark struct {
	name    block.PointID
	content *tree // frozen
}

func (v *volume) size() int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.now.size
}

func (v *volume) sameSize(size int64) error {
	if have := v.size(); have != size {
		return block.Errorf(block.Conflict, "volume %s exists with %d bytes", v.id, have)
	}
	return nil
}

func (v *volume) find(name block.PointID) int {
	for i, m := range v.marks {
		if m.name == name {
			return i
		}
	}
	return -1
}

// snapshotLocked names the present; the caller holds v.mu.
func (v *volume) snapshotLocked(name block.PointID) {
	if v.find(name) < 0 {
		v.marks = append(v.marks, mark{name, v.now.freeze(v.store.edit())})
	}
}

// device is an open volume.
type device struct {
	v      *volume
	closed atomic.Bool
}

var (
	_ driver.ExtentReader = (*device)(nil)
	_ driver.ExtentReader = (*reader)(nil)
)

// check is called with v.mu held.
func (d *device) check(off, length int64) error {
	if d.closed.Load() {
		return errClosed()
	}
	return driver.CheckRange(off, length, d.v.now.size)
}

func (d *device) ReadAt(p []byte, off int64) (int, error) {
	d.v.mu.RLock()
	defer d.v.mu.RUnlock()
	if err := d.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	d.v.now.readAt(p, off)
	return len(p), nil
}

func (d *device) WriteAt(p []byte, off int64) (int, error) {
	if err := d.v.store.reserve(d.v.cost(off, int64(len(p)))); err != nil {
		return 0, err
	}
	d.v.mu.Lock()
	defer d.v.mu.Unlock()
	if err := d.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	d.v.now.writeAt(p, off)
	d.v.changes++
	return len(p), nil
}

func (d *device) Zero(off, length int64) error {
	d.v.mu.Lock()
	defer d.v.mu.Unlock()
	if err := d.check(off, length); err != nil {
		return err
	}
	d.v.now.zero(off, length)
	d.v.changes++
	return nil
}

func (d *device) Flush() error {
	if d.closed.Load() {
		return errClosed()
	}
	return nil
}

func (d *device) Size() int64 { return d.v.size() }

func (d *device) Close() error {
	d.v.mu.Lock()
	defer d.v.mu.Unlock()
	if !d.closed.Swap(true) {
		d.v.open = nil
	}
	return nil
}

// Extents implements driver.ExtentReader: whole blocks, so that the first and
// the last extent may reach beyond the range.
func (d *device) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		end := pagesOf(off + length)
		for i := off / driver.BlockSize; i < end; {
			d.v.mu.RLock()
			err := d.check(off, length)
			var e driver.Extent
			if err == nil {
				e = d.v.now.extent(i, end)
			}
			d.v.mu.RUnlock()
			if !yield(e, err) || err != nil {
				return
			}
			i = e.End() / driver.BlockSize
		}
	}
}

// reader is an open snapshot.
type reader struct {
	content *tree
	closed  atomic.Bool
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if r.closed.Load() {
		return 0, errClosed()
	}
	if err := driver.CheckRange(off, int64(len(p)), r.content.size); err != nil {
		return 0, err
	}
	r.content.readAt(p, off)
	return len(p), nil
}

func (r *reader) Size() int64  { return r.content.size }
func (r *reader) Close() error { r.closed.Store(true); return nil }

// Extents implements driver.ExtentReader as device does.
func (r *reader) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		if err := driver.CheckRange(off, length, r.content.size); err != nil {
			yield(driver.Extent{}, err)
			return
		}
		end := pagesOf(off + length)
		for i := off / driver.BlockSize; i < end; {
			e := r.content.extent(i, end)
			if !yield(e, nil) {
				return
			}
			i = e.End() / driver.BlockSize
		}
	}
}

func pagesOf(bytes int64) int64 { return (bytes + driver.BlockSize - 1) / driver.BlockSize }

func errClosed() error { return block.Errorf(block.Unavailable, "it was closed already") }

// cost returns the bytes of new pages that a write would make.
func (v *volume) cost(off, n int64) int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if driver.CheckRange(off, n, v.now.size) != nil {
		return 0 // it will be refused
	}
	fresh := int64(0)
	for i := off / driver.BlockSize; i < pagesOf(off+n); i++ {
		if l := v.now.leaves[i/leafBlocks]; l == nil || l.edit != v.now.edit || !l.own[i%leafBlocks] {
			fresh++
		}
	}
	return fresh * driver.BlockSize
}

// reserve asks for room for new pages. Pages that were given up count until the
// store seems full and is counted.
func (s *Store) reserve(room int64) error {
	if room == 0 {
		return nil
	}
	if s.used.Add(room) <= s.capacity {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.volumes {
		v.mu.RLock()
		defer v.mu.RUnlock()
	}
	used := s.countLocked() + room
	if used > s.capacity {
		s.used.Store(used - room)
		return block.Errorf(block.NoSpace, "the store is full")
	}
	s.used.Store(used)
	return nil
}
