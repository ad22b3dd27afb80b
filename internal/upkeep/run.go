package upkeep

import (
	"context"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver/logstore"
)

// Kind is what a run does.
type Kind string

// The kinds of run.
const (
	Check Kind = "check" // index against log, counts and bytes
	Scrub Kind = "scrub" // bytes alone
)

// State is how a run stands.
type State string

// The states of a run. It is forgotten when the zone stops.
const (
	Running   State = "running"
	Done      State = "done"
	Cancelled State = "cancelled"
	Failed    State = "failed" // it could not go on; see Run.Error
)

// keepRuns is how many runs of a store are remembered.
const keepRuns = 20

// maxRate is the most that a run may be asked to read in a second, in MiB.
const maxRate = 1 << 20

// Run is a check or a scrub of a store.
type Run struct {
	ID       int64
	Store    string
	Kind     Kind
	State    State
	Rate     int64 // bytes in a second at most; 0: as fast as it goes
	By       string
	Done     int64 // bytes of live data that were read
	Total    int64 // about how many there are; 0 while that is counted
	Found    int   // places that are or were damaged
	Began    time.Time
	Ended    time.Time // zero while it runs
	Error    string    // why it could not go on
	Examined *Examined // what a check went over
}

// run is a Run that changes; what it holds is guarded by Service.mu.
type run struct {
	Run
	cancel    context.CancelFunc
	cancelled bool
	ended     chan struct{}
}

func (s *Service) newest(name string) *Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.runs[name]
	if len(list) == 0 {
		return nil
	}
	r := list[len(list)-1].Run
	return &r
}

// Runs lists the runs of a store that are remembered, the newest first.
func (s *Service) Runs(c block.Caller, name string) ([]Run, error) {
	if _, err := s.store(c, name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Run, 0, len(s.runs[name]))
	for _, r := range slices.Backward(s.runs[name]) {
		all = append(all, r.Run)
	}
	return all, nil
}

func (s *Service) find(c block.Caller, name string, id int64) (*run, error) {
	if _, err := s.store(c, name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs[name] {
		if r.ID == id {
			return r, nil
		}
	}
	return nil, block.Errorf(block.NotFound, "Store %s has no run %d since the zone was started.", name, id)
}

// Look returns a run.
func (s *Service) Look(c block.Caller, name string, id int64) (Run, error) {
	r, err := s.find(c, name, id)
	if err != nil {
		return Run{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.Run, nil
}

// Begin begins a run, at rate MiB a second at most (0: as fast as it goes). One
// store has one run at a time: a second one is a Conflict.
func (s *Service) Begin(c block.Caller, name string, kind Kind, rate int64) (Run, error) {
	store, err := s.store(c, name)
	if err != nil {
		return Run{}, err
	}
	if kind != Check && kind != Scrub {
		return Run{}, block.Errorf(block.Invalid, "A run is a check or a scrub.")
	}
	if rate < 0 || rate > maxRate {
		return Run{}, block.Errorf(block.Invalid, "mib_s must be 0 to %d.", maxRate)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return Run{}, block.Errorf(block.Unavailable, "The zone is stopping.")
	}
	list := s.runs[name]
	if n := len(list); n > 0 && list[n-1].State == Running {
		return Run{}, block.Errorf(block.Conflict, "A %s of store %s is under way: run %d.", list[n-1].Kind, name,
			list[n-1].ID)
	}
	s.last++
	ctx, cancel := context.WithCancel(context.Background()) // not of the request: it goes on after that
	r := &run{Run: Run{ID: s.last, Store: name, Kind: kind, State: Running, Rate: rate << 20, By: c.UserName,
		Began: s.cfg.Now().UTC()}, cancel: cancel, ended: make(chan struct{})}
	if list = append(list, r); len(list) > keepRuns {
		list = list[1:]
	}
	s.runs[name] = list
	s.cfg.Log.Info("a run over a store began", "store", name, "kind", string(kind), "run", r.ID, "user", c.UserName)
	s.running.Go(func() { s.work(ctx, store, r) })
	return r.Run, nil
}

// work does a run to its end.
func (s *Service) work(ctx context.Context, store *logstore.Store, r *run) {
	defer close(r.ended)
	defer r.cancel()
	watch := logstore.Watch{Rate: r.Rate,
		Found: func(logstore.Damage) { s.note(func() { r.Found++ }) },
		Progress: func(done, total int64) {
			s.note(func() { r.Done, r.Total = done, total })
		}}
	var err error
	if r.Kind == Check {
		var done logstore.Examined
		done, err = store.Examine(ctx, watch)
		s.note(func() { r.Examined = &done })
	} else {
		_, err = store.Scrub(ctx, watch)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Ended, r.State = s.cfg.Now().UTC(), Done
	switch {
	case err == nil:
		r.Total = r.Done
	case r.cancelled:
		r.State = Cancelled
	default:
		r.State, r.Error = Failed, "It could not go on; the zone's log says why."
		if message, ok := block.UserMessage(err); ok {
			r.Error = message
		}
	}
	s.cfg.Log.Info("a run over a store ended", "store", r.Store, "kind", string(r.Kind), "run", r.ID,
		"state", string(r.State), "found", r.Found, "err", err)
}

func (s *Service) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Cancel ends a run, and returns it when it has ended. One that ended already
// stays as it is.
func (s *Service) Cancel(ctx context.Context, c block.Caller, name string, id int64) (Run, error) {
	r, err := s.find(c, name, id)
	if err != nil {
		return Run{}, err
	}
	s.note(func() { r.cancelled = true })
	r.cancel()
	select {
	case <-r.ended:
	case <-ctx.Done():
		return Run{}, block.Wrap(block.Unavailable, ctx.Err(), "The run has not ended yet.")
	}
	return s.Look(c, name, id)
}
