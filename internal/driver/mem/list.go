package mem

import (
	"context"
	"iter"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Volumes implements driver.Driver.
func (s *Store) Volumes(context.Context) iter.Seq2[driver.VolumeInfo, error] {
	return func(yield func(driver.VolumeInfo, error) bool) {
		s.mu.RLock()
		var all []driver.VolumeInfo
		for id, v := range s.volumes {
			all = append(all, driver.VolumeInfo{ID: id, Size: v.size()})
		}
		s.mu.RUnlock()
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Snapshots implements driver.Driver.
func (s *Store) Snapshots(_ context.Context, id block.VolumeID) ([]driver.SnapshotInfo, error) {
	v, err := s.volume(id)
	if err != nil {
		return nil, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	all := make([]driver.SnapshotInfo, 0, len(v.marks))
	for _, m := range v.marks {
		all = append(all, driver.SnapshotInfo{Name: m.name, Size: m.content.size})
	}
	return all, nil
}

// Capacity implements driver.Driver.
func (s *Store) Capacity(context.Context) (driver.Capacity, error) {
	s.mu.Lock() // keeps groups of snapshots out, which lock volumes in another order
	defer s.mu.Unlock()
	for _, v := range s.volumes {
		v.mu.RLock()
		defer v.mu.RUnlock()
	}
	return driver.Capacity{Total: s.capacity, Free: max(0, s.capacity-s.countLocked())}, nil
}

// countLocked returns the bytes in pages that some volume or snapshot shows,
// shared ones once. The caller holds s.mu and the mu of every volume, for
// reading at least.
func (s *Store) countLocked() int64 {
	leaves, pages := map[*leaf]struct{}{}, map[*page]struct{}{}
	count := func(t *tree) {
		for _, l := range t.leaves {
			if _, seen := leaves[l]; seen {
				continue
			}
			leaves[l] = struct{}{}
			for _, p := range l.pages {
				if p != nil {
					pages[p] = struct{}{}
				}
			}
		}
	}
	for _, v := range s.volumes {
		count(v.now)
		for _, m := range v.marks {
			count(m.content)
		}
	}
	return int64(len(pages)) * driver.BlockSize
}

// OpenVolume implements driver.Driver.
func (s *Store) OpenVolume(_ context.Context, id block.VolumeID) (driver.Device, error) {
	s.mu.RLock() // so that no deletion comes between
	defer s.mu.RUnlock()
	v := s.volumes[id]
	if v == nil {
		return nil, noVolume(id)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open != nil {
		return nil, inUse(id)
	}
	v.open = &device{v: v}
	return v.open, nil
}

// OpenSnapshot implements driver.Driver.
func (s *Store) OpenSnapshot(_ context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	content, err := s.snapshotLocked(ref)
	if err != nil {
		return nil, err
	}
	return &reader{content: content}, nil
}

// Close implements driver.Driver. There is nothing to be done.
func (s *Store) Close() error { return nil }

func (s *Store) volume(id block.VolumeID) (*volume, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if v := s.volumes[id]; v != nil {
		return v, nil
	}
	return nil, noVolume(id)
}

// snapshotLocked returns a snapshot's content; the caller holds s.mu.
func (s *Store) snapshotLocked(ref driver.SnapshotRef) (*tree, error) {
	v := s.volumes[ref.Volume]
	if v == nil {
		return nil, noVolume(ref.Volume)
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if i := v.find(ref.Name); i >= 0 {
		return v.marks[i].content, nil
	}
	return nil, noSnapshot(ref)
}

func (s *Store) edit() uint64 { return s.edits.Add(1) }

func checkSize(size int64) error {
	if size <= 0 || size%driver.BlockSize != 0 {
		return block.Errorf(block.Invalid, "%d bytes is no size of a volume", size)
	}
	return nil
}

func noVolume(id block.VolumeID) error {
	return block.Errorf(block.NotFound, "the store has no volume %s", id)
}

func noSnapshot(ref driver.SnapshotRef) error {
	return block.Errorf(block.NotFound, "volume %s has no snapshot %s", ref.Volume, ref.Name)
}

func inUse(id block.VolumeID) error {
	return block.Errorf(block.Conflict, "volume %s is open", id)
}
