package zone

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/duty"
)

// leader is what the process that leads tells the others.
type leader struct {
	URL   string                     `json:"url"`
	NBD   string                     `json:"nbd,omitempty"`   // where its exports are reached
	ISCSI string                     `json:"iscsi,omitempty"` // and its targets
	Room  map[string]driver.Capacity `json:"room"`            // of its stores that answer

	live bool
}

// follows reports whether a Server answers requests while another process leads.
func (s *Server) follows() bool { return s.of != nil && s.turn == nil }

// apiAddress is where a Server listens by itself for requests to its APIs.
func (s *Server) apiAddress() string {
	if s.of != nil {
		return ""
	}
	return s.cfg.Listen
}

// owner names who holds the jobs that a Server runs.
func (s *Server) owner() string {
	if s.of != nil {
		return s.of.keeper.ID()
	}
	return string(s.cfg.Zone)
}

// scratch is the directory for conversions. What answers requests makes none.
func (s *Server) scratch() string {
	if s.follows() {
		return ""
	}
	return filepath.Join(s.cfg.DataDir, "tmp")
}

// share lets the rules know of the zone's other processes.
func (s *Server) share(c *control.Config) {
	switch {
	case s.of == nil:
	case s.follows():
		c.Elsewhere = s.of.askLead
	default:
		c.Leash = s.leash
	}
}

// lead does the zone's work whenever no other process does. An error ends the
// process: its work was taken over, and what it has in memory is of the past.
func (m *Member) lead(ctx context.Context) error {
	var said string
	for ctx.Err() == nil {
		err := m.keeper.Do(ctx, leadDuty, m.takeLead)
		if errors.Is(err, duty.ErrLost) {
			return err
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if err.Error() != said {
			said = err.Error()
			m.log.Error("this process can't lead the zone now; it answers requests, and tries again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(m.cfg.Process.Lease / 4): // others may be able to
		}
	}
	return nil
}

// takeLead opens the stores and does the zone's work until ctx ends.
func (m *Member) takeLead(ctx context.Context, turn *duty.Turn) error {
	s, err := open(ctx, &Server{cfg: m.cfg, env: m.env, of: m, turn: turn,
		leash: func() error { return turn.Await(ctx) }})
	if err != nil {
		return err
	}
	m.front.Store(&facade{Handler: s.routes(), leads: true})
	defer m.front.Store(m.still)
	m.log.Info("process leads the zone", "token", turn.Hold().Token)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Run(ctx) })
	g.Go(func() error { return m.announce(ctx, s) })
	g.Go(func() error { return m.lookAgain(ctx, s) })
	return g.Wait()
}

// announce tells the other processes where exports are, and how much room there is.
func (m *Member) announce(ctx context.Context, s *Server) error {
	l := leader{URL: m.url(), NBD: s.exportAddress(), ISCSI: s.targetAddress()}
	for said := false; ; said = true {
		if said { // first where it is, whatever stores answer
			l.Room = s.leadersRoom(ctx)
		}
		text, err := json.Marshal(l)
		if err != nil {
			return err
		}
		s.turn.Say(string(text))
		if !said {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(m.cfg.Process.Lease / 2):
		}
	}
}

// leadersRoom is what others are told of the stores, by their names: they see that one
// has none which does not answer.
func (s *Server) leadersRoom(ctx context.Context) map[string]driver.Capacity {
	ask, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	all := map[string]driver.Capacity{}
	for backend, room := range s.stores.Rooms(ask) {
		if b, ok := s.stores.Backend(backend); ok && room.Err == nil {
			all[b.Store] = room.Capacity
		}
	}
	return all
}

// wholeLook is how many looks at what was asked for there are until one at all.
const wholeLook = 10

