package logstore

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Check compares the index with the log and returns the first thing that is
// wrong, as Corrupt; see Examine.
func (s *Store) Check(ctx context.Context) error {
	var first error
	if _, err := s.Examine(ctx, Watch{Found: func(d Damage) {
		if first == nil {
			first = d.asError()
		}
	}}); err != nil {
		return err
	}
	return first
}

// Examined is what an examination went over.
type Examined struct {
	Segments int   `json:"segments"`
	Versions int64 `json:"versions"` // of leaves in the index
	Bytes    int64 `json:"bytes"`    // of live data
	Damages  int   `json:"damages"`
}

// Examine compares the index with the log and tells whatever is wrong: each
// block that the index refers to lies in a whole record of that branch and
// block, with the checksum that the index has, and its bytes match; versions
// and notes of change belong together; the nouns are counted right; no segment
// is thought to have less live than it has; the tables of the index match
// their checksums. It takes memory for one segment and a few bytes for each.
//
// It may run while the store is used: index and counts are those of one
// instant, and what a segment held that was reused since counts for nothing.
func (s *Store) Examine(ctx context.Context, w Watch) (Examined, error) {
	if err := s.usable(ctx); err != nil {
		return Examined{}, err
	}
	p := &pacer{rate: w.Rate, start: s.now(), now: s.now, wait: s.wait}
	e := &examiner{store: s, alive: map[uint64]bool{}, usage: map[uint32]usage{}, watch: w, pace: p.read}
	look := s.beginPass()
	e.report = func(d Damage) {
		e.done.Damages++
		look.saw(&d)
		s.alarm(d)
		if w.Found != nil {
			w.Found(d)
		}
		s.heal(ctx, d)
	}
	s.mu.Lock()
	e.snap = s.db.NewSnapshot()
	err := s.checkNouns()
	for num := range s.branches {
		e.alive[num] = true
	}
	if s.moving != nil {
		e.alive[s.moving.from] = true
	}
	s.examining++
	for id, u := range s.usage {
		e.usage[id] = *u
	}
	s.mu.Unlock()
	defer func() {
		e.snap.Close()
		s.mu.Lock()
		s.examining--
		s.mu.Unlock()
		s.wakeHousekeeper()
	}()
	if err != nil {
		e.report(Damage{What: err.Error()})
	}
	if err := e.examine(ctx); err != nil {
		return e.done, err
	}
	s.endPass(look, func(*Damage) bool { return true })
	return e.done, nil
}

