package logstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// moveChunk is how many blocks are moved while the store is held, so that
// writers in between wait for little.
const moveChunk = 32

// evacuation moves what is live in some full segments, leaf by leaf over all of
// them: blocks of a leaf that random writes scattered come to lie together
// again, and the index is asked once for each leaf and not for each block.
type evacuation struct {
	*Store
	victims map[uint32]*victim
	data    []byte // of one chunk
	goal    int64  // bytes that will be moved, about
	moved   int64
}

// victim is a segment that is emptied. It is whole if every record was read,
// and every block that the index looks for there was moved. A dropped one is
// left as it is for another round.
type victim struct {
	walk    *segmentWalk
	whole   bool
	dropped bool
}

// resident is a record with data, in the segment that it lies in.
type resident struct {
	placed
	segment uint32
}

// evacuate moves what is live in full segments and returns those in which
// nothing is left for certain. Those of which that can't be said are left to
// the census. live is what will be moved, about. Unless it is gentle it takes
// all the time that it can get.
func (s *Store) evacuate(ctx context.Context, ids []uint32, live int64, gentle bool) (empty []uint32, err error) {
	turn := s.grace.enter()
	defer s.grace.leave(turn)
	e := &evacuation{Store: s, victims: map[uint32]*victim{}, goal: max(1, live)}
	defer e.release()
	shape := s.shape.Load()
	for i, id := range ids {
		s.pace.reach(paceLooked * float64(i) / float64(len(ids)))
		if err := e.add(ctx, id); err != nil {
			return nil, err
		}
	}
	for _, leaf := range e.leaves() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		began := s.now()
		if err := e.drop(ctx); err != nil {
			return nil, err
		}
		if err := e.moveLeaf(leaf); err != nil {
			return nil, err
		}
		if gentle {
			time.Sleep(s.now().Sub(began))
		}
	}
	if s.shape.Load() != shape {
		return nil, nil // blocks moved to other branches meanwhile: they are looked at again
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		v, u := e.victims[id], s.usage[id]
		switch {
		case v.dropped:
		case v.whole && (u == nil || !u.left):
			empty = append(empty, id)
		case u != nil:
			u.left = true
		}
	}
	return empty, nil
}

func (e *evacuation) add(ctx context.Context, id uint32) error {
	w, err := e.walkSegment(ctx, id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	u := e.usage[id]
	whole := u != nil && u.end != 0 && int64(u.end) == w.end
	e.mu.Unlock()
	e.victims[id] = &victim{walk: w, whole: whole}
	if w.unread != nil {
		e.slog.Warn("a segment of the store can't be emptied as a whole", "err", w.unread)
	}
	return nil
}

// drop gives up the fullest victims where writers took the room that moving all
// of them needs: all victims are emptied side by side, and without room for the
// last block none would become free. What is kept fits for certain what is
// ready; the emptiest is always kept, since writers leave room for one.
func (e *evacuation) drop(ctx context.Context) error {
	if e.pool.count() >= readyTarget {
		return nil
	}
	room, err := e.Capacity(ctx)
	if err != nil {
		return err
	}
	fits := max(e.movable(), room.Free*3/4)
	e.mu.Lock()
	defer e.mu.Unlock()
	var kept []uint32
	for id, v := range e.victims {
		if !v.dropped && e.usage[id] != nil {
			kept = append(kept, id)
		}
	}
	slices.SortFunc(kept, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(e.usage[a].live, e.usage[b].live), cmp.Compare(a, b))
	})
	var most int64
	for i, id := range kept {
		most += e.usage[id].live
		if e.victims[id].dropped = i > 0 && most > fits; e.victims[id].dropped {
			e.goal = max(1, e.moved, e.goal-e.usage[id].guess)
		}
	}
	return nil
}

func (e *evacuation) release() {
	for _, v := range e.victims {
		e.handles.put(v.walk.handle)
	}
}

// leaves sorts the records of all victims by leaf, segment and place, and
// returns those of one leaf together.
func (e *evacuation) leaves() [][]resident {
	var all []resident
	for id, v := range e.victims {
		for _, r := range v.walk.records {
			all = append(all, resident{r, id})
		}
		v.walk.records = nil
	}
	slices.SortFunc(all, func(a, b resident) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.leaf(), b.leaf()),
			cmp.Compare(a.segment, b.segment), cmp.Compare(a.at, b.at))
	})
	var out [][]resident
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && all[to].line == all[from].line && all[to].leaf() == all[from].leaf() {
			to++
		}
		out = append(out, all[from:to])
		from = to
	}
	return out
}

