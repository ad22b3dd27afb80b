package control

import (
	"context"
	"errors"

	"kvol/internal/block"
)

// LookAgain has all exports that are open looked at again, and ends those that the
// catalog says should not be, as if what it says had been asked of this process. A
// zone of several processes serves its exports in one, and requests that end them
// come to any. It returns when no write is under way that should not be.
func (s *Service) LookAgain(ctx context.Context) error {
	e := s.exports
	e.mu.Lock()
	open := make([]*exported, 0, len(e.open))
	for x := range e.open {
		open = append(open, x)
	}
	e.mu.Unlock()
	var errs []error
	for _, x := range open {
		v, conn, err := e.lookUp(ctx, x.connection)
		switch {
		case block.Is(err, block.NotFound):
			x.revoke()
		case err != nil:
			errs = append(errs, err)
		case v.ID != x.volume, exportedReadOnly(v, conn) && x.mayWrite() && x.snapshot == "":
			x.revoke()
		}
	}
	return errors.Join(append(errs, e.retune(ctx))...)
}

// tell lets the process that serves the zone's exports look at them again, where
// that is another one, and waits until it has.
func (e *Exports) tell() {
	if e.s.cfg.Elsewhere != nil {
		e.s.cfg.Elsewhere()
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