// lookAgain has those exports looked at that another process wants to be, and all of
// them when one has died or fallen silent, which may not have asked any more. It
// looks at all now and then too, for who could not know that he had to ask: the
// answer to what he wrote was lost.
func (m *Member) lookAgain(ctx context.Context, s *Server) error {
	l := &looks{m: m, s: s, begun: map[string]int64{}}
	defer l.answers.Wait()
	ticks, look := wholeLook, time.NewTicker(m.cfg.Process.Lease/3)
	defer look.Stop()
	for {
		stirred := m.catalog.Stirred()
		err := l.once(ctx, ticks >= wholeLook)
		switch {
		case err == nil:
			if ticks >= wholeLook {
				ticks = 0
			}
		case ctx.Err() == nil:
			m.log.Warn("exports can't be looked at again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-stirred:
		case <-look.C:
			ticks++
		}
	}
}

// looks are those of a process while it leads. A look itself waits for the catalog
// only. What it ends may be held up by a store that hangs, so each of what was asked
// for is waited for and answered by itself.
type looks struct {
	m       *Member
	s       *Server
	live    []string // the processes, as they were last seen
	answers sync.WaitGroup

	mu    sync.Mutex
	begun map[string]int64 // what waits to be answered, and the last number of it; guarded by mu
}

// once looks at what was asked for since it was last looked at, and at all where all is
// set or one of the processes that were live is no more.
func (l *looks) once(ctx context.Context, all bool) error {
	var live []string
	var asks []catalog.DutyAsk
	err := l.m.catalog.View(ctx, func(tx *catalog.Tx) error {
		live, asks = nil, nil
		processes, err := tx.Processes()
		if err != nil {
			return err
		}
		for _, p := range processes {
			if p.Live {
				live = append(live, p.ID)
			}
		}
		d, err := tx.Duty(leadDuty)
		if err != nil || d.Done >= d.Asked {
			return err
		}
		asks, err = tx.DutyAsks(leadDuty)
		return err
	})
	if err != nil {
		return err
	}
	asks = slices.DeleteFunc(asks, l.looked)
	all = all || slices.ContainsFunc(l.live, func(id string) bool { return !slices.Contains(live, id) })
	var errs []error
	if all {
		_, err := l.s.control.LookAgain(ctx, true)
		errs = append(errs, err)
	}
	for _, a := range asks {
		errs = append(errs, l.look(ctx, a))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	l.live = live
	return nil
}

// looked reports whether there was a look after something was asked for.
func (l *looks) looked(a catalog.DutyAsk) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun[a.About] >= a.Asked
}

// look looks at what was asked for, and has it answered when what it ends has ended.
// What an earlier look at the same still waits for is among that, so that it is answered
// whenever it was asked before.
func (l *looks) look(ctx context.Context, a catalog.DutyAsk) error {
	ended, err := l.s.control.LookAgain(ctx, a.About == "", a.About)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.begun[a.About] = a.Asked
	l.mu.Unlock()
	l.answers.Go(func() {
		ended()
		err := l.m.catalog.Update(ctx, func(tx *catalog.Tx) error {
			return tx.AnswerDuty(l.s.turn.Hold(), a.About, a.Asked)
		})
		if err != nil && ctx.Err() == nil { // it is looked at once more
			l.m.log.Warn("a look at exports can't be answered", "err", err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.begun[a.About] == a.Asked {
			delete(l.begun, a.About)
		}
	})
	return nil
}

// askLead has the process that leads look at some of its exports again, and returns
// when no host can use them any more but as the catalog, as it is now, allows. Whoever
// called it then says that a path was taken back. So it returns for one of these:
//
//   - Who leads has looked at what this asks about (DutyAnswered). That has waited for
//     what was under way there, and for nothing else that was asked.
//   - Nobody leads (no Holder). The lead is given back when all exports have ended, or
//     taken from a process that is known to be dead.
//   - Another process leads (Token). It took the lead when the lease was over by the
//     database's clock; who had it knew that before by its own, and since then neither
//     begins a use of an export nor answers one that was under way (Turn.Await). What
//     it had begun to write to a shared store is done, or the kernel has killed it
//     (Turn.Enter). What it still writes to an embedded one is there before anybody else
//     has that open.
//
// The end of a lease is none of them: until another one takes the lead, who has it may
// renew it and serve its exports on. Nor is it the silence of the database, nor that
// time goes by: who leads waits for a write that is under way on a store which hangs,
// for as long as a zone of one process would. Nobody waits for a lead that is dead: this
// process, too, takes the lead when the lease is over, and gives it back if it can't
// open the stores.
func (m *Member) askLead(about ...string) {
	slow := time.AfterFunc(2*m.cfg.Process.Lease, func() {
		m.log.Warn("requests wait until the process that leads has looked at its exports, or another one leads")
	})
	defer slow.Stop()
	var asked catalog.Duty
	for known := false; ; {
		select {
		case <-m.gone: // so are the connections on which anybody waits for an answer
			return
		default:
		}
		stirred := m.catalog.Stirred()
		if !known {
			d, err := m.ask(context.Background(), about...)
			asked, known = d, err == nil
		}
		if known && (asked.Holder == "" || m.answered(asked, about)) {
			return
		}
		select {
		case <-m.gone:
			return
		case <-stirred:
		case <-time.After(m.cfg.Process.Lease / 20):
		}
	}
}

// answered reports whether what was asked is answered; not while nobody can tell.
func (m *Member) answered(asked catalog.Duty, about []string) (yes bool) {
	err := m.catalog.View(context.Background(), func(tx *catalog.Tx) (err error) {
		yes, err = tx.DutyAnswered(asked, about...)
		return err
	})
	return yes && err == nil
}

func (m *Member) ask(ctx context.Context, about ...string) (d catalog.Duty, err error) {
	err = m.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		d, err = tx.AskDuty(leadDuty, about...)
		return err
	})
	return d, err
}

// owe has settle ask for a look at all exports as soon as the catalog answers.
func (m *Member) owe() { m.owes.Store(true) }

// settle has all exports looked at when nobody knows whether some had to be.
func (m *Member) settle(ctx context.Context) {
	if !m.owes.Swap(false) {
		return
	}
	if _, err := m.ask(ctx); err != nil {
		m.owe()
	}
}

// watch sees who leads, until ctx ends.
func (m *Member) watch(ctx context.Context) error {
	for {
		stirred := m.catalog.Stirred()
		var d catalog.Duty
		err := m.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			d, err = tx.Duty(leadDuty)
			return err
		})
		if err == nil {
			m.see(d)
			m.settle(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-stirred:
		case <-time.After(m.cfg.Process.Lease / 10):
		}
	}
}