// moveLeaf moves what is live of one leaf, under whichever number its branch's
// versions are.
func (e *evacuation) moveLeaf(records []resident) error {
	e.shifting.Lock()
	defer e.shifting.Unlock()
	groups := map[uint32][]placed{}
	for _, r := range records {
		groups[r.segment] = append(groups[r.segment], r.placed)
	}
	m := move{volume: records[0].volume, leaf: records[0].leaf()}
	for _, m.branch = range e.storedUnder(records[0].line) {
		if err := e.moveVersions(m, groups); err != nil {
			return err
		}
	}
	return nil
}

// moveVersions moves what is live of one leaf under one branch's number. Where
// the index can't be read its blocks stay, and so do the segments that they may
// lie in; all others are emptied.
func (e *evacuation) moveVersions(m move, groups map[uint32][]placed) error {
	unread := func(err error) error {
		if !mendable(err) {
			return err
		}
		for id := range groups {
			e.victims[id].whole = false
		}
		return nil
	}
	lower := leafKey(nil, m.branch, m.leaf, head)
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: next(lower[:len(lower)-8])})
	if err != nil {
		return unread(indexError(err))
	}
	defer it.Close()
	c := leafBuffers.Get().(*cells)
	defer leafBuffers.Put(c)
	for ok := it.First(); ok; ok = it.Next() {
		_, _, m.epoch, _ = parseLeafKey(it.Key())
		v, err := it.ValueAndErr()
		if err != nil {
			return unread(indexError(err))
		}
		*c = cells{}
		if err := c.decode(v); err != nil {
			return unread(err)
		}
		if err := e.moveCells(m, c, groups); err != nil {
			return err
		}
	}
	return unread(indexError(it.Error()))
}

// moveCells moves those blocks of a version of a leaf that lie in victims.
func (e *evacuation) moveCells(m move, c *cells, groups map[uint32][]placed) error {
	for i := 0; i <= leafBlocks; i++ {
		if i == leafBlocks || len(m.blocks) == moveChunk {
			if err := e.commitMove(&m); err != nil {
				return err
			}
			if m.blocks = m.blocks[:0]; i == leafBlocks {
				return nil
			}
		}
		v := e.victims[c[i].segment]
		if v == nil || v.dropped {
			continue
		}
		if e.hooks.is(forgetMove) && i%8 == 3 {
			continue
		}
		at := uint64(m.leaf)*leafBlocks + uint64(i)
		if recordAt(groups[c[i].segment], c[i].off, at) == nil || !e.load(&m, i, c[i]) {
			v.whole = false
			continue
		}
		m.blocks = append(m.blocks, relocating{i, c[i]})
	}
	return nil
}

// load reads a block that is to be moved. One that does not match its checksum
// stays where it is, to be found by who reads it; its segment is not reused
// then.
func (e *evacuation) load(m *move, i int, c cell) bool {
	n := len(m.blocks) * blockSize
	e.data = grown(e.data, n+blockSize)
	p := e.data[n : n+blockSize]
	if _, err := e.victims[c.segment].walk.file.ReadAt(p, int64(c.off)); err != nil {
		return false
	}
	if blockCRC(p) != c.crc {
		at := uint64(m.leaf)*leafBlocks + uint64(i)
		e.alarm(e.damaged(m.branch, at, le.AppendUint32(nil, c.crc), c.segment, c.off,
			"a block does not match its checksum"))
		return false
	}
	return true
}

// move is a change of place of blocks of one version of a leaf.
type move struct {
	branch, volume, epoch uint64
	leaf                  uint32
	blocks                []relocating
}

// relocating is a block that moves, and where it was when it was looked up.
type relocating struct {
	index int // in the leaf
	from  cell
}

// run tells how many blocks from one on one record can take: neighbours in the
// leaf that were neighbours in their segment.
func (m *move) run(from int) (n int) {
	first := m.blocks[from]
	for n = 1; from+n < len(m.blocks); n++ {
		b := m.blocks[from+n]
		if b.index != first.index+n || b.from.segment != first.from.segment ||
			b.from.off != first.from.off+uint32(n)*blockSize {
			break
		}
	}
	return n
}

