package logstore

import (
	"math"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
)

const (
	// head is the bound of a branch's present: every epoch lies below it.
	head = math.MaxUint64
	// wholeBranch stands for a moment of which nothing is known but that there
	// may be something to sweep.
	wholeBranch = 0
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
	snapshots timeline
}

// snapshot is a mark that has a name: the content of a branch below a sequence
// number.
type snapshot struct {
	name    block.PointID
	at      uint64 // sequence of its record; epochs below it are in it
	branch  *branch
	mark    *mark
	size    int64
	readers int
	gone    bool // it was deleted
}

func (v *volume) value() []byte {
	return encoder(nil).text(string(v.id)).uint(uint64(v.size.Load())).uint(v.branch.num)
}

func (s *snapshot) value() []byte {
	return encoder(nil).text(string(s.name)).uint(s.branch.num).uint(uint64(s.size))
}

// branchRow is a branch as the index has it, before its parent is found.
type branchRow struct{ parent, parentAt, volume, epoch uint64 }

func parseBranch(p []byte) (r branchRow, err error) {
	d := decoder{p: p}
	r = branchRow{d.uint(), d.uint(), d.uint(), d.uint()}
	return r, d.done("branch")
}

// heirRow says by whom a branch was absorbed, and up to where it is seen as
// long as versions are left under its own number; 0 when none are.
type heirRow struct{ heir, restAt uint64 }

func (r heirRow) value() []byte { return encoder(nil).uint(r.heir).uint(r.restAt) }

func parseHeir(p []byte) (r heirRow, err error) {
	d := decoder{p: p}
	r = heirRow{d.uint(), d.uint()}
	return r, d.done("heir of a branch")
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
