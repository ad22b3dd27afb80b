package logstore

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
)

const (
	// head is the bound of a branch's present: every epoch lies below it.
	head = math.MaxUint64
	// maxBlocks bounds a volume: leaf numbers fit 32 bits.
	maxBlocks = leafBlocks << 32
)

// volume is a volume of the store. All but size is guarded by Store.mu; size
// is written under it.
type volume struct {
	num       uint64 // sequence of the record that made it
	id        block.VolumeID
	size      atomic.Int64
	branch    *branch
	open      bool
	snapshots []*snapshot // from old to new
}

// snapshot is a mark: the content of a branch below a sequence number.
type snapshot struct {
	name    block.PointID
	at      uint64 // sequence of its record; epochs below it are in it
	branch  *branch
	size    int64
	readers int
}

// branch is a line of history. A volume writes at the end of one; a clone and
// a rewound volume begin a new one at a mark of another. A branch lives as
// long as something refers to it.
type branch struct {
	num      uint64 // sequence of the record that made it
	volume   uint64
	parent   *branch
	parentAt uint64 // bound: what lies below it in the parent is seen here

	epoch   uint64 // under which writes go now: sequence of the last mark
	refs    int    // volumes, snapshots and branches that need it; under Store.mu
	dirty   bool   // has something to sweep; under Store.mu
	written atomic.Uint64
}

func (v *volume) find(name block.PointID) *snapshot {
	for _, s := range v.snapshots {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (v *volume) at(seq uint64) *snapshot {
	for _, s := range v.snapshots {
		if s.at == seq {
			return s
		}
	}
	return nil
}

func (v *volume) value() []byte {
	return encoder(nil).text(string(v.id)).uint(uint64(v.size.Load())).uint(v.branch.num)
}

func (s *snapshot) value() []byte {
	return encoder(nil).text(string(s.name)).uint(s.branch.num).uint(uint64(s.size))
}

func (b *branch) value() []byte {
	var parent uint64
	if b.parent != nil {
		parent = b.parent.num
	}
	return encoder(nil).uint(parent).uint(b.parentAt).uint(b.volume).uint(b.epoch)
}

// branchRow is a branch as the index has it, before its parent is found.
type branchRow struct{ parent, parentAt, volume, epoch uint64 }

func parseBranch(p []byte) (r branchRow, err error) {
	d := decoder{p: p}
	r = branchRow{d.uint(), d.uint(), d.uint(), d.uint()}
	return r, d.done("branch")
}

type volumeRow struct {
	id           string
	size, branch uint64
}

func parseVolume(p []byte) (r volumeRow, err error) {
	d := decoder{p: p}
	r = volumeRow{d.text(), d.uint(), d.uint()}
	return r, d.done("volume")
}

type snapshotRow struct {
	name         string
	branch, size uint64
}

func parseSnapshot(p []byte) (r snapshotRow, err error) {
	d := decoder{p: p}
	r = snapshotRow{d.text(), d.uint(), d.uint()}
	return r, d.done("snapshot")
}

const positionSize = 24

func (p position) encode(to []byte) []byte {
	to = le.AppendUint32(to, p.segment)
	to = le.AppendUint32(to, p.generation)
	to = le.AppendUint64(to, uint64(p.off))
	return le.AppendUint64(to, p.seq)
}

func parsePosition(p []byte) (position, error) {
	if len(p) != positionSize || le.Uint64(p[8:]) > 1<<32-1 {
		return position{}, block.Errorf(block.Corrupt, "the index's position can't be read")
	}
	return position{segment: le.Uint32(p), generation: le.Uint32(p[4:]), off: int64(le.Uint64(p[8:])),
		seq: le.Uint64(p[16:])}, nil
}

// loadMeta reads volumes, branches and snapshots out of the index and returns
// the position that it has reached.
func (s *Store) loadMeta() (position, error) {
	parents := map[uint64]uint64{}
	err := s.each(keyBranch, func(k, v []byte) error {
		r, err := parseBranch(v)
		num := binary.BigEndian.Uint64(k)
		parents[num] = r.parent
		s.branches[num] = &branch{num: num, volume: r.volume, parentAt: r.parentAt, epoch: r.epoch}
		return err
	})
	if err != nil {
		return position{}, err
	}
	for num, parent := range parents {
		if parent == 0 {
			continue
		}
		p := s.branches[parent]
		if p == nil {
			return position{}, block.Errorf(block.Corrupt, "the index lacks a branch")
		}
		p.refs++
		s.branches[num].parent = p
	}
	if err := s.loadVolumes(); err != nil {
		return position{}, err
	}
	value, closer, err := s.db.Get([]byte{keyPosition})
	if err == pebble.ErrNotFound { //nolint:errorlint // as Pebble documents it
		return position{segment: 1, off: segmentHeader, seq: 1}, nil
	} else if err != nil {
		return position{}, indexError(err)
	}
	defer closer.Close()
	return parsePosition(value)
}

func (s *Store) loadVolumes() error {
	err := s.each(keyVolume, func(k, p []byte) error {
		r, err := parseVolume(p)
		v := &volume{num: binary.BigEndian.Uint64(k), id: block.VolumeID(r.id), branch: s.branches[r.branch]}
		if err == nil && v.branch == nil {
			err = block.Errorf(block.Corrupt, "the index lacks a branch")
		}
		if err != nil {
			return err
		}
		v.size.Store(int64(r.size))
		v.branch.refs++
		s.volumes[v.id], s.numbers[v.num] = v, v
		return nil
	})
	if err != nil {
		return err
	}
	err = s.each(keySnapshot, func(k, p []byte) error {
		r, err := parseSnapshot(p)
		if err != nil {
			return err
		}
		v, b := s.numbers[binary.BigEndian.Uint64(k)], s.branches[r.branch]
		if v == nil || b == nil || len(k) != 16 {
			return block.Errorf(block.Corrupt, "the index has a snapshot of nothing")
		}
		b.refs++
		v.snapshots = append(v.snapshots, &snapshot{name: block.PointID(r.name), branch: b,
			at: binary.BigEndian.Uint64(k[8:]), size: int64(r.size)})
		return nil
	})
	if err != nil {
		return err
	}
	for _, v := range s.volumes {
		slices.SortFunc(v.snapshots, func(a, b *snapshot) int { return cmp.Compare(a.at, b.at) })
	}
	err = s.each(keyWritten, func(k, p []byte) error {
		if b := s.branches[binary.BigEndian.Uint64(k)]; b != nil && len(p) == 8 {
			b.written.Store(le.Uint64(p))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.each(keyDirty, func(k, _ []byte) error {
		if b := s.branches[binary.BigEndian.Uint64(k)]; b != nil {
			b.dirty = true
		}
		return nil
	})
}

// each calls f for all keys of a kind, without the kind's byte; they hold at
// least one number.
func (s *Store) each(kind byte, f func(key, value []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if len(it.Key()) < 9 {
			return block.Errorf(block.Corrupt, "the index has a key that is too short")
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		if err := f(it.Key()[1:], v); err != nil {
			return err
		}
	}
	return indexError(it.Error())
}

// indexError classifies an error of Pebble.
func indexError(err error) error {
	if err == nil {
		return nil
	}
	if block.KindOf(err) == block.Corrupt || pebble.IsCorruptionError(err) {
		return block.Wrap(block.Corrupt, err, "the store's index is damaged")
	}
	return block.Wrap(block.Unavailable, err, "the store's index can't be read")
}