// commitMove writes a move as relocate records and brings the index up to date,
// waiting for the index and the pool where they can do something about it.
func (e *evacuation) commitMove(m *move) error {
	for len(m.blocks) > 0 {
		e.mu.Lock()
		done, err := e.relocate(m, e.data)
		e.mu.Unlock()
		e.moved += int64(done) * blockSize
		e.pace.reach(paceLooked + (paceMoved-paceLooked)*min(1, float64(e.moved)/float64(e.goal)))
		m.blocks = m.blocks[done:]
		e.data = append(e.data[:0], e.data[done*blockSize:]...)
		switch {
		case err == errBehind: //nolint:errorlint // never wrapped
			err = e.waitIndex()
		case err == errNoRoom && e.pool.freeCount() > 0: //nolint:errorlint // never wrapped
			err = e.pool.wait(forMoving) // it is being made ready
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// relocate appends records for a move and applies all of them in one batch,
// before any other record: what a later record says of a block comes after. It
// returns how many blocks it moved; the rest found no room. The caller holds
// s.mu.
func (s *Store) relocate(m *move, data []byte) (done int, err error) {
	if s.tooMuch() {
		return 0, errBehind
	}
	b := s.db.NewBatch()
	defer b.Close()
	var end position
	var to []cell
	for done < len(m.blocks) && err == nil {
		n := m.run(done)
		first := m.blocks[done]
		h := header{op: opRelocate, volume: m.volume, branch: m.branch, count: uint32(n),
			first: uint64(m.leaf)*leafBlocks + uint64(first.index)}
		body := make([]byte, relocateFixed, relocateFixed+n*4)
		relocation{epoch: m.epoch, segment: first.from.segment, off: first.from.off}.put(body)
		for _, x := range m.blocks[done : done+n] {
			body = le.AppendUint32(body, x.from.crc)
		}
		var at position
		at, err = s.log.append(&h, body, data[done*blockSize:(done+n)*blockSize], forMoving)
		if err != nil {
			break
		}
		end = at.after(&h)
		for i := range n {
			to = append(to, cell{at.segment, uint32(at.off+h.dataOff()) + uint32(i)*blockSize,
				m.blocks[done+i].from.crc, true})
		}
		if cerr := s.countRecord(b, &h, at); cerr != nil {
			s.indexFailed(cerr)
			return 0, s.log.failed()
		}
		done += n
	}
	if done == 0 {
		return 0, err
	}
	after, aerr := s.redirect(b, m.branch, m.epoch, m.leaf, m.blocks[:done], to)
	if aerr == nil {
		aerr = s.commitBatch(b, end, after)
	}
	if aerr != nil {
		s.indexFailed(aerr)
		return 0, s.log.failed()
	}
	return done, err
}

// redirect points the index at copies of blocks, as far as it still points at
// the originals. Where it can't be read it stays as it is, and so do the
// segments that the originals lie in. The caller holds s.mu, or is recovery.
func (s *Store) redirect(
	b *pebble.Batch,
	branch, epoch uint64,
	leaf uint32,
	blocks []relocating,
	to []cell,
) (func(), error) {
	key := leafKey(nil, branch, leaf, epoch)
	var c, changed cells
	if err := s.version(key, &c); mendable(err) {
		for _, m := range blocks {
			if u := s.usage[m.from.segment]; u != nil {
				u.left = true
			}
		}
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	n := 0
	for k, m := range blocks {
		old := &c[m.index]
		if s.hooks.is(moveBlindly) || old.set && old.segment == m.from.segment && old.off == m.from.off {
			*old, changed[m.index] = to[k], to[k]
			s.died(m.from.segment, 1)
			s.places.moved(branch, leaf, m.index, m.from.segment, to[k].segment)
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	after := func() { s.cache.moved(leaf, blocks, to) }
	// A version that is there is noted as changed (see mergeRun), so that few
	// blocks can be merged blindly.
	id := versionID{branch, epoch, leaf}
	if k := s.recent[id]; k > 0 && k < maxOperands {
		s.recent[id] = k + 1
		return after, indexError(b.Merge(key, changed.encode(nil), nil))
	}
	return after, indexError(b.Set(key, c.encode(nil), nil))
}