// see notes who leads. Where exports were last is kept until they are elsewhere.
func (m *Member) see(d catalog.Duty) {
	l := *m.seen.Load()
	l.live = d.Live
	if d.Said != "" {
		var now leader
		if err := json.Unmarshal([]byte(d.Said), &now); err != nil {
			m.log.Error("what the process that leads says is unreadable", "err", err)
			return
		}
		l, l.live = now, d.Live
	} else {
		l.URL = "" // nobody leads, or who does is not ready
	}
	m.seen.Store(&l)
}

// room is the capacity of a store that the process which leads has open.
func (m *Member) room(_ context.Context, store string) (driver.Capacity, error) {
	l := m.seen.Load()
	c, ok := l.Room[store]
	if !ok || !l.live {
		return driver.Capacity{}, block.Errorf(block.Unavailable, "No process of the zone has store %s open.", store)
	}
	return c, nil
}

// exportAddress is where hosts reach exports: where they were last seen, or where
// this process would serve them.
func (m *Member) exportAddress() string {
	if l := m.seen.Load(); l.NBD != "" {
		return l.NBD
	}
	return m.configured(m.cfg.Exports.NBD)
}

func (m *Member) targetAddress() string {
	if l := m.seen.Load(); l.ISCSI != "" {
		return l.ISCSI
	}
	return m.configured(m.cfg.Exports.ISCSI)
}

func (m *Member) configured(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "0" {
		return ""
	}
	if m.cfg.Exports.PublicHost != "" {
		host = m.cfg.Exports.PublicHost
	}
	return net.JoinHostPort(host, port)
}

// errOther is for a store that lies with another process.
func errOther(c StoreConfig) error {
	return block.Errorf(block.Conflict, "store %s: the directory %s is not the one that the zone has used until now; "+
		"only a process that has that one can lead the zone", c.Name, c.Dir)
}
