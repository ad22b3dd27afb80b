package logstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// compactLast is how full segments may be, in percent, to be worth moving when
// nothing can be written without. Beyond, the store is full.
const compactLast = 95

// lowRoom reports whether a store is so full that getting space back matters
// more than what it costs.
func lowRoom(c driver.Capacity) bool { return c.Free < c.Total/5 }

// compactBelow is the live share of a segment's data, in percent, up to which
// moving it is worth it. Waiting makes it cheaper, as more dies meanwhile, so
// nothing fuller is moved than the room that is left demands: the threshold
// rises, ever steeper, as that shrinks, and settles where as much is got back
// as is written.
func compactBelow(c driver.Capacity, spare int64, full bool) int64 {
	if full || c.Total <= 0 {
		return compactLast
	}
	curve := []struct{ free, below int64 }{{0, 95}, {4, 85}, {8, 75}, {15, 65}, {25, 57}, {45, 50}, {120, 40}}
	free := 1000 * spare / c.Total
	for i := 1; i < len(curve); i++ {
		if a, b := curve[i-1], curve[i]; free < b.free {
			return a.below - (a.below-b.below)*(free-a.free)/(b.free-a.free)
		}
	}
	return curve[len(curve)-1].below
}

// compact moves the live data of the emptiest segments to the log's end, round
// by round, as long as that frees whole segments. full says that nothing can
// be written any more; then the first that are freed are enough, since the
// housekeeper does the rest while writers write.
func (s *Store) compact(ctx context.Context, full bool) error {
	defer func() { s.pace.end(s.now()) }()
	for {
		room, err := s.Capacity(ctx)
		if err != nil {
			return err
		}
		victims, live := s.victims(room, full)
		if len(victims) == 0 {
			return nil
		}
		s.pace.begin(s.spare(room) - live - live/16)
		dead, err := s.evacuate(ctx, victims, live, !full && !lowRoom(room))
		outOfRoom := err == errNoRoom || block.Is(err, block.NoSpace) //nolint:errorlint // never wrapped
		if err != nil && !outOfRoom {
			return err
		}
		s.pace.finish(s.now())
		if err := s.setFree(dead); err != nil || outOfRoom || full && len(dead) > 0 {
			return err
		}
		if len(dead) == 0 && !s.someLeft(victims) {
			return nil
		}
		s.pace.end(s.now())
	}
}

// someLeft tells whether some of these segments could not be emptied, so that
// the next round picks others.
func (s *Store) someLeft(ids []uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(ids, func(id uint32) bool { return s.usage[id] != nil && s.usage[id].left })
}

// spare is the part of the free room that writers can have.
func (s *Store) spare(c driver.Capacity) int64 {
	return max(0, c.Free-int64(forWriting)*int64(s.super.segmentSize))
}

// victims picks the segments with the smallest live share whose data together
// fits one round: by what is probably live half of the room that there is, by
// what may be live at most three quarters, so that it does not run out half-way.
// When nothing can be written any more, all of it must fit what is kept for
// moving. The victims' data is at most CacheBytes, since the headers of their
// records are held in memory, 6 % of that. While there is room, garbage below a
// tenth of what is live is left alone.
func (s *Store) victims(room driver.Capacity, full bool) (ids []uint32, moved int64) {
	limit := compactBelow(room, s.spare(room), full)
	fits := s.movable()
	s.mu.Lock()
	defer s.mu.Unlock()
	var garbage, live int64
	for id, u := range s.usage {
		if u.free || u.left {
			continue
		}
		live += u.guess
		garbage += u.data - u.guess
		if u.guess < u.data && u.guess*100 <= u.data*limit {
			ids = append(ids, id)
		}
	}
	if !full && garbage*10 < live && !lowRoom(room) {
		return nil, 0
	}
	slices.SortFunc(ids, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(s.usage[a].guess, s.usage[b].guess), cmp.Compare(a, b))
	})
	var most, data int64
	for i, id := range ids {
		u := s.usage[id]
		moved, most, data = moved+u.guess, most+u.live, data+u.data
		if most > fits && (full || moved > room.Free/2 || most > room.Free*3/4) || i > 0 && data > s.cacheBytes {
			return ids[:i], moved - u.guess
		}
	}
	return ids, moved
}

// movable is how much data can be moved for certain into what is ready, in
// bytes: the rest of the present segment and all others but the part of the
// last that deleting needs. A tenth is left for headers and for ends of
// segments that no record fits.
func (s *Store) movable() int64 {
	size := int64(s.super.segmentSize)
	end := s.log.now()
	room := int64(s.pool.count())*size - size/8
	if end.segment != 0 {
		room += size - end.off
	}
	return max(0, room-room/10)
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
