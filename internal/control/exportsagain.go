package control

import (
	"context"
	"errors"
	"slices"

	"kvol/internal/block"
)

// ofLimits stands for the limits of all exports among what is to be looked at.
const ofLimits = "limits"

// LookAgain has exports that are open looked at again, and ends those that the
// catalog says should not be, as if what it says had been asked of this process. A
// zone of several processes serves its exports in one, and requests that end them
// come to any. Those of the volumes and connections that are named are looked at,
// with all every one. It costs the catalog nothing for others. It does not wait for
// uses that are under way, which a store that hangs can hold up without end: ended
// does, and returns when no write is under way that should not be.
func (s *Service) LookAgain(ctx context.Context, all bool, about ...string) (ended func(), err error) {
	e := s.exports
	var errs []error
	var ending []<-chan struct{}
	for _, x := range e.meant(all, about) {
		if x.ends.Load() { // an earlier look's, which this one then answers for as well
			ending = append(ending, x.ending())
			continue
		}
		v, conn, err := e.lookUp(ctx, x.connection)
		if err == nil && v.ID == x.volume {
			x.need(e.s.leasesOf(v))
		}
		switch {
		case block.Is(err, block.NotFound):
			ending = append(ending, x.ending())
		case err != nil:
			errs = append(errs, err)
		case v.ID != x.volume, exportedReadOnly(v, conn) && x.mayWrite() && x.snapshot == "":
			ending = append(ending, x.ending())
		}
	}
	if all || slices.Contains(about, ofLimits) {
		errs = append(errs, e.retune(ctx))
	}
	return func() {
		for _, over := range ending {
			<-over
		}
	}, errors.Join(errs...)
}

// meant are the open exports of some volumes and connections, or all.
func (e *Exports) meant(all bool, about []string) (found []*exported) {
	named := map[string]bool{}
	for _, one := range about {
		named[one] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for x := range e.open {
		if all || named[x.connection] || named[string(x.volume)] {
			found = append(found, x)
		}
	}
	return found
}

// tell lets the process that serves the zone's exports look at some of them again,
// where that is another one, and waits until it has.
func (e *Exports) tell(about ...string) {
	if e.s.cfg.Elsewhere != nil && len(about) > 0 {
		e.s.cfg.Elsewhere(about...)
	}
}

// mayServe waits until this process is sure that no other one serves the zone's
// exports in its place, and is an error if one does.
func (x *exported) mayServe() error {
	if x.exports == nil || x.exports.s.cfg.Leash == nil {
		return nil
	}
	return block.Wrap(block.Unavailable, x.exports.s.cfg.Leash(),
		"Volume %s is served by another process of the zone.", x.volume)
}
