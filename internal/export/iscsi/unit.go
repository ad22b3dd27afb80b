package iscsi

import (
	"context"
	"sync"
	"sync/atomic"
)

const maxAttentions = 16 // that wait for one session

// unit is a logical unit's state that its sessions share: reservations, mode
// pages and who has to hear of what.
type unit struct {
	name string
	era  string // of its reservations, see Forgotten
	// io is held shared by what writes, and alone by what compares and writes.
	io sync.RWMutex

	descriptorSense atomic.Bool // control mode page: D_SENSE
	writeProtect    atomic.Bool // control mode page: SWP
	reserved        atomic.Bool // there is a reservation of whatever kind: look closer

	mu       sync.Mutex // guards below
	sessions map[*session]struct{}
	holder   *session // of RESERVE(6)'s reservation
	pr       persistent
}

// shelf keeps the units.
type shelf struct {
	mu  sync.Mutex // guards below
	all map[string]*unit
}

// join finds the unit of a session, and raises the first unit attention.
func (h *shelf) join(ctx context.Context, s *Server, c *session) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := c.target.Unit
	var state []byte
	if s.reservations != nil {
		var err error
		if state, err = s.reservations.LoadReservations(ctx, name); err != nil {
			return err
		}
	}
	u := h.all[name]
	if u == nil || u.era != EraOf(state) { // sessions from before have the old one until they end
		u = &unit{name: name, era: EraOf(state), sessions: map[*session]struct{}{}, pr: persistent{keys: map[string]uint64{}}}
		u.pr.restore(state)
		u.reserved.Store(u.pr.kind != 0)
		h.all[name] = u
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sessions[c] = struct{}{}
	c.unit = u
	c.raise(codePowerOn)
	return nil
}

// leave ends a session's part in its unit. A unit that nobody uses and nobody
// registered at is forgotten, and one that somebody did too where there are
// too many.
func (h *shelf) leave(s *Server, c *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := c.unit
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sessions, c)
	if u.holder == c {
		u.holder = nil
		u.reserved.Store(u.pr.kind != 0)
	}
	if h.all[u.name] == u && len(u.sessions) == 0 && (len(u.pr.keys) == 0 || len(h.all) > s.limits.Units) {
		delete(h.all, u.name)
	}
}

// tell raises a unit attention for the sessions that are meant; u.mu is held.
func (u *unit) tell(code uint16, meant func(*session) bool) {
	for c := range u.sessions {
		if meant(c) {
			c.raise(code)
		}
	}
}

// reset is what a reset by a session does to the unit and to other sessions
// besides aborting commands.
func (u *unit) reset(by *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.holder = nil
	u.reserved.Store(u.pr.kind != 0)
	u.descriptorSense.Store(false)
	u.writeProtect.Store(false)
	u.tell(codeReset, func(c *session) bool { return c != by })
}

// ours reports whether a LUN is the unit's. Peripheral and flat addressing are
// taken.
func (c *conn) ours(lun uint64) bool {
	return lun == uint64(c.target.LUN)<<48 || lun == 1<<62|uint64(c.target.LUN)<<48
}
