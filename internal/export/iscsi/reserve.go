package iscsi

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
)

// Types of persistent reservations.
const (
	writeExclusive        = 1
	exclusiveAccess       = 3
	writeExclusiveMembers = 5 // registrants only
	exclusiveMembers      = 6
	writeExclusiveAll     = 7 // all registrants hold it
	exclusiveAll          = 8

	maxRegistrations = 256 // at one unit
	registerBytes    = 24  // of PERSISTENT RESERVE OUT's parameters
)

// Service actions of PERSISTENT RESERVE OUT.
const (
	prRegister = iota
	prReserve
	prRelease
	prClear
	prPreempt
	prPreemptAbort
	prRegisterAnyway
)

// persistent are a unit's persistent reservations.
type persistent struct {
	generation uint32
	keys       map[string]uint64 // by the initiator port's name
	kind       byte              // 0: no reservation
	holder     string
	kept       bool // over restarts (APTPL)
}

// keptState is what Reservations keeps.
type keptState struct {
	Keys   map[string]uint64 `json:"keys,omitempty"`
	Kind   byte              `json:"kind,omitempty"`
	Holder string            `json:"holder,omitempty"`
	Era    string            `json:"era,omitempty"` // see Forgotten
}

// Forgotten is the state of a unit all of whose reservations were taken away by who it
// belongs to, whether they were kept or not: who logs in from then on finds none. Era is
// a name that the unit's states never had.
func Forgotten(era string) []byte {
	state, _ := json.Marshal(keptState{Era: era}) // it can't fail
	return state
}

// EraOf is the name that Forgotten gave last; "" before that. A state is to be kept only
// if it has the era of the one that it follows: else it is of sessions from before.
func EraOf(state []byte) string {
	var k keptState
	_ = json.Unmarshal(state, &k) // what isn't one has none
	return k.Era
}

// restore takes up a state that was kept; what isn't one is none.
func (p *persistent) restore(state []byte) {
	var k keptState
	if json.Unmarshal(state, &k) != nil || len(k.Keys) == 0 {
		return
	}
	p.keys, p.kind, p.holder, p.kept = k.Keys, k.Kind, k.Holder, true
}

// holds reports whether a nexus holds the reservation.
func (p *persistent) holds(nexus string) bool {
	if p.kind == writeExclusiveAll || p.kind == exclusiveAll {
		return p.keys[nexus] != 0
	}
	return p.kind != 0 && p.holder == nexus
}

func (p *persistent) free() { p.kind, p.holder = 0, "" }

// permits reports whether reservations let a command pass.
func (u *unit) permits(c *session, t *task) bool {
	if t.op.always {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.holder != nil && u.holder != c {
		return t.op.code == 0x17 // RELEASE(6), which does nothing
	}
	p := &u.pr
	if p.kind == 0 || p.holds(c.nexus) || p.kind >= writeExclusiveMembers && p.keys[c.nexus] != 0 {
		return true
	}
	switch t.op.access {
	case accessWrite:
		return false
	case accessRead:
		return p.kind == writeExclusive || p.kind == writeExclusiveMembers || p.kind == writeExclusiveAll
	}
	return true
}

func reserveOperations() []operation {
	u := func(b ...byte) []byte { return b }
	all := []operation{
		{code: 0x16, action: -1, usage: u(0, 0, 0, 0, 0, 4), run: reserve6, access: accessKeep, quick: true},
		{code: 0x17, action: -1, usage: u(0, 0, 0, 0, 0, 4), run: release6, access: accessKeep, quick: true},
	}
	for action := range 4 {
		all = append(all, operation{code: 0x5e, action: action, usage: u(0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 4),
			run: reserveIn, access: accessKeep, quick: true})
	}
	for action := range prRegisterAnyway + 1 {
		all = append(all, operation{code: 0x5f, action: action,
			usage: u(0, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 4), run: reserveOut, access: accessKeep, slow: true,
			out: func(cdb []byte) int { return int(min(binary.BigEndian.Uint32(cdb[5:]), 4096)) }})
	}
	return all
}

// reserve6 is the reservation of SPC-2: it ends with the session.
func reserve6(x *exec) error {
	u := x.c.unit
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.pr.keys) > 0 || u.holder != nil && u.holder != x.c.session {
		return errConflict
	}
	u.holder = x.c.session
	u.reserved.Store(true)
	return nil
}

func release6(x *exec) error {
	u := x.c.unit
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.pr.keys) > 0 {
		return errConflict
	}
	if u.holder == x.c.session {
		u.holder = nil
		u.reserved.Store(u.pr.kind != 0)
	}
	return nil
}

