package logstore

import (
	"errors"

	"kvol/internal/block"
)

// The index takes changes into memory faster than it writes tables. Its memory
// is bounded here and not by Pebble, which would wait while it holds the
// store's lock and could not be told that the store has stopped.

// memTables is how many of the index's memory tables there may be, beside the
// one that is made while that is looked at.
const memTables = 4

// errBehind says that a record has to wait for the index.
var errBehind = errors.New("the index has too much in memory")

// tooMuch looks, now and then, whether the index has too much in memory. The
// caller holds s.mu, or is recovery.
func (s *Store) tooMuch() bool {
	if s.sinceLook < s.memTable/4 && !s.behind {
		return false
	}
	s.sinceLook = 0
	s.behind = int64(s.db.Metrics().MemTable.Size) > memTables*s.memTable
	return s.behind
}

// waitIndex returns once tables were written, or with an error when the store
// stops. It is called without a lock.
func (s *Store) waitIndex() error {
	for {
		s.mu.Lock()
		still := s.tooMuch()
		s.mu.Unlock()
		if !still {
			s.tableWritten() // one after the other looks again
			return nil
		}
		select {
		case <-s.flushed:
		case <-s.log.dead:
			return s.log.failed()
		}
	}
}

// tableWritten wakes one of those who wait; who is through wakes the next.
func (s *Store) tableWritten() {
	select {
	case s.flushed <- struct{}{}:
	default:
	}
}

func errClosed() error { return block.Errorf(block.Unavailable, "the store is closed") }
