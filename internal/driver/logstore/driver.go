package logstore

import (
	"context"
	"iter"
	"slices"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// maxSize bounds a volume, in bytes: 1 PiB.
const maxSize = int64(1) << 50

func checkSize(size int64) error {
	if size <= 0 || size%blockSize != 0 || size > maxSize {
		return block.Errorf(block.Invalid, "a volume can't have %d bytes", size)
	}
	return nil
}

func (s *Store) volume(id block.VolumeID) (*volume, error) {
	v := s.volumes[id]
	if v == nil {
		return nil, block.Errorf(block.NotFound, "the store has no volume %s", id)
	}
	return v, nil
}

func (s *Store) snapshot(ref driver.SnapshotRef) (*volume, *snapshot, error) {
	v, err := s.volume(ref.Volume)
	if err != nil {
		return nil, nil, err
	}
	snap := v.snapshots.find(ref.Name)
	if snap == nil {
		return nil, nil, block.Errorf(block.NotFound, "volume %s has no snapshot %s in the store", ref.Volume, ref.Name)
	}
	return v, snap, nil
}

// CreateVolume is driver.Driver's: one record.
func (s *Store) CreateVolume(ctx context.Context, id block.VolumeID, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	body := encoder(nil).text(string(id)).uint(uint64(size))
	return s.change(ctx, forWriting, func() error {
		if done, err := s.exists(id, size); done || err != nil {
			return err
		}
		return s.commit(&header{op: opCreate}, body, nil, forWriting)
	})
}

func (s *Store) exists(id block.VolumeID, size int64) (bool, error) {
	v := s.volumes[id]
	if v != nil && v.size.Load() != size {
		return true, block.Errorf(block.Conflict, "volume %s exists in the store with another size", id)
	}
	return v != nil, nil
}

// CloneSnapshot is driver.Driver's: one record, whatever the size.
func (s *Store) CloneSnapshot(ctx context.Context, id block.VolumeID, from driver.SnapshotRef, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	return s.change(ctx, forWriting, func() error {
		if done, err := s.exists(id, size); done || err != nil {
			return err
		}
		v, snap, err := s.snapshot(from)
		if err != nil {
			return err
		}
		if size < snap.size {
			return block.Errorf(block.Invalid, "a clone can't be smaller than its snapshot")
		}
		body := encoder(nil).text(string(id)).uint(uint64(size)).uint(snap.branch.final().num).uint(snap.at)
		return s.commit(&header{op: opClone, volume: v.num}, body, nil, forWriting)
	})
}

// ExtendVolume is driver.Driver's.
func (s *Store) ExtendVolume(ctx context.Context, id block.VolumeID, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	return s.change(ctx, forWriting, func() error {
		v, err := s.volume(id)
		if err != nil || size <= v.size.Load() {
			return err
		}
		return s.commit(&header{op: opExtend, volume: v.num}, encoder(nil).uint(uint64(size)), nil, forWriting)
	})
}

// DeleteVolume is driver.Driver's. What it held leaves the index at once where
// no clone needs it; segments are reused later.
func (s *Store) DeleteVolume(ctx context.Context, id block.VolumeID) error {
	err := s.change(ctx, forDeleting, func() error {
		v := s.volumes[id]
		if v == nil {
			return nil
		}
		if v.open {
			return block.Errorf(block.Conflict, "volume %s is open", id)
		}
		for snap := range v.snapshots.all() {
			if snap.readers > 0 {
				return block.Errorf(block.Conflict, "snapshot %s is open", snap.name)
			}
		}
		return s.commit(&header{op: opDelete, volume: v.num}, encoder(nil).uint(0), nil, forDeleting)
	})
	s.tidyUp()
	return err
}

// CreateSnapshot is driver.Driver's: one record, whatever the size.
func (s *Store) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	return s.CreateSnapshots(ctx, []driver.SnapshotRef{ref})
}

// CreateSnapshots is driver.GroupSnapshotter's: one record for all, so one
// instant. Two names for one volume are Invalid: the index keeps one snapshot
// of an instant.
func (s *Store) CreateSnapshots(ctx context.Context, refs []driver.SnapshotRef) error {
	return s.change(ctx, forWriting, func() error {
		if there, err := s.groupThere(refs); err != nil || there {
			return err
		}
		var list encoder
		n := uint64(0)
		for i, ref := range refs {
			v, err := s.volume(ref.Volume)
			if err != nil {
				return err
			}
			if !slices.Contains(refs[:i], ref) {
				list = list.uint(v.num).text(string(ref.Name))
				n++
			}
		}
		body := append(encoder(nil).uint(n), list...)
		if len(body) > maxBody {
			return block.Errorf(block.OverLimit, "too many volumes for one snapshot")
		}
		return s.commit(&header{op: opSnapshot}, body, nil, forWriting)
	})
}

