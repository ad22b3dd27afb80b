package control

import "kvol/internal/block"

// MoveRest is for how many bytes a move may let hosts wait.
const MoveRest = moveRest

// Paused reports whether the exports of a volume wait for its move. Only the
// move itself may ask.
func (e *Exports) Paused(id block.VolumeID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for x := range e.open {
		if x.volume != id {
			continue
		}
		if !x.mu.TryRLock() {
			return true
		}
		x.mu.RUnlock()
	}
	return false
}
