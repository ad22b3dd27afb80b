package iscsi

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
	"sync/atomic"
)

// window is a session's numbers: which commands the initiator may send (section
// 4.2.2 of RFC 7143).
type window struct {
	limit   int         // commands at once
	several atomic.Bool // the session has or had more than one connection

	mu       sync.Mutex // guards below; taken within line.Output's
	moved    sync.Cond  // when expCmdSN did, or a connection ends
	commands int        // that have a number, not yet answered
	expCmdSN uint32
	maxCmdSN uint32
}

func (w *window) begin(limit int, first uint32) {
	w.limit, w.moved.L, w.expCmdSN, w.maxCmdSN = limit, &w.mu, first, first+uint32(limit)-1
}

// Verdicts on a command's number.
type verdict int

const (
	inOrder verdict = iota
	outside         // of the window: to be ignored, section 4.2.2.1
	gap             // one before it is missing
)

// take counts a command with this CmdSN. Where the session has several
// connections it waits for those before it, which come by others, until over, who
// tells that by wake.
func (w *window) take(sn uint32, over func() bool) verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case int32(sn-w.expCmdSN) < 0 || int32(sn-w.maxCmdSN) > 0:
			return outside
		case sn == w.expCmdSN:
			w.expCmdSN++
			w.commands++
			if w.several.Load() {
				w.moved.Broadcast()
			}
			return inOrder
		case !w.several.Load() || over():
			return gap
		}
		w.moved.Wait()
	}
}

// wake has those who wait look whether their connection is over.
func (w *window) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moved.Broadcast()
}

// drop counts a command as done that gets no answer.
func (w *window) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands--
}

// expects is the number of the command that comes next, and the last one that
// may come.
func (w *window) expects() (next, last uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.expCmdSN, w.maxCmdSN
}

// numbers are a connection's own: which status the initiator gets next.
type numbers struct {
	*window
	digest bool
	statSN uint32 // used within line.Output's lock
}

// number numbers a reply's PDUs.
func (w *numbers) number(r *reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.command {
		w.commands--
	}
	// The window never shrinks, whatever is under way.
	if open := w.expCmdSN + uint32(w.limit-w.commands) - 1; int32(open-w.maxCmdSN) > 0 {
		w.maxCmdSN = open
	}
	r.digest = w.digest
	for i := range r.pdus {
		p := &r.pdus[i]
		p.put(24, w.statSN)
		if p.status {
			w.statSN++
		}
		p.put(28, w.expCmdSN)
		p.put(32, w.maxCmdSN)
		if w.digest {
			binary.LittleEndian.PutUint32(p.headSum[:], crc32.Checksum(p.header[:], castagnoli))
		}
	}
}
