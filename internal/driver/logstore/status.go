package logstore

import (
	"context"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Level says how much an operator has to care about a store's room.
type Level string

// The levels of a store, from well to bad.
const (
	LevelOK       Level = "ok"
	LevelLow      Level = "low"      // less than a fifth is free or garbage
	LevelCritical Level = "critical" // less than a twentieth or 5 segments: writers wait, and will soon be refused
	LevelFull     Level = "full"     // writers get NoSpace; deleting works
	LevelStopped  Level = "stopped"  // the log or the index failed; see Err
)

// Status is a store's state for metrics and people.
type Status struct {
	Level         Level     `json:"level"`
	Generation    uint32    `json:"generation"`     // of the log; rises with each opening
	Unclean       bool      `json:"unclean"`        // it was not closed the last time
	Opened        time.Time `json:"opened"`         // by this process
	Sequence      uint64    `json:"sequence"`       // of the next record
	Synced        uint64    `json:"synced"`         // records below it survive a power cut
	Total         int64     `json:"total_bytes"`    // what the store can hold, of log
	Free          int64     `json:"free_bytes"`     // of it not written, or empty again
	Segments      int       `json:"segments"`       // files of the log
	EmptySegments int       `json:"empty_segments"` // of them ready for use
	SegmentSize   int64     `json:"segment_bytes"`
	LiveBytes     int64     `json:"live_bytes"`    // of data in full segments, about
	GarbageBytes  int64     `json:"garbage_bytes"` // in full segments, about: compaction gets it back when it is needed
	Held          int64     `json:"held_writes"`   // that waited for compaction, since the store was opened
	IndexBytes    int64     `json:"index_bytes"`   // of the index on disk
	MemoryBytes   int64     `json:"memory_bytes"`  // all of Memory
	Memory        Memory    `json:"memory"`
	Volumes       int       `json:"volumes"`
	Snapshots     int       `json:"snapshots"`
	Branches      int       `json:"branches"`
	Damaged       int64     `json:"damaged"` // places that are damaged, as far as is known; 1,000 at most are told apart
	Healed        int64     `json:"healed"`  // places healed since the store was opened
	Scrub         Scrubbed  `json:"scrub"`
	Err           error     `json:"-"`               // why the store stopped; nil while it works
	Error         string    `json:"error,omitempty"` // Err in words
}

// Status tells how the store is.
func (s *Store) Status() Status {
	st := Status{Unclean: s.unclean, Opened: s.opened, SegmentSize: int64(s.super.segmentSize), Scrub: s.scrubbed(),
		Held: s.pace.waits.Load()}
	st.Segments, st.EmptySegments = s.pool.counts()
	s.log.mu.Lock()
	st.Generation, st.Sequence, st.Synced, st.Err = s.log.end.generation, s.log.end.seq, s.log.synced, s.log.poison
	s.log.mu.Unlock()
	if !s.closed.Load() {
		m := s.db.Metrics()
		st.IndexBytes = int64(m.DiskSpaceUsage())
	}
	s.damages.mu.Lock()
	st.Damaged, st.Healed = int64(len(s.damages.found)), s.damages.healed
	s.damages.mu.Unlock()
	s.mu.Lock()
	st.Memory = s.memory()
	st.MemoryBytes = st.Memory.Total()
	st.Volumes, st.Branches = len(s.volumes), len(s.branches)
	for _, v := range s.volumes {
		st.Snapshots += v.snapshots.len()
	}
	for _, u := range s.usage {
		st.LiveBytes += u.guess
		if !u.free {
			st.GarbageBytes += u.data - u.guess
		}
	}
	s.mu.Unlock()
	if c, err := s.Capacity(context.Background()); err == nil {
		st.Total, st.Free = c.Total, c.Free
	}
	st.Level = s.level(st)
	if st.Err != nil {
		st.Error = st.Err.Error()
	}
	return st
}

func (s *Store) level(st Status) Level {
	switch {
	case st.Err != nil:
		return LevelStopped
	case s.pool.isFull():
		return LevelFull
	case st.Total > 0 && st.Free+st.GarbageBytes < max(st.Total/20, int64(forWriting+2)*st.SegmentSize):
		return LevelCritical
	case lowRoom(driver.Capacity{Total: st.Total, Free: st.Free + st.GarbageBytes}):
		return LevelLow
	}
	return LevelOK
}

func (p *pool) isFull() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full != nil && !p.has(forWriting) && block.Is(p.full, block.NoSpace)
}

// levelEvery is how often the housekeeper looks at the level at least.
const levelEvery = 10 * time.Second

// levels remembers what was logged.
type levels struct {
	mu   sync.Mutex // guards last; held from asking to logging, so that changes are told in their order
	last Level
}

// watchLevel logs each change of the level, so that an operator sees a full
// store coming. When it returns, the level is that of the last line in the log.
func (s *Store) watchLevel(ctx context.Context) {
	s.levels.mu.Lock()
	defer s.levels.mu.Unlock()
	st := s.Status()
	last := s.levels.last
	s.levels.last = st.Level
	if st.Level == last || ctx.Err() != nil || last == "" && st.Level == LevelOK {
		return
	}
	room := []any{"level", string(st.Level), "free_bytes", st.Free, "total_bytes", st.Total}
	switch st.Level {
	case LevelOK:
		s.slog.Info("the store has room again", room...)
	case LevelStopped:
		s.slog.Error("the store stopped", append(room, "err", st.Err)...)
	case LevelFull:
		s.slog.Error("the store is full", room...)
	default:
		s.slog.Warn("the store has little room left", room...)
	}
}
