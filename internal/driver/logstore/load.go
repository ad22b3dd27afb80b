package logstore

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
)

// loader reads volumes, branches and snapshots out of the index.
type loader struct {
	*Store
	held map[*branch]map[uint64]*mark
}

// loadMeta reads volumes, branches and snapshots out of the index and returns
// the position that it has reached.
func (s *Store) loadMeta() (position, error) {
	l := loader{s, map[*branch]map[uint64]*mark{}}
	for _, load := range []func() error{l.loadBranches, l.loadVolumes, l.loadSnapshots, l.link, l.loadDirt} {
		if err := load(); err != nil {
			return position{}, err
		}
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

func errNoBranch() error { return block.Errorf(block.Corrupt, "the index lacks a branch") }

// hold notes one more who holds a mark of a branch; link makes the lists.
func (l *loader) hold(br *branch, at uint64) *mark {
	of := l.held[br]
	if of == nil {
		of = map[uint64]*mark{}
		l.held[br] = of
	}
	if of[at] == nil {
		of[at] = &mark{at: at}
	}
	of[at].holders++
	return of[at]
}

func (l *loader) loadBranches() error {
	rows := map[uint64]branchRow{}
	err := l.each(keyBranch, func(k, v []byte) error {
		r, err := parseBranch(v)
		num := binary.BigEndian.Uint64(k)
		rows[num] = r
		br := newBranch(num, r.volume, &lineage{})
		br.epoch = r.epoch
		l.branches[num] = br
		return err
	})
	if err == nil {
		err = l.loadHeirs()
	}
	if err != nil {
		return err
	}
	for num, r := range rows {
		br := l.branches[num]
		line := lineage{at: r.parentAt}
		if m := l.moving; m != nil && m.to == br {
			line.rest, line.restAt = m.from, m.restAt
		}
		if r.parent != 0 {
			if line.parent = l.branchOf(r.parent); line.parent == nil {
				return errNoBranch()
			}
			br.adopt(l.hold(line.parent, r.parentAt))
		}
		br.line.Store(&line)
	}
	return nil
}

// loadHeirs loads who was absorbed by whom.
func (l *loader) loadHeirs() error {
	rows := map[uint64]heirRow{}
	err := l.each(keyHeir, func(k, v []byte) error {
		r, err := parseHeir(v)
		rows[binary.BigEndian.Uint64(k)] = r
		return err
	})
	if err != nil {
		return err
	}
	for num, r := range rows {
		heir := r.heir
		for n := 0; n < len(rows) && rows[heir].heir != 0; n++ {
			heir = rows[heir].heir
		}
		to := l.branches[heir]
		if to == nil {
			return errNoBranch()
		}
		l.aliases[num] = newBranch(num, 0, &lineage{})
		l.aliases[num].heir.Store(to)
		to.absorbed = append(to.absorbed, num)
		if r.restAt != 0 {
			l.moving = &moving{from: num, restAt: r.restAt, to: to}
		}
	}
	return nil
}

func (l *loader) loadVolumes() error {
	return l.each(keyVolume, func(k, p []byte) error {
		r, err := parseVolume(p)
		v := &volume{num: binary.BigEndian.Uint64(k), id: block.VolumeID(r.id), branch: l.branches[r.branch]}
		if err == nil && v.branch == nil {
			err = errNoBranch()
		}
		if err != nil {
			return err
		}
		v.size.Store(int64(r.size))
		v.branch.head = true
		l.volumes[v.id], l.numbers[v.num] = v, v
		return nil
	})
}

// loadSnapshots gets them in the order of their keys: from old to new.
func (l *loader) loadSnapshots() error {
	return l.each(keySnapshot, func(k, p []byte) error {
		r, err := parseSnapshot(p)
		if err != nil {
			return err
		}
		v, br := l.numbers[binary.BigEndian.Uint64(k)], l.branchOf(r.branch)
		if v == nil || br == nil || len(k) != 16 {
			return block.Errorf(block.Corrupt, "the index has a snapshot of nothing")
		}
		at := binary.BigEndian.Uint64(k[8:])
		v.snapshots.add(&snapshot{name: block.PointID(r.name), branch: br, at: at, mark: l.hold(br, at),
			size: int64(r.size)})
		return nil
	})
}

// link puts the marks in order, and notes which branches may be absorbed.
func (l *loader) link() error {
	for br, of := range l.held {
		for _, at := range slices.Sorted(maps.Keys(of)) {
			m := of[at]
			m.prev, m.next = br.marks.prev, &br.marks
			m.prev.next, m.next.prev = m, m
		}
	}
	for _, br := range l.branches {
		l.mayAbsorb(br)
		l.lookDeep(br)
	}
	return l.each(keyWritten, func(k, p []byte) error {
		if b := l.branches[binary.BigEndian.Uint64(k)]; b != nil && len(p) == 8 {
			b.written.Store(le.Uint64(p))
		}
		return nil
	})
}

// loadDirt loads what has to be swept. A row without a moment is of format 1:
// there may be something after each mark.
func (l *loader) loadDirt() error {
	var of *branch
	var after *mark
	return l.each(keyDirty, func(k, _ []byte) error {
		br := l.branches[binary.BigEndian.Uint64(k)]
		if br == nil {
			return nil
		}
		if br != of {
			of, after = br, &br.marks
		}
		l.dirty[br] = struct{}{}
		if len(k) != 16 {
			for m := br.marks.next; m != &br.marks; m = m.next {
				br.soil(m)
			}
			br.soil(&br.marks, wholeBranch)
			return nil
		}
		at := binary.BigEndian.Uint64(k[8:])
		for after.next != &br.marks && after.next.at < at {
			after = after.next
		}
		br.soil(after, at)
		return nil
	})
}
