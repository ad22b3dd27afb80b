package logstore

import (
	"sync/atomic"

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
