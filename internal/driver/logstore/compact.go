package logstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Compaction is paced by the room that is left. The less there is, the fuller
// segments are worth moving, and the longer writers wait with each block while
// it runs, so that they meet its speed little by little and not at a wall.
const (
	// compactRound is the least that is moved before segments are got back, as a
	// share of a segment in percent; it fits the reserve of a full store.
	compactRound = 80
	// maxBrake is how long a writer waits with each block when nothing is left.
	maxBrake = 500 * time.Microsecond
)

// lowRoom reports whether a store is so full that getting space back matters
// more than what it costs.
func lowRoom(c driver.Capacity) bool { return c.Free < c.Total/5 }

// compactBelow is the live share of a segment's data, in percent, up to which
// moving it is worth it.
func compactBelow(c driver.Capacity, full bool) int64 {
	switch {
	case full:
		return 90
	case lowRoom(c):
		return 80
	case c.Free < c.Total/2:
		return 60
	default:
		return 40
	}
}

// brakeFor is how long a writer waits with each block while compaction runs.
func brakeFor(c driver.Capacity) time.Duration {
	if c.Total <= 0 || c.Free >= c.Total/10 {
		return 0
	}
	return maxBrake - time.Duration(float64(maxBrake)*float64(c.Free)/float64(c.Total/10))
}

// slowDown holds a writer of some blocks up while compaction has to keep pace
// with it. It is called without a lock.
func (s *Store) slowDown(blocks int) {
	if brake := s.brake.Load(); brake > 0 {
		time.Sleep(time.Duration(brake) * time.Duration(min(blocks, 16)))
	}
}

// compact moves the live data of the emptiest segments to the log's end, round
// by round, as long as that frees whole segments. full says that nothing can
// be written any more.
func (s *Store) compact(ctx context.Context, full bool) error {
	defer s.brake.Store(0)
	for {
		room, err := s.Capacity(ctx)
		if err != nil {
			return err
		}
		victims := s.victims(room, full)
		if len(victims) == 0 {
			return nil
		}
		s.brake.Store(int64(brakeFor(room)))
		var dead []uint32
		for _, id := range victims {
			empty, err := s.evacuate(ctx, id)
			if err == errNoRoom || block.Is(err, block.NoSpace) { //nolint:errorlint // never wrapped
				break // see what was got so far
			} else if err != nil {
				return err
			}
			if empty {
				dead = append(dead, id)
			}
		}
		if err := s.setFree(dead); err != nil || len(dead) == 0 {
			return err
		}
		if full && s.pool.freeCount() >= readyTarget {
			return nil // the rest is done by the housekeeper, while writers write
		}
	}
}

// victims picks the segments with the smallest live share whose data together
// fits one round: half of the room there is, and at least what the reserve
// allows. While there is room, garbage below a tenth of what is live is left
// alone.
func (s *Store) victims(room driver.Capacity, full bool) []uint32 {
	size := int64(s.super.segmentSize)
	limit := compactBelow(room, full)
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []uint32
	var garbage, live int64
	for id, u := range s.usage {
		if u.free || u.left {
			continue
		}
		live += u.live
		garbage += u.data - u.live
		if u.live < u.data && u.live*100 <= u.data*limit {
			ids = append(ids, id)
		}
	}
	if !full && garbage*10 < live {
		return nil
	}
	slices.SortFunc(ids, func(a, b uint32) int { return cmp.Compare(s.usage[a].live, s.usage[b].live) })
	var moved int64
	for i, id := range ids {
		if moved += s.usage[id].live; moved > max(room.Free/2, size/100*compactRound) {
			ids = ids[:i]
			break
		}
	}
	return ids
}

// evacuate moves what is live in a full segment and reports whether nothing
// is left in it for certain: every record was read, and every block that the
// index looks for there was moved. A segment of which that can't be said is
// left to the census.
func (s *Store) evacuate(ctx context.Context, id uint32) (empty bool, err error) {
	turn := s.grace.enter()
	defer s.grace.leave(turn)
	w, err := s.walkSegment(ctx, id)
	if err != nil {
		return false, err
	}
	defer s.handles.put(w.handle)
	s.mu.Lock()
	u := s.usage[id]
	whole := u != nil && u.end != 0 && int64(u.end) == w.end
	s.mu.Unlock()
	for _, group := range w.groups() {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		moved, err := s.moveGroup(w, group)
		if err != nil {
			return false, err
		}
		whole = whole && moved
	}
	if s.shape.Load() != w.shape {
		return false, nil // blocks moved to other branches meanwhile: it is looked at again
	}
	if !whole {
		s.mu.Lock()
		if u = s.usage[id]; u != nil {
			u.left = true
		}
		s.mu.Unlock()
	}
	return whole, nil
}