// examine looks at the parts one after the other. An index that can't be read
// ends it early: of the log nothing can be said then.
func (e *examiner) examine(ctx context.Context) error {
	damages := e.done.Damages
	if err := e.store.checkTables(ctx, func(n int) error { return e.pace(ctx, n) }, e.report); err != nil {
		return err
	}
	if err := e.readIndex(ctx); err != nil {
		if mendable(err) && e.done.Damages > damages {
			return block.Wrap(block.Corrupt, err, "the check ended early: the index is damaged")
		}
		if mendable(err) {
			e.report(Damage{What: "the index can't be read"})
			return block.Wrap(block.Corrupt, err, "the check ended early: the index is damaged")
		}
		return err
	}
	if err := e.reportLost(ctx); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(e.live)) {
		if err := e.readSegment(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// checkNouns counts references anew. The caller holds s.mu.
func (s *Store) checkNouns() error {
	holders, heads := map[*mark]int{}, map[*branch]bool{}
	for _, v := range s.volumes {
		heads[v.branch] = true
		last := uint64(0)
		for snap := range v.snapshots.all() {
			holders[snap.mark]++
			if snap.at <= last || snap.at != snap.mark.at || snap.at > snap.branch.final().epoch {
				return block.Errorf(block.Corrupt, "snapshot %s of volume %s is out of order", snap.name, v.id)
			}
			last = snap.at
		}
	}
	for _, b := range s.branches {
		if l := b.line.Load(); l.parent != nil {
			holders[b.pin]++
			if b.pin == nil || b.pin.at != l.at {
				return block.Errorf(block.Corrupt, "branch %d begins at no mark of its parent", b.num)
			}
		}
	}
	marks := 0
	for num, b := range s.branches {
		if b.num != num || b.head != heads[b] || !b.head && !b.marked() || b.heir.Load() != nil {
			return block.Errorf(block.Corrupt, "branch %d is not what is known of it", num)
		}
		for m := b.marks.next; m != &b.marks; m = m.next {
			if marks++; m.holders != holders[m] || m.at <= m.prev.at {
				return block.Errorf(block.Corrupt, "mark %d of branch %d has %d holders and not %d", m.at, num, holders[m],
					m.holders)
			}
		}
	}
	if len(s.numbers) != len(s.volumes) || len(holders) != marks {
		return block.Errorf(block.Corrupt, "the store's nouns don't fit together")
	}
	return nil
}

type examiner struct {
	store  *Store
	snap   *pebble.Snapshot
	alive  map[uint64]bool
	usage  map[uint32]usage
	live   map[uint32]int64 // bytes, by segment
	report func(Damage)
	watch  Watch
	pace   func(ctx context.Context, n int) error
	read   int64 // bytes of live data
	done   Examined
}

// readIndex checks what the index says of itself, and counts. Each version has
// its note of change; as many notes as versions then leave none over.
func (e *examiner) readIndex(ctx context.Context) (err error) {
	if e.live, e.done.Bytes, err = countLive(e.snap); err != nil {
		return err
	}
	notes := int64(0)
	err = e.keys(ctx, keyChanged, func([]byte) error { notes++; return nil })
	if err != nil {
		return err
	}
	var note []byte
	err = e.keys(ctx, keyLeaf, func(k []byte) error {
		branch, leaf, epoch, ok := parseLeafKey(k)
		if !ok {
			e.report(Damage{What: fmt.Sprintf("the index has a key that can't be read: %x", k)})
			return nil
		}
		e.done.Versions++
		note = changedKey(note, branch, epoch, leaf)
		_, closer, err := e.snap.Get(note)
		if err == nil {
			closer.Close()
		} else if err != pebble.ErrNotFound { //nolint:errorlint // as Pebble documents it
			return indexError(err)
		}
		if err != nil || !e.alive[branch] {
			e.report(Damage{What: fmt.Sprintf("leaf %d of branch %d in epoch %d belongs to nothing", leaf, branch, epoch),
				Volume: e.store.ownerOf(branch), Extent: driver.Extent{Off: int64(leaf) * leafSize, Len: leafSize}})
		}
		return nil
	})
	if err == nil && notes != e.done.Versions {
		e.report(
			Damage{What: fmt.Sprintf("%d leaves are noted as changed, and %d versions are there", notes, e.done.Versions)},
		)
	}
	return err
}

func (e *examiner) keys(ctx context.Context, kind byte, f func(k []byte) error) error {
	return e.rows(ctx, kind, func(k, _ []byte) error { return f(k) })
}

func (e *examiner) rows(ctx context.Context, kind byte, f func(k, v []byte) error) error {
	it, err := e.snap.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return block.Wrap(block.Unavailable, err, "the check ended")
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		if err := f(it.Key(), v); err != nil {
			return err
		}
	}
	return indexError(it.Error())
}

// readSegment checks what is live in a segment.
func (e *examiner) readSegment(ctx context.Context, id uint32) error {
	u, full := e.usage[id]
	if full && u.live < e.live[id] {
		e.report(Damage{What: fmt.Sprintf("%d bytes are live in a segment that is thought to have %d", e.live[id], u.live),
			Segment: id})
	}
	e.done.Segments++
	c := &segmentCheck{store: e.store, reader: e.snap, id: id, report: e.report, want: e.live[id], counted: true}
	return c.run(ctx, func(n int) error {
		e.read += int64(n)
		e.watch.progress(e.read, e.done.Bytes)
		return e.pace(ctx, n)
	})
}

// segmentCheck compares what an index has in a segment with the segment.
type segmentCheck struct {
	store   *Store
	reader  pebble.Reader
	id      uint32
	report  func(Damage)
	counted bool
	want    int64 // bytes that the index has in it, where they were counted
	found   int64
	damages []Damage
	shape   uint64 // of the branches when the segment was read
}

// run checks the segment. It keeps nobody from reusing it, since it may take
// long; where that was done meanwhile, what was found means nothing.
func (c *segmentCheck) run(ctx context.Context, read func(n int) error) error {
	err := c.walk(ctx, read)
	if c.store.reused(c.id) || err == nil && len(c.damages) == 0 {
		return nil
	}
	if c.store.shape.Load() != c.shape {
		return err // it may have looked under branches that were absorbed meanwhile
	}
	for _, d := range c.damages {
		c.report(d)
	}
	return err
}

// reused reports whether a segment's file may hold something else by now.
func (s *Store) reused(id uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage[id]
	return u == nil && s.filling.segment != id || u != nil && u.free
}

func (c *segmentCheck) walk(ctx context.Context, read func(n int) error) error {
	s := c.store
	w, err := s.walkSegment(ctx, c.id)
	if err != nil {
		return err
	}
	defer s.handles.put(w.handle)
	c.shape = w.shape
	s.mu.Lock()
	var end int64
	if u := s.usage[c.id]; u != nil {
		end = int64(u.end)
	}
	s.mu.Unlock()
	for _, group := range w.groups() {
		err := s.eachLive(c.reader, c.id, group, func(l liveRun) error {
			if l.record == nil {
				return nil // what has no record at all is found by its count
			}
			c.found += int64(l.count) * blockSize
			c.blocks(w, &l)
			return read(l.count * blockSize)
		})
		if err != nil {
			return err
		}
	}
	if w.unread != nil || end != 0 && w.end < end || c.counted && c.found != c.want {
		return c.missing(ctx, w)
	}
	return nil
}

// blocks compares the blocks of a run with their checksums: the index's, the
// record's and their own.
func (c *segmentCheck) blocks(w *segmentWalk, l *liveRun) {
	w.data = grown(w.data, l.count*blockSize)
	_, rerr := w.file.ReadAt(w.data, int64(l.off))
	for i := range l.count {
		off := l.off + uint32(i)*blockSize
		what := ""
		if rerr != nil {
			what = "a block can't be read from the disk"
		} else if blockCRC(w.data[i*blockSize:(i+1)*blockSize]) != le.Uint32(l.crcs[i*4:]) {
			what = "a block does not match its checksum"
		}
		if what != "" {
			d := c.store.damaged(l.branch, l.block(i), l.crcs[i*4:i*4+4], c.id, off, what)
			d.cause = rerr
			c.damages = append(c.damages, d)
		}
	}
}

// missing looks for what the index has in the segment where no record that
// can be read has it: a header is damaged or on a bad sector, and hides all
// that follows it.
func (c *segmentCheck) missing(ctx context.Context, w *segmentWalk) error {
	byLeaf := map[versionID][]placed{}
	for _, g := range w.groups() {
		byLeaf[versionID{branch: g[0].line, leaf: g[0].leaf()}] = g
	}
	it, err := c.reader.NewIter(&pebble.IterOptions{LowerBound: []byte{keyLeaf}, UpperBound: []byte{keyLeaf + 1}})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return block.Wrap(block.Unavailable, err, "the check ended")
		}
		branch, leaf, epoch, _ := parseLeafKey(it.Key())
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		group := byLeaf[versionID{branch: c.store.lineOf(branch), leaf: leaf}]
		err = eachRun(v, func(r run) {
			if r.segment != c.id {
				return
			}
			l := liveRun{branch: branch, epoch: epoch, leaf: leaf, first: r.first, count: r.count, off: r.off, crcs: r.crcs}
			_ = cut(l, group, func(l liveRun) error {
				if l.record == nil {
					d := c.store.damaged(branch, l.block(0), l.crcs, c.id, l.off,
						"no whole record holds a block that the index has")
					d.cause = w.unread
					c.damages = append(c.damages, d)
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return indexError(it.Error())
}
