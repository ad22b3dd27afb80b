// Package mem is the reference driver: it keeps volumes in memory and does
// everything that the contract offers, in the plainest way that is right. Other
// drivers are compared with it, and tests use it where they need a store. It is
// not for keeping anything: what it holds is gone with the process, whatever
// was flushed.
package mem

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// DefaultCapacity is the capacity of a store whose Options name none, in bytes.
const DefaultCapacity = int64(1) << 50

// Options are the settings of a Store.
type Options struct {
	// Capacity is the number of bytes of data that the store takes before it
	// answers NoSpace; 0 means DefaultCapacity.
	Capacity int64
	// Lending is what hosts are told who use the volumes by themselves, see
	// Store.Borrow; nil where they don't.
	Lending *driver.Lending
}

// Store is a driver.Driver in memory, with all capabilities. Its methods may be
// called at once.
type Store struct {
	capacity int64
	lending  *driver.Lending
	edits    atomic.Uint64 // numbers that were given to trees
	used     atomic.Int64  // bytes in pages; at least what is in use, see reserve

	mu      sync.RWMutex // guards volumes; taken before any volume's mu
	volumes map[block.VolumeID]*volume
}

var (
	_ driver.Driver           = (*Store)(nil)
	_ driver.Differ           = (*Store)(nil)
	_ driver.Reverter         = (*Store)(nil)
	_ driver.GroupSnapshotter = (*Store)(nil)
	_ driver.ChangeCounter    = (*Store)(nil)
)

// New makes an empty store.
func New(o Options) *Store {
	return &Store{capacity: cmp.Or(o.Capacity, DefaultCapacity), lending: o.Lending, volumes: map[block.VolumeID]*volume{}}
}

// CreateVolume implements driver.Driver.
func (s *Store) CreateVolume(_ context.Context, id block.VolumeID, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.volumes[id]; v != nil {
		return v.sameSize(size)
	}
	s.volumes[id] = &volume{store: s, id: id, now: &tree{size: size, edit: s.edit(), leaves: map[int64]*leaf{}}}
	return nil
}

// CloneSnapshot implements driver.Driver.
func (s *Store) CloneSnapshot(_ context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.volumes[id]; v != nil {
		return v.sameSize(size)
	}
	content, err := s.snapshotLocked(from)
	if err != nil {
		return err
	}
	if size < content.size {
		return block.Errorf(block.Invalid, "%d bytes are too few for a snapshot of %d bytes", size, content.size)
	}
	now := content.thaw(s.edit())
	now.size = size
	s.volumes[id] = &volume{store: s, id: id, now: now}
	return nil
}

// ExtendVolume implements driver.Driver.
func (s *Store) ExtendVolume(_ context.Context, id block.VolumeID, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	v, err := s.volume(id)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if size > v.now.size {
		v.now.size = size
		v.changes++
	}
	return nil
}

// DeleteVolume implements driver.Driver.
func (s *Store) DeleteVolume(_ context.Context, id block.VolumeID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.volumes[id]
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open != nil {
		return inUse(id)
	}
	delete(s.volumes, id)
	return nil
}

// CreateSnapshot implements driver.Driver.
func (s *Store) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return s.CreateSnapshots(ctx, []driver.SnapshotRef{ref})
}

// CreateSnapshots implements driver.GroupSnapshotter: it keeps all writers of
// the volumes out for a moment.
func (s *Store) CreateSnapshots(_ context.Context, refs []driver.SnapshotRef) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	group := map[block.VolumeID]*volume{}
	for _, ref := range refs {
		v := s.volumes[ref.Volume]
		if v == nil {
			return noVolume(ref.Volume)
		}
		if ref.Name == "" {
			return block.Errorf(block.Invalid, "a snapshot needs a name")
		}
		group[ref.Volume] = v
	}
	for _, id := range slices.Sorted(maps.Keys(group)) { // in order, so that two groups can't wait for each other
		group[id].mu.Lock()
		defer group[id].mu.Unlock()
	}
	if slices.ContainsFunc(refs, func(ref driver.SnapshotRef) bool { return group[ref.Volume].find(ref.Name) < 0 }) {
		for _, ref := range refs {
			v := group[ref.Volume]
			v.marks = slices.DeleteFunc(v.marks, func(m mark) bool { return m.name == ref.Name })
		}
	}
	for _, ref := range refs {
		group[ref.Volume].snapshotLocked(ref.Name)
	}
	return nil
}

// DeleteSnapshot implements driver.Driver. Readers of the snapshot go on
// working.
func (s *Store) DeleteSnapshot(_ context.Context, ref driver.SnapshotRef) error {
	v, err := s.volume(ref.Volume)
	if err != nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.marks = slices.DeleteFunc(v.marks, func(m mark) bool { return m.name == ref.Name })
	return nil
}

// Revert implements driver.Reverter.
func (s *Store) Revert(_ context.Context, to driver.SnapshotRef) error {
	v, err := s.volume(to.Volume)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open != nil {
		return inUse(to.Volume)
	}
	i := v.find(to.Name)
	if i < 0 {
		return noSnapshot(to)
	}
	v.now = v.marks[i].content.thaw(s.edit())
	v.marks = slices.Delete(v.marks, i+1, len(v.marks))
	v.changes++
	return nil
}

// Diff implements driver.Differ. It is exact but for blocks that were written
// with what they held.
func (s *Store) Diff(ctx context.Context, from, to driver.SnapshotRef) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		older, newer, err := s.pair(from, to)
		if err != nil {
			yield(driver.Extent{}, err)
			return
		}
		for e := range diff(older, newer) {
			if err := ctx.Err(); err != nil {
				yield(driver.Extent{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *Store) pair(from, to driver.SnapshotRef) (older, newer *tree, err error) {
	if !from.Zero() && from.Volume != to.Volume {
		return nil, nil, block.Errorf(block.Invalid, "snapshots of two volumes can't be compared")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !from.Zero() {
		if older, err = s.snapshotLocked(from); err != nil {
			return nil, nil, err
		}
	}
	newer, err = s.snapshotLocked(to)
	return older, newer, err
}

// Changes implements driver.ChangeCounter.
func (s *Store) Changes(_ context.Context, id block.VolumeID) (uint64, error) {
	v, err := s.volume(id)
	if err != nil {
		return 0, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.changes, nil
}
