package logstore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
)

// Check compares the index with the log: each block that the index refers to
// lies in a whole record of that branch and block, with the checksum that the
// index has, and its bytes match; versions and notes of change belong
// together; the nouns are counted right. It needs memory in proportion to the
// index and may run while the store is used.
func (s *Store) Check(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	turn := s.grace.enter() // segments stay
	defer s.grace.leave(turn)
	s.mu.Lock()
	snap := s.db.NewSnapshot()
	err := s.checkNouns()
	alive := map[uint64]bool{}
	for num := range s.branches {
		alive[num] = true
	}
	s.mu.Unlock()
	defer snap.Close()
	if err != nil {
		return err
	}
	c := checker{store: s, alive: alive, want: map[uint32]map[uint32]wanted{}, noted: map[versionID]bool{}}
	if err := c.readIndex(snap); err != nil {
		return err
	}
	for id, want := range c.want {
		if err := ctx.Err(); err != nil {
			return block.Wrap(block.Unavailable, err, "the check ended")
		}
		if err := c.readSegment(id, want); err != nil {
			return err
		}
	}
	return nil
}

// checkNouns counts references anew. The caller holds s.mu.
func (s *Store) checkNouns() error {
	refs := map[*branch]int{}
	for _, v := range s.volumes {
		refs[v.branch]++
		last := uint64(0)
		for _, snap := range v.snapshots {
			refs[snap.branch]++
			if snap.at <= last || snap.at > snap.branch.epoch {
				return block.Errorf(block.Corrupt, "snapshot %s of volume %s is out of order", snap.name, v.id)
			}
			last = snap.at
		}
	}
	for _, b := range s.branches {
		if b.parent != nil {
			refs[b.parent]++
		}
	}
	for num, b := range s.branches {
		if b.num != num || b.refs != refs[b] || b.refs == 0 {
			return block.Errorf(block.Corrupt, "branch %d has %d references and not %d", num, refs[b], b.refs)
		}
	}
	if len(s.numbers) != len(s.volumes) || len(refs) != len(s.branches) {
		return block.Errorf(block.Corrupt, "the store's nouns don't fit together")
	}
	return nil
}

type checker struct {
	store *Store
	alive map[uint64]bool
	noted map[versionID]bool
	want  map[uint32]map[uint32]wanted // by segment and offset
}

// wanted is a block that the index refers to.
type wanted struct {
	branch, block uint64
	crc           uint32
}

func (c *checker) readIndex(r pebble.Reader) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{keyChanged}, UpperBound: []byte{keyLeaf + 1}})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if branch, epoch, leaf, ok := parseChangedKey(it.Key()); ok {
			c.noted[versionID{branch, epoch, leaf}] = true
			continue
		}
		branch, leaf, epoch, ok := parseLeafKey(it.Key())
		if !ok {
			continue
		}
		id := versionID{branch, epoch, leaf}
		if !c.alive[branch] || !c.noted[id] {
			return block.Errorf(block.Corrupt, "leaf %d of branch %d in epoch %d belongs to nothing", leaf, branch, epoch)
		}
		delete(c.noted, id)
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		if err := eachRun(v, func(r run) { c.add(branch, leaf, r) }); err != nil {
			return err
		}
	}
	for id := range c.noted {
		return block.Errorf(block.Corrupt, "leaf %d of branch %d was changed in epoch %d and is not there",
			id.leaf, id.branch, id.epoch)
	}
	return indexError(it.Error())
}

func (c *checker) add(branch uint64, leaf uint32, r run) {
	if r.segment == 0 {
		return
	}
	m := c.want[r.segment]
	if m == nil {
		m = map[uint32]wanted{}
		c.want[r.segment] = m
	}
	for i := range r.count {
		m[r.off+uint32(i)*blockSize] = wanted{branch, uint64(leaf)*leafBlocks + uint64(r.first+i), le.Uint32(r.crcs[i*4:])}
	}
}

// readSegment looks for the wanted blocks in a segment's records.
func (c *checker) readSegment(id uint32, want map[uint32]wanted) error {
	file, err := c.store.handles.get(id)
	if err != nil {
		return err
	}
	defer c.store.handles.put(file)
	r := recordReader{file: file, size: int64(c.store.super.segmentSize), salt: c.store.super.salt}
	buf := getBlock()
	defer putBlock(buf)
	for off, last := int64(segmentHeader), uint64(0); len(want) > 0; {
		h, body, err := r.read(off)
		if err != nil {
			return err
		}
		if h == nil || last != 0 && h.seq != last+1 {
			return block.Errorf(block.Corrupt, "segment %08x lacks %d blocks that the index has", id, len(want))
		}
		for i := range int(h.data / blockSize) {
			at := uint32(off+h.dataOff()) + uint32(i)*blockSize
			w, ok := want[at]
			if !ok {
				continue
			}
			delete(want, at)
			if w.branch != h.branch || w.block != h.first+uint64(i) || w.crc != le.Uint32(h.crcs(body)[i*4:]) {
				return block.Errorf(block.Corrupt, "the block in segment %08x at %d is not what the index has", id, at)
			}
			if _, err := file.ReadAt(buf[:], int64(at)); err != nil {
				return unreadable(err)
			}
			if blockCRC(buf[:]) != w.crc {
				return block.Errorf(block.Corrupt, "a block in segment %08x at %d does not match its checksum", id, at)
			}
		}
		last, off = h.seq, off+h.size()
	}
	return nil
}
