package iscsi

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"kvol/internal/block"
)

// maxConnections is how many connections a session may have.
const maxConnections = 8

// session is what the connections of one initiator port have in common. It is
// the I_T nexus that units know.
type session struct {
	key    string // target, initiator and its ISID
	nexus  string // the initiator port's name
	tsih   uint16
	target Target
	params params // what was agreed on for all connections
	window window
	ended  chan struct{}

	unit      *unit
	attention atomic.Bool
	attend    []uint16     // unit attentions that wait; guarded by unit.mu
	size      atomic.Int64 // of the device, as the initiator knows it

	mu      sync.Mutex // guards below
	members map[uint16]*member
	over    bool // it ends: nobody joins it any more
}

// member is a connection of a session, by its CID.
type member struct {
	cid   uint16
	close func()
	over  atomic.Bool   // somebody ends it
	alone atomic.Bool   // its end is not the session's
	ended chan struct{} // nothing of it uses the device any more

	c atomic.Pointer[conn] // once it is in the full feature phase
}

// end ends a connection from outside; the session need not end with it if alone.
func (s *session) end(m *member, alone bool) {
	m.alone.Store(alone)
	m.over.Store(true)
	m.close()
	if c := m.c.Load(); c != nil { // one that isn't there yet looks at over
		c.out.Fail(errEnded)
	}
	s.window.wake()
}

// others are the connections besides one.
func (s *session) others(m *member) (all []*member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.members {
		if o != m {
			all = append(all, o)
		}
	}
	return all
}

// conns are the connections in the full feature phase.
func (s *session) conns() (all []*conn) {
	for _, m := range s.others(nil) {
		if c := m.c.Load(); c != nil {
			all = append(all, c)
		}
	}
	return all
}

// endOther ends another connection than one, by its CID; false if there is none.
func (s *session) endOther(m *member, cid uint16) bool {
	for _, o := range s.others(m) {
		if o.cid == cid {
			s.end(o, true)
			return true
		}
	}
	return false
}

// kill ends all connections but one, which ends by itself; nil for all.
func (s *session) kill(but *member) {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	for _, m := range s.others(but) {
		s.end(m, false)
	}
}

// add makes a connection one of a session. One that has its CID is ended first
// (section 6.3.4 of RFC 7143).
func (s *session) add(ctx context.Context, cid uint16, closeIt func()) (*member, error) {
	for {
		s.mu.Lock()
		old := s.members[cid]
		switch {
		case s.over, len(s.members) == 0:
			s.mu.Unlock()
			return nil, refuse(loginNoSession, "the session ends")
		case old == nil && len(s.members) >= s.params.connections:
			s.mu.Unlock()
			return nil, refuse(loginTooMany, "%d connections", s.params.connections+1)
		case old == nil:
			m := s.enterLocked(cid, closeIt)
			s.mu.Unlock()
			return m, nil
		}
		s.mu.Unlock()
		s.end(old, true)
		select {
		case <-old.ended:
		case <-ctx.Done():
			return nil, refused(block.Wrap(block.Unavailable, ctx.Err(), "An earlier connection has not ended yet."))
		}
	}
}

func (s *session) enterLocked(cid uint16, closeIt func()) *member {
	m := &member{cid: cid, close: closeIt, ended: make(chan struct{})}
	s.members[cid] = m
	s.window.several.Store(len(s.members) > 1 || s.window.several.Load())
	return m
}

// leave ends a connection's part in its session; last says that the session is
// over.
func (s *session) leave(m *member) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, m.cid)
	close(m.ended)
	return len(s.members) == 0
}

// raise makes a unit attention wait for the session; unit.mu is held.
func (s *session) raise(code uint16) {
	if len(s.attend) < maxAttentions && !slices.Contains(s.attend, code) {
		s.attend = append(s.attend, code)
	}
	s.attention.Store(true)
}

// attended takes the oldest unit attention that waits.
func (s *session) attended() (code uint16, ok bool) {
	if !s.attention.Load() {
		return 0, false
	}
	s.unit.mu.Lock()
	defer s.unit.mu.Unlock()
	if len(s.attend) == 0 { // another connection took it
		return 0, false
	}
	code = s.attend[0]
	s.attend = s.attend[1:]
	s.attention.Store(len(s.attend) > 0)
	return code, true
}

// registry knows the sessions, so that an initiator port that comes again ends
// the session it had (section 6.3.5 of RFC 7143).
type registry struct {
	mu   sync.Mutex // guards below
	all  map[string]*session
	last uint16
}

// newSession makes a session with its first connection.
func newSession(l *login, limits Limits) (*session, *member) {
	s := &session{key: l.key(), nexus: l.initiator + ",i,0x" + l.isid, params: l.params, ended: make(chan struct{}),
		members: map[uint16]*member{}}
	s.window.begin(limits.Commands, l.first.cmdSN())
	return s, s.enterLocked(l.cid(), func() { l.conn.Close() })
}

// enter waits for the end of an earlier session with the same key.
func (r *registry) enter(ctx context.Context, s *session) error {
	for {
		r.mu.Lock()
		old := r.all[s.key]
		if old == nil {
			s.tsih = r.numberLocked()
			r.all[s.key] = s
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		old.kill(nil)
		select {
		case <-old.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *registry) leave(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, s.key)
	close(s.ended)
}

func (r *registry) number() uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.numberLocked()
}

func (r *registry) numberLocked() uint16 {
	r.last++
	if r.last == 0 {
		r.last = 1
	}
	return r.last
}

// find returns the session of a key if it has this handle; nil if not.
func (r *registry) find(key string, tsih uint16) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.all[key]; s != nil && s.tsih == tsih {
		return s
	}
	return nil
}
