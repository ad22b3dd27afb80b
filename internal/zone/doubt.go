package zone

import (
	"context"
	"time"

	"kvol/internal/catalog"
)

// doubtPause is how long after exports could not be looked at they are again.
const doubtPause = time.Second

// doubts has a token when there was a commit of which nobody knows whether it was
// carried out. Whoever made it was told that it failed, and did not end the exports
// that it was to end; asked again, he finds nothing that is to be ended.
type doubts chan struct{}

func newDoubts() doubts { return make(doubts, 1) }

// note may be called by anybody, and does not wait.
func (d doubts) note() {
	select {
	case d <- struct{}{}:
	default: // a token is waiting already
	}
}

// lookAfterDoubts looks at all exports after each doubt, until ctx ends. Where several
// processes serve the zone, Member.owe has the one that leads do it.
func (s *Server) lookAfterDoubts(ctx context.Context) {
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.doubts:
		}
		err := s.lookAtAll(ctx)
		if err == nil || ctx.Err() != nil {
			said = false
			continue
		}
		if !said { // once until it can be done
			s.log.Warn("exports can't be looked at again", "err", err)
			said = true
		}
		s.doubts.note()
		select {
		case <-ctx.Done():
			return
		case <-time.After(doubtPause):
		}
	}
}

// lookAtAll ends the exports that the catalog, as it is after all doubts, does not
// have. The database may still be at work on a commit whose connection broke. It
// keeps the right to change the catalog until it is through, so that an Update that
// has begun comes after it.
func (s *Server) lookAtAll(ctx context.Context) error {
	if err := s.catalog.Update(ctx, func(*catalog.Tx) error { return nil }); err != nil {
		return err
	}
	_, err := s.control.LookAgain(ctx, true) // nobody is told when what is under way has ended
	return err
}
