package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// What is waited for goes on in its zone, whether that answers or not: a process of it
// is restarted, a proxy has none to ask, a connection breaks. So a wait outlives that
// for some minutes.
const (
	patience = 5 * time.Minute        // without an answer
	pause    = 500 * time.Millisecond // between questions meanwhile
)

// following is a wait for what goes on in a zone. It belongs to one goroutine.
type following struct {
	what  string                          // that goes on, as a sentence begins: "operation 7"
	again func(ctx context.Context) error // logs in anew; nil: there is nothing to do it with
	tell  func(text string)               // hears that nobody answers; nil: nobody wants to know
	limit time.Duration
	pause time.Duration

	since    *time.Timer // fires when patience is over; nil while the zone answers
	loggedIn bool        // anew, and not answered since
}

func (s *Session) following(what string) *following {
	return &following{what: what, again: s.again, tell: s.Tell, limit: patience, pause: pause}
}

// bear is asked about the error of each question, and nil for an answer. It returns nil
// after a while if the question is to be asked again, and else an error: that of an
// answer that means the question, or one which says that what was waited for goes on.
func (f *following) bear(ctx context.Context, err error) error {
	if err == nil {
		f.stop()
		return nil
	}
	if IsStatus(err, http.StatusUnauthorized) && f.again != nil && !f.loggedIn {
		if failed := f.again(ctx); failed == nil {
			f.loggedIn = true
			return nil
		} else if passes(failed) {
			err = failed
		}
	}
	switch {
	case refuses(err):
		f.stop()
		return err
	case ctx.Err() != nil || !passes(err):
		return f.goesOn(err)
	}
	if f.since == nil {
		f.since = time.NewTimer(f.limit)
		if f.tell != nil {
			f.tell(fmt.Sprintf("no answer about %s, which goes on: asking again for %s (%v)", f.what, f.limit, err))
		}
	}
	select {
	case <-f.since.C:
		return f.goesOn(fmt.Errorf("no answer for %s: %w", f.limit, err))
	case <-ctx.Done():
		return f.goesOn(err)
	case <-time.After(f.pause):
		return nil
	}
}

func (f *following) goesOn(err error) error {
	f.stop()
	return fmt.Errorf("%s goes on, but is not waited for any more: %w", f.what, err)
}

// stop ends a time without answers.
func (f *following) stop() {
	f.loggedIn = false
	if f.since != nil {
		f.since.Stop()
		f.since = nil
	}
}

// refuses reports whether an error is the zone's answer to what was asked for. One to a
// token is none.
func refuses(err error) bool {
	var e *APIError
	return errors.As(err, &e) && e.Status < http.StatusInternalServerError && e.Status != http.StatusUnauthorized
}

// passes reports whether an error may be gone when the same is asked once more: nobody
// could be reached, or who was reached has nobody to ask.
func passes(err error) bool {
	var e *APIError
	if errors.As(err, &e) {
		return e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable ||
			e.Status == http.StatusGatewayTimeout
	}
	var connection *url.Error
	return errors.As(err, &connection)
}
