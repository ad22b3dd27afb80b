package control

import (
	"sync"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// paceAhead is how many bytes hosts may write in each round of a move besides
// half of what the round copies.
const paceAhead = moveRest / 4

// pace holds the writers of a volume that moves to half of the speed of its
// copying, so that each round leaves less to the next, whatever hosts do. What a
// writer waits for is that the copying comes on by twice what was written before
// its turn; it never waits for a time.
type pace struct {
	mu   sync.Mutex
	left int64         // bytes that may be written; below zero what was written beyond; guarded by mu
	more chan struct{} // closed when there is more, or the pace ends; guarded by mu
	over bool          // guarded by mu
}

// pace begins to hold the exports of a volume to a pace; free ends that.
func (e *Exports) pace(id block.VolumeID) (p *pace, free func()) {
	p = &pace{more: make(chan struct{})}
	e.mu.Lock()
	e.paces[id] = p
	e.mu.Unlock()
	e.paced.Add(1)
	return p, func() {
		e.mu.Lock()
		delete(e.paces, id)
		e.mu.Unlock()
		e.paced.Add(-1)
		p.end()
	}
}

// keepPace lets a write of n bytes to a volume wait for its turn, or for the end
// of its export.
func (e *Exports) keepPace(id block.VolumeID, off, n int64, revoked <-chan struct{}) {
	if e == nil || e.paced.Load() == 0 {
		return
	}
	e.mu.Lock()
	p := e.paces[id]
	e.mu.Unlock()
	if p != nil {
		p.take(blocksOf(off, n), revoked)
	}
}

// blocksOf is how many bytes the blocks have that a range touches.
func blocksOf(off, n int64) int64 {
	from, to := off/driver.BlockSize, (off+n+driver.BlockSize-1)/driver.BlockSize
	return (to - from) * driver.BlockSize
}

// round begins a round of copying.
func (p *pace) round() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = min(p.left+paceAhead, paceAhead)
	p.wake()
}

// copied lets n bytes be written for twice as many that were copied.
func (p *pace) copied(n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left += n / 2
	p.wake()
}

func (p *pace) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.wake()
}

// wake lets those that wait look again. The caller holds mu.
func (p *pace) wake() {
	close(p.more)
	p.more = make(chan struct{})
}

// take returns when n bytes may be written. Any number may, as long as there is
// a byte left: those that come later wait for it.
func (p *pace) take(n int64, revoked <-chan struct{}) {
	for {
		p.mu.Lock()
		if p.over || p.left > 0 {
			p.left -= n
			p.mu.Unlock()
			return
		}
		more := p.more
		p.mu.Unlock()
		select {
		case <-more:
		case <-revoked:
			return
		}
	}
}
