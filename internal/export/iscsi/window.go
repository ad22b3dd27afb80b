package iscsi

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
)

// window is a session's numbers: which commands the initiator may send, and
// which status it gets next (section 4.2.2 of RFC 7143).
type window struct {
	limit  int // commands at once
	digest bool

	mu       sync.Mutex // guards below; taken within line.Output's
	commands int        // that have a number, not yet answered
	statSN   uint32
	expCmdSN uint32
	maxCmdSN uint32
}

// Verdicts on a command's number.
type verdict int

const (
	inOrder verdict = iota
	outside         // of the window: to be ignored, section 4.2.2.1
	gap             // one before it is missing
)

// take counts a command with this CmdSN.
func (w *window) take(sn uint32) verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case int32(sn-w.expCmdSN) < 0 || int32(sn-w.maxCmdSN) > 0:
		return outside
	case sn != w.expCmdSN:
		return gap
	}
	w.expCmdSN++
	w.commands++
	return inOrder
}

// drop counts a command as done that gets no answer.
func (w *window) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands--
}

// number numbers a reply's PDUs.
func (w *window) number(r *reply) {
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