// reserveIn is PERSISTENT RESERVE IN.
func reserveIn(x *exec) error {
	u := x.c.unit
	u.mu.Lock()
	defer u.mu.Unlock()
	be, p := binary.BigEndian, &u.pr
	limit := allocation16(x.cdb)
	action := x.cdb[1] & 0x1f
	if action == 2 {
		keeps := byte(0)
		if x.c.s.reservations != nil {
			keeps = 1
		}
		kept := byte(0x80)
		if p.kept {
			kept |= 1
		}
		return x.give([]byte{0, 8, keeps, kept, 0xea, 0x01, 0, 0}, limit)
	}
	b := be.AppendUint32(nil, p.generation)
	b = append(b, 0, 0, 0, 0)
	names := slices.Sorted(maps.Keys(p.keys))
	switch action {
	case 0:
		for _, name := range names {
			b = be.AppendUint64(b, p.keys[name])
		}
	case 1:
		if p.kind != 0 {
			key := p.keys[p.holder]
			if p.kind >= writeExclusiveAll { // no one registrant's
				key = 0
			}
			b = be.AppendUint64(b, key)
			b = append(b, 0, 0, 0, 0, 0, p.kind, 0, 0)
		}
	case 3:
		for _, name := range names {
			b = p.appendStatus(b, name)
		}
	}
	be.PutUint32(b[4:], uint32(len(b)-8))
	return x.give(b, limit)
}

// appendStatus appends a registration as READ FULL STATUS has it.
func (p *persistent) appendStatus(b []byte, name string) []byte {
	be := binary.BigEndian
	port := make([]byte, max(20, padded(len(name)+1)))
	copy(port, name)
	d := make([]byte, 24)
	be.PutUint64(d, p.keys[name])
	if p.holds(name) {
		d[12], d[13] = 1, p.kind
	}
	be.PutUint16(d[18:], 1)
	be.PutUint32(d[20:], uint32(4+len(port)))
	b = append(b, d...)
	b = append(b, 0x45, 0) // an iSCSI port's name
	return append(be.AppendUint16(b, uint16(len(port))), port...)
}

// reserveOut is PERSISTENT RESERVE OUT. PREEMPT AND ABORT is answered when nothing
// of those who were preempted touches the medium any more, nor will.
func reserveOut(x *exec) error {
	victims, err := x.changeReservations()
	if err != nil || x.cdb[1]&0x1f != prPreemptAbort || len(victims) == 0 {
		return err
	}
	for _, one := range x.c.unit.abort(x.c.session, func(s *session) bool { return slices.Contains(victims, s.nexus) }) {
		// What is about reservations touches no medium, and may wait here itself.
		one.c.await(slices.DeleteFunc(one.begun, func(t *task) bool {
			return t.op != nil && t.op.access == accessKeep
		}))
	}
	return nil
}

// changeReservations does what PERSISTENT RESERVE OUT says, and returns the
// initiator ports that it preempted.
func (x *exec) changeReservations() (preempted []string, err error) {
	be, b := binary.BigEndian, x.t.data
	action, scope, kind := int(x.cdb[1]&0x1f), x.cdb[2]>>4, x.cdb[2]&0x0f
	if be.Uint32(x.cdb[5:]) != registerBytes || len(b) != registerBytes {
		return nil, errLength
	}
	key, newKey, flags := be.Uint64(b), be.Uint64(b[8:]), b[20]
	u := x.c.unit
	u.mu.Lock()
	defer u.mu.Unlock()
	p := &u.pr
	before := persistent{keys: maps.Clone(p.keys), kind: p.kind, holder: p.holder, kept: p.kept,
		generation: p.generation}
	err = errConflict
	switch mine, known := p.keys[x.c.nexus]; {
	case action == prRegister || action == prRegisterAnyway:
		err = u.register(x, key, newKey, flags)
	case !known || mine != key:
	case action == prReserve:
		err = p.reserve(x.c.nexus, scope, kind)
	case action == prRelease:
		err = u.release(x.c.session, scope, kind)
	case action == prClear:
		u.tell(codePreempted, func(c *session) bool { return c != x.c.session && p.keys[c.nexus] != 0 })
		clear(p.keys)
		p.free()
		p.generation++
		err = nil
	default:
		preempted, err = u.preempt(x.c.session, scope, kind, newKey)
	}
	if err == nil && (p.kept || before.kept) && x.c.s.reservations != nil {
		if err = x.save(p); err != nil {
			*p = before
		}
	}
	u.reserved.Store(p.kind != 0 || u.holder != nil)
	return preempted, err
}