// groupThere reports whether all of a group's snapshots are there. If only some are,
// those are removed: they are of another instant than the others will be.
func (s *Store) groupThere(refs []driver.SnapshotRef) (bool, error) {
	var there []driver.SnapshotRef
	missing := false
	names := map[block.VolumeID]block.PointID{}
	for _, ref := range refs {
		if ref.Name == "" {
			return false, block.Errorf(block.Invalid, "a snapshot needs a name")
		}
		if name, twice := names[ref.Volume]; twice && name != ref.Name {
			return false, block.Errorf(block.Invalid, "volume %s can't have two snapshots of one instant", ref.Volume)
		}
		names[ref.Volume] = ref.Name
		v, err := s.volume(ref.Volume)
		switch {
		case err != nil:
			return false, err
		case v.snapshots.find(ref.Name) == nil:
			missing = true
		case !slices.Contains(there, ref):
			there = append(there, ref)
		}
	}
	if !missing {
		return true, nil
	}
	for _, ref := range there {
		v, snap, err := s.snapshot(ref)
		switch {
		case err != nil:
		case snap.readers > 0:
			err = block.Errorf(block.Conflict, "snapshot %s is open", ref.Name)
		default:
			err = s.commit(&header{op: opDeleteSnapshot, volume: v.num}, encoder(nil).uint(snap.at), nil, forWriting)
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// DeleteSnapshot is driver.Driver's. A snapshot that is open is a Conflict.
func (s *Store) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	err := s.change(ctx, forDeleting, func() error {
		v, snap, err := s.snapshot(ref)
		if block.Is(err, block.NotFound) {
			return nil
		}
		if snap.readers > 0 {
			return block.Errorf(block.Conflict, "snapshot %s is open", ref.Name)
		}
		return s.commit(&header{op: opDeleteSnapshot, volume: v.num}, encoder(nil).uint(snap.at), nil, forDeleting)
	})
	s.tidyUp()
	return err
}

// Revert is driver.Reverter's: the volume goes on in a new branch from the
// snapshot, with the snapshot's size.
func (s *Store) Revert(ctx context.Context, to driver.SnapshotRef) error {
	err := s.change(ctx, forWriting, func() error {
		v, snap, err := s.snapshot(to)
		if err != nil {
			return err
		}
		if v.open {
			return block.Errorf(block.Conflict, "volume %s is open", v.id)
		}
		for later := range v.snapshots.backward(snap) {
			if later.readers > 0 {
				return block.Errorf(block.Conflict, "snapshot %s is open", later.name)
			}
		}
		return s.commit(&header{op: opRewind, volume: v.num}, encoder(nil).uint(snap.at), nil, forWriting)
	})
	s.tidyUp()
	return err
}

// OpenVolume is driver.Driver's.
func (s *Store) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil { // Close holds s.mu, too
		return nil, err
	}
	v, err := s.volume(id)
	if err != nil {
		return nil, err
	}
	if v.open {
		return nil, block.Errorf(block.Conflict, "volume %s is open already", id)
	}
	v.open = true
	return &device{store: s, volume: v, branch: v.branch}, nil
}

// OpenSnapshot is driver.Driver's.
func (s *Store) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil { // Close holds s.mu, too
		return nil, err
	}
	_, snap, err := s.snapshot(ref)
	if err != nil {
		return nil, err
	}
	snap.readers++
	return &reader{store: s, snapshot: snap}, nil
}

func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return block.Wrap(block.Unavailable, err, "the request ended")
	}
	if s.closed.Load() {
		return errClosed()
	}
	return nil
}

// Volumes is driver.Driver's; the list is as of the call.
func (s *Store) Volumes(ctx context.Context) iter.Seq2[driver.VolumeInfo, error] {
	return func(yield func(driver.VolumeInfo, error) bool) {
		if err := s.usable(ctx); err != nil {
			yield(driver.VolumeInfo{}, err)
			return
		}
		s.mu.Lock()
		list := make([]driver.VolumeInfo, 0, len(s.volumes))
		for _, v := range s.volumes {
			list = append(list, driver.VolumeInfo{ID: v.id, Size: v.size.Load()})
		}
		s.mu.Unlock()
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Snapshots is driver.Driver's.
func (s *Store) Snapshots(ctx context.Context, id block.VolumeID) ([]driver.SnapshotInfo, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.volume(id)
	if err != nil {
		return nil, err
	}
	out := make([]driver.SnapshotInfo, 0, v.snapshots.len())
	for snap := range v.snapshots.all() {
		out = append(out, driver.SnapshotInfo{Name: snap.name, Size: snap.size})
	}
	return out, nil
}

// Capacity is driver.Driver's. Free counts whole segments that are empty or can
// still be made, less the reserve for deletion and what the index lacks.
func (s *Store) Capacity(ctx context.Context) (driver.Capacity, error) {
	if err := s.usable(ctx); err != nil {
		return driver.Capacity{}, err
	}
	space, err := s.fs.Space(s.dir)
	if err != nil {
		return driver.Capacity{}, block.Wrap(block.Unavailable, err, "the file system's free space can't be told")
	}
	size := int64(s.super.segmentSize)
	all, empty := s.pool.counts()
	grow := s.pool.marginNow().grows(space.Free, size)
	total := max(0, int64(all)*size+grow)
	if s.pool.max > 0 {
		total = min(total, s.pool.max)
		grow = min(grow, max(0, s.pool.max-int64(all)*size))
	}
	return driver.Capacity{Total: total, Free: max(0, int64(empty-1)*size+grow)}, nil
}

// Changes is driver.ChangeCounter's: the sequence of the last record that
// changed the volume.
func (s *Store) Changes(ctx context.Context, id block.VolumeID) (uint64, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.volume(id)
	if err != nil {
		return 0, err
	}
	return v.branch.written.Load(), nil
}
