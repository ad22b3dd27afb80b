package dr

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"kvol/internal/api"
	"kvol/internal/block"
)

// What of refused requests goes to the audit log. A flood of them must not fill
// it: of those without a valid token, which anybody may send, and of all others
// there are so many at once at most, and then one in so long a time. How many
// were left out is told by the next that is written.
const (
	strangersBurst, strangersEvery = 20, time.Minute
	refusedBurst, refusedEvery     = 100, 6 * time.Second

	maxRefusedBody = 2 << 10 // bytes of a request that are kept
	maxRefusedPath = 512
)

// refusals are how many refused requests may still be written down. Its methods
// may be called by many at once.
type refusals struct {
	allowed *rate.Limiter
	now     func() time.Time
	mu      sync.Mutex
	left    int // out since the last that was written; guarded by mu
}

func newRefusals(burst int, every time.Duration, now func() time.Time) *refusals {
	return &refusals{allowed: rate.NewLimiter(rate.Every(every), burst), now: now}
}

// take says whether one more may be written, and how many were left out before.
func (r *refusals) take() (before int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.allowed.AllowN(r.now(), 1) {
		r.left++
		return 0, false
	}
	before, r.left = r.left, 0
	return before, true
}

// noted has the audit log tell of a request that is refused: always where it
// would change something, else where the caller lacks the right. What succeeds
// is noted in the transaction of the change.
func (s *Server) noted(
	changes bool,
	fn func(*http.Request, block.Caller) (any, error),
) func(*http.Request, block.Caller) (any, error) {
	return func(r *http.Request, c block.Caller) (any, error) {
		var asked bytes.Buffer
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, &limited{&asked, maxRefusedBody}), r.Body}
		out, err := fn(r, c)
		if err != nil && (changes || block.Is(err, block.Forbidden)) {
			s.noteRefused(r, c, asked.String(), err)
		}
		return out, err
	}
}

// noteRefused writes down that a request was refused. The caller is empty where
// nobody knows who asked.
func (s *Server) noteRefused(r *http.Request, c block.Caller, asked string, why error) {
	of := s.refused
	if block.Is(why, block.Unauthorized) {
		of = s.strangers
	}
	before, ok := of.take()
	if !ok {
		return
	}
	message, ok := block.UserMessage(why)
	if !ok {
		message = "a fault of the zone"
	}
	if before > 0 {
		message += fmt.Sprintf(" (%d more like it were not written down)", before)
	}
	path := strings.ToValidUTF8(r.URL.Path[:min(len(r.URL.Path), maxRefusedPath)], "")
	remote, _, _ := net.SplitHostPort(r.RemoteAddr) // "" where it is no address
	a := block.Audit{User: string(c.User), Remote: remote, Call: "refused " + r.Method + " " + path, Params: asked,
		Code: statusOf(why), Outcome: message}
	if of == s.strangers {
		a.User = "anonymous"
	}
	err := s.cfg.Service.Audit(r.Context(), a)
	if err != nil {
		s.cfg.Log.Error("a refused request could not be written to the audit log", "path", path,
			"request", api.RequestID(r.Context()), "err", err)
	}
}

// limited keeps the beginning of what is written.
type limited struct {
	to   *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(l.left, len(p))
	l.left -= n
	l.to.Write(p[:n])
	return len(p), nil
}