// moveGroup moves what is live of one leaf and reports whether that is all.
func (s *Store) moveGroup(w *segmentWalk, group []placed) (all bool, err error) {
	s.shifting.Lock()
	defer s.shifting.Unlock()
	all = true
	err = s.eachLive(s.db, w.id, group, func(l liveRun) error {
		ok := l.record != nil
		if ok {
			var err error
			if ok, err = s.move(w, l); err != nil {
				return err
			}
		}
		all = all && ok
		return nil
	})
	return all, err
}

// move writes the blocks of a run as a relocate record. Blocks that don't match
// their checksums stay where they are, to be found by who reads them; their
// segment is not reused then.
func (s *Store) move(w *segmentWalk, l liveRun) (ok bool, err error) {
	w.data = grown(w.data, l.count*blockSize)
	if _, err := w.file.ReadAt(w.data, int64(l.off)); err != nil {
		return false, unreadable(err)
	}
	for j := range l.count {
		if blockCRC(w.data[j*blockSize:(j+1)*blockSize]) != le.Uint32(l.crcs[j*4:]) {
			off := l.off + uint32(j)*blockSize
			s.alarm(s.damaged(l.branch, l.block(j), l.crcs[j*4:j*4+4], w.id, off,
				"a block does not match its checksum"))
			return false, nil
		}
	}
	moved := make([]byte, relocateFixed, relocateFixed+len(l.crcs))
	relocation{epoch: l.epoch, segment: w.id, off: l.off}.put(moved)
	moved = append(moved, l.crcs...)
	m := header{op: opRelocate, volume: l.record.volume, branch: l.branch, first: l.block(0), count: uint32(l.count)}
	err = errBehind
	for err == errBehind { //nolint:errorlint // never wrapped
		s.mu.Lock()
		err = s.commit(&m, moved, w.data, forMoving)
		s.mu.Unlock()
		if err == errBehind { //nolint:errorlint // never wrapped
			if werr := s.waitIndex(); werr != nil {
				return false, werr
			}
		}
	}
	return err == nil, err
}

// liveRun is a run of blocks that the index looks for in a segment. record is
// the one that they lie in, nil if there is none that fits.
type liveRun struct {
	branch, epoch uint64
	leaf          uint32
	first, count  int
	off           uint32
	crcs          []byte
	record        *placed
}

func (l *liveRun) block(i int) uint64 { return uint64(l.leaf)*leafBlocks + uint64(l.first+i) }

// eachLive calls f for what an index has in a segment, of the one leaf that a
// group of records belongs to; each run lies in one record.
func (s *Store) eachLive(r pebble.Reader, segment uint32, group []placed, f func(liveRun) error) error {
	for _, branch := range s.storedUnder(group[0].line) {
		if err := s.eachLiveOf(r, segment, branch, group, f); err != nil {
			return err
		}
	}
	return nil
}

// eachLiveOf is eachLive for what is stored under one branch's number.
func (s *Store) eachLiveOf(r pebble.Reader, segment uint32, branch uint64, group []placed,
	f func(liveRun) error) error {
	leaf := group[0].leaf()
	lower := leafKey(nil, branch, leaf, head)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: next(lower[:len(lower)-8])})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	c := leafBuffers.Get().(*cells)
	defer leafBuffers.Put(c)
	for ok := it.First(); ok; ok = it.Next() {
		_, _, epoch, _ := parseLeafKey(it.Key())
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		*c = cells{}
		if err := c.decode(v); err != nil {
			return err
		}
		for i := 0; i < leafBlocks; {
			if c[i].segment != segment {
				i++
				continue
			}
			l := liveRun{branch: branch, epoch: epoch, leaf: leaf, first: i, off: c[i].off}
			for i < leafBlocks && c[i].segment == segment && c[i].off == l.off+uint32(l.count)*blockSize {
				l.crcs = le.AppendUint32(l.crcs, c[i].crc)
				l.count++
				i++
			}
			if err := cut(l, group, f); err != nil {
				return err
			}
		}
	}
	return indexError(it.Error())
}

// cut calls f for the parts of a run that lie in one record each.
func cut(l liveRun, group []placed, f func(liveRun) error) error {
	for l.count > 0 {
		part := l
		part.record = recordAt(group, l.off, l.block(0))
		part.count = 1
		if part.record != nil {
			part.count = min(l.count, int(part.record.dataAt()+part.record.data-l.off)/blockSize)
		}
		part.crcs = l.crcs[:part.count*4]
		if err := f(part); err != nil {
			return err
		}
		l.first, l.count, l.off = l.first+part.count, l.count-part.count, l.off+uint32(part.count)*blockSize
		l.crcs = l.crcs[part.count*4:]
	}
	return nil
}
