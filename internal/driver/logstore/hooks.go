package logstore

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/vfs"
)

// mutation is a deliberate mistake that a test asks for, to see it caught.
type mutation uint32

const (
	skipLogSync         mutation = 1 << iota // flush without a sync
	skipOldSegmentSync                       // sync only the newest segment
	skipSyncBeforeIndex                      // the index may get ahead of the log
	skipDataCheck                            // replay takes torn data
	skipGeneration                           // replay takes records of an older generation
	skipSegmentDirSync                       // a segment's name may be lost
	acceptAnySequence                        // replay takes what is there
	skipEpoch                                // writes after a snapshot go into its version
	skipReadCheck                            // reads take any bytes
	recycleEarly                             // reuse a segment before the index is durable
	skipReplaySync                           // what is replayed may be in the page cache only
	moveBlindly                              // a relocate record counts even where the index looks elsewhere
	trustOldNotes                            // sweeping leaves stale notes of what is noted
	trustOldViews                            // reads take places that they looked up before an absorption began
	moveOldFirst                             // absorbing moves old versions before newer ones
	forgetHeirs                              // compaction looks for absorbed blocks under their old branch only
	forgetMove                               // a segment counts as empty though a block in it was not moved
	sameSequence                             // writes that go together have one sequence number
	splitGroup                               // the index may have the end of writes that go together without all of them
	forgetTouched                            // a leaf that is joined loses what the same batch has of it
	dropSeen                                 // sweeping drops what the mark at a gap's end sees
	joinOldOver                              // sweeping lays older blocks over newer ones
	sweepPastMark                            // a gap reaches over the mark at its end
	noteSweptEarly                           // a gap counts as swept before it is
	skipPadding                              // pages of the log are written in part when they are first touched
)

// testHooks is nil outside of tests.
type testHooks struct {
	on   atomic.Uint32
	wrap func(vfs.FS) vfs.FS // puts a faulty file system in between; may be nil
	// between is called by who reads, between looking up its views and getting an
	// iterator; may be nil.
	between func()
}

func (h *testHooks) betweenViews() {
	if h != nil && h.between != nil {
		h.between()
	}
}

func (h *testHooks) is(m mutation) bool { return h != nil && h.on.Load()&uint32(m) != 0 }

// commitTooMuch is what splitGroup asks for: it has the index keep the first of
// some records that go together, with the position after the last. at is the
// end of the first.
func (s *Store) commitTooMuch(b *pebble.Batch, records []record, at position) {
	for i := range records[1:] {
		at = at.after(&records[i+1].header)
	}
	_ = b.Set(positionKey, at.encode(nil), nil)
	_ = b.Commit(pebble.NoSync)
	b.Reset()
	_, _ = s.db.AsyncFlush()
}