// save keeps the reservations, or that there are none; unit.mu is held.
func (x *exec) save(p *persistent) error {
	k := keptState{Era: x.c.unit.era}
	if p.kept && len(p.keys) > 0 {
		k.Keys, k.Kind, k.Holder = p.keys, p.kind, p.holder
	}
	var state []byte
	if k.Era != "" || k.Keys != nil {
		var err error
		if state, err = json.Marshal(k); err != nil {
			return err
		}
	}
	return x.c.s.reservations.SaveReservations(x.c.ctx, x.c.unit.name, state)
}

// register changes the key of a nexus; 0 takes it away.
func (u *unit) register(x *exec, key, newKey uint64, flags byte) error {
	const specifyPorts, keep = 0x08, 0x01
	p, nexus := &u.pr, x.c.nexus
	mine := p.keys[nexus]
	switch {
	case x.cdb[1]&0x1f == prRegister && mine != key:
		return errConflict
	case flags&specifyPorts != 0 || flags&keep != 0 && x.c.s.reservations == nil:
		return errParameter
	case newKey == 0 && mine == 0:
		return nil
	case newKey != 0 && mine == 0 && len(p.keys) >= maxRegistrations:
		return illegal(codeRegistrations)
	}
	p.generation++
	p.kept = flags&keep != 0
	if newKey != 0 {
		p.keys[nexus] = newKey
		return nil
	}
	u.remove(nexus, x.c.session)
	return nil
}

// remove takes a registration away, and a reservation that ends with it.
func (u *unit) remove(nexus string, by *session) {
	p := &u.pr
	held := p.holds(nexus)
	delete(p.keys, nexus)
	if !held || p.holder != nexus && len(p.keys) > 0 {
		return
	}
	if (p.kind == writeExclusiveAll || p.kind == exclusiveAll) && len(p.keys) > 0 {
		p.holder = slices.Sorted(maps.Keys(p.keys))[0]
		return
	}
	if p.kind >= writeExclusiveMembers {
		u.tell(codeReleased, func(c *session) bool { return c != by && p.keys[c.nexus] != 0 })
	}
	p.free()
}

func (p *persistent) reserve(nexus string, scope, kind byte) error {
	if scope != 0 || !validKind(kind) {
		return errField
	}
	if p.kind != 0 && (!p.holds(nexus) || p.kind != kind) {
		return errConflict
	}
	if p.kind == 0 {
		p.kind, p.holder = kind, nexus
	}
	return nil
}

func validKind(kind byte) bool {
	return kind == writeExclusive || kind == exclusiveAccess || kind >= writeExclusiveMembers && kind <= exclusiveAll
}

func (u *unit) release(by *session, scope, kind byte) error {
	p := &u.pr
	if !p.holds(by.nexus) {
		return nil
	}
	if scope != 0 || kind != p.kind {
		return illegal(codeReleaseWrong)
	}
	if p.kind >= writeExclusiveMembers {
		u.tell(codeReleased, func(c *session) bool { return c != by && p.keys[c.nexus] != 0 })
	}
	p.free()
	return nil
}

// preempt takes registrations with a key away, and the reservation if they held
// it. It returns whose they were.
func (u *unit) preempt(by *session, scope, kind byte, victim uint64) (gone []string, err error) {
	p := &u.pr
	all := p.kind == writeExclusiveAll || p.kind == exclusiveAll
	takes := p.kind != 0 && (all && victim == 0 || !all && p.keys[p.holder] == victim)
	if victim == 0 && !takes {
		return nil, errParameter
	}
	if takes && (scope != 0 || !validKind(kind)) {
		return nil, errField
	}
	found := false
	for name, key := range p.keys {
		meant := key == victim || takes && victim == 0
		found = found || meant
		if meant && name != by.nexus {
			gone = append(gone, name)
		}
	}
	if !found {
		return nil, errConflict
	}
	p.generation++
	u.tell(codeRegistration, func(c *session) bool { return slices.Contains(gone, c.nexus) })
	for _, name := range gone {
		if takes {
			delete(p.keys, name)
		} else {
			u.remove(name, by)
		}
	}
	if takes {
		if p.kind != kind {
			u.tell(codeReleased, func(c *session) bool { return c != by && p.keys[c.nexus] != 0 })
		}
		p.kind, p.holder = kind, by.nexus
	}
	return gone, nil
}
