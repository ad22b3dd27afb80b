package iscsi

import (
	"time"

	"kvol/internal/export/line"
)

// toll is what a command is counted for by the target's limits.
type toll struct {
	write bool
	bytes int64
}

// tollOf is a command's toll; ok is false where it isn't counted.
func (c *conn) tollOf(t *task) (of toll, ok bool) {
	switch {
	case t.op.code == 0x42: // UNMAP
		return toll{write: true}, true
	case t.op.code == 0x41, t.op.code == 0x93: // WRITE SAME
		if zeros(t.cdb[:], t.data) {
			return toll{write: true}, true
		}
		return toll{true, sameLength(t.cdb[:], c.target.Device.Size())}, true
	case t.op.medium:
		return toll{true, int64(len(t.data))}, true
	case t.op.access == accessRead && !t.op.quick:
		return toll{false, int64(bytesOf(t.cdb[:]))}, true
	}
	return toll{}, false
}

func (t toll) lane() line.Lane {
	if t.write {
		return line.Changes
	}
	return line.Reads
}

// turnOf asks the target's limits about a command that has all its data.
func (c *conn) turnOf(t *task) line.Turn {
	if t.refused != nil || c.target.Throttle == nil {
		return line.Turn{}
	}
	var ok bool
	if t.toll, ok = c.tollOf(t); !ok {
		return line.Turn{}
	}
	return c.lanes.Ask(t.toll.lane(), t)
}

func (c *conn) count(t *task) time.Duration { return c.target.Throttle(t.toll.write, t.toll.bytes) }

// uncount takes back what a command was counted for that is never carried out.
func (c *conn) uncount(t *task) {
	if c.target.GiveBack != nil {
		c.target.GiveBack(t.toll.write, t.toll.bytes)
	}
}

// wait has a command wait for its turn.
func (c *conn) wait(t *task) {
	c.lanes.Wait(t.toll.lane(), t, t.turn)
	if c.wasAborted(t) { // before there was anything to take out
		c.unwait()
	}
}

// unwait ends the tasks that were aborted while they wait for their turn. Who
// takes a task out of the lanes holds it.
func (c *conn) unwait() {
	for _, t := range c.lanes.Take(c.wasAborted) {
		c.finish(t)
	}
}
