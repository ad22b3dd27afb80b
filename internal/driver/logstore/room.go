package logstore

import (
	"context"
	"time"

	"kvol/internal/block"
)

// The index lies in the same file system as the log, and a store whose index
// has no room stops. So a margin of the file system is left to it, which grows
// with it. Where some of the margin is not there, because the index grew or
// somebody else took it, the log gives segments back, and takes no writes
// until it did.

const (
	spaceMargin  = 4  // segments' worth of the file system left to the index and others, at least
	marginTables = 16 // of the index's memory tables: those that wait, and joining what they become
	passingShare = 2  // of the margin, one in so many: what the index may have of it for a while
)

// margin is what the pool knows of the room that is left to the index, in
// bytes.
type margin struct {
	size    int64
	passing int64 // taken by the index for a while only: it counts as free, up to a half of size
	lack    int64 // of size, what is not there; not above 0 where all is
}

// scarce tells whether so much is lacking that nothing but deleting and moving
// may make the index grow.
func (m margin) scarce() bool { return m.lack > m.size/2 }

// room is what is free beyond the margin; negative where it lacks something.
func (m margin) room(free int64) int64 { return free + m.passing - m.size }

// grows returns by how many bytes the log can grow where so many are free in
// the file system; negative where it has to shrink.
func (m margin) grows(free, segment int64) int64 {
	room := m.room(free)
	if room < 0 {
		return room
	}
	return max(0, room-segment)
}

// look finds out how much room the index has. It is called when the log begins
// a segment, when a table of the index was written, and now and then.
func (p *pool) look() error {
	var index, passing int64
	if p.index != nil {
		index, passing = p.index()
	}
	space, err := p.fs.Space(p.dir)
	if err != nil {
		return block.Wrap(block.Unavailable, err, "the file system's free space can't be told")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Joining tables may write all of the index anew before the old ones go.
	size := max(spaceMargin*p.size, marginTables*p.memTable, index)
	p.margin = margin{size: size, passing: min(passing, size/passingShare)}
	p.margin.lack = -p.margin.room(space.Free)
	if p.margin.lack <= 0 {
		p.change.Broadcast()
	}
	return nil
}

func (p *pool) marginNow() margin {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.margin
}

// has tells whether a record that keeps a reserve may be written. The caller
// holds mu.
func (p *pool) has(keep reserve) bool {
	switch {
	case keep == forWriting && p.margin.lack > 0, keep == forTrimming && p.margin.scarce():
		return false
	}
	return len(p.ready) >= int(keep)
}

func (p *pool) hasNow(keep reserve) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has(keep)
}

// readyGoal is how many segments are kept ready, new ones if need be. The
// caller holds mu.
func (p *pool) readyGoal() int {
	if p.margin.scarce() {
		return int(forTrimming)
	}
	return readyTarget
}

func (p *pool) roomToGrow() error {
	if err := p.look(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch used := int64(len(p.all)) * p.size; {
	case p.margin.lack > 0:
		return block.Errorf(block.NoSpace, "the store is full: its file system has no room for its index to grow")
	case p.max > 0 && used+p.size > p.max:
		return block.Errorf(block.NoSpace, "the store is full")
	case p.margin.lack+p.size > 0:
		return block.Errorf(block.NoSpace, "the store is full: its file system has no room for another segment")
	}
	return nil
}

// giveRoom gives empty segments back to the file system until the index has its
// margin, but for those that moving and deleting need. It tells whether it gave
// any.
func (p *pool) giveRoom() (gave bool, err error) {
	for {
		id, ok := p.takeSpare()
		if !ok {
			return gave, nil
		}
		if err := p.remove(id); err != nil {
			return gave, err
		}
		gave = true
	}
}

// takeSpare takes an empty segment whose room the index needs.
func (p *pool) takeSpare() (id uint32, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.margin.lack <= 0 || len(p.free) == 0 && len(p.ready) <= p.readyGoal() {
		return 0, false
	}
	p.margin.lack -= p.size
	return p.takeEmpty(), true
}

// takeEmpty takes the empty segment that is missed least. The caller holds mu.
func (p *pool) takeEmpty() (id uint32) {
	if len(p.free) > 0 {
		id, p.free = p.free[0], p.free[1:]
	} else {
		last := len(p.ready) - 1
		id, p.ready = p.ready[last], p.ready[:last]
	}
	delete(p.all, id)
	return id
}

// remove gives a segment back to the file system. The directory need not be
// synced: a file that is there again after a power cut is as empty as it was.
func (p *pool) remove(id uint32) error {
	p.handles.drop(id)
	if err := p.fs.Remove(segmentName(p.dir, id)); err != nil {
		return block.Wrap(ioKind(err), err, "a segment of the store can't be removed")
	}
	return p.gone(id)
}

// indexRoom tells how many bytes the index has on the disk, and how many more
// for a while: what is being written, and what goes when nobody reads it any
// more.
func (s *Store) indexRoom() (size, passing int64) {
	m := s.db.Metrics()
	passing = m.Compact.InProgressBytes + int64(m.Table.Local.ObsoleteSize) + int64(m.Table.Local.ZombieSize)
	return int64(m.DiskSpaceUsage()) - passing, passing
}

// makeRoom gives empty segments back where the index lacks room, before
// recovery makes it grow.
func (s *Store) makeRoom() error {
	err := s.pool.look()
	if err == nil {
		_, err = s.pool.giveRoom()
	}
	return err
}

// indexWrote is told that the index wrote a table. Any lock may be held.
func (s *Store) indexWrote() {
	s.tableWritten()
	s.pool.signal()
}

// keepRoom looks at the room now and then, since others may use the file
// system as well, and keeps the emergency file there: not at once, since the
// segments that are made ready first are worth more.
func (s *Store) keepRoom(ctx context.Context) {
	tick := time.NewTicker(levelEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.pool.signal()
		if err := s.keepEmergency(ctx); err != nil && ctx.Err() == nil {
			s.slog.Warn("the store's emergency file can't be made", "err", err)
		}
	}
}
