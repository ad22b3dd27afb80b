package processes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/test/port"
	"kvol/test/postgres"
)

// host writes to an export all the time, and counts what was acknowledged.
type host struct {
	acknowledged atomic.Int64
	wait         func() // for its end
}

// last is what a host has written at last, of n writes.
func last(n int64) []byte { return pattern(byte(n)) }

func (z *zone) hostOf(ctx context.Context, c *nbd.Conn) *host {
	h := &host{}
	var all sync.WaitGroup
	all.Go(func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			if _, err := c.WriteAt(last(n), 0); err != nil {
				if ctx.Err() == nil {
					z.t.Errorf("write %d failed: %v", n, err)
				}
				return
			}
			h.acknowledged.Store(n)
		}
	})
	h.wait = all.Wait
	return h
}

// awaitWrites waits until a host has written some more.
func (z *zone) awaitWrites(h *host) {
	z.t.Helper()
	until := h.acknowledged.Load() + 3
	z.await("the host writes", func() error {
		if n := h.acknowledged.Load(); n < until {
			return fmt.Errorf("%d of %d writes", n, until)
		}
		return nil
	})
}

// TestDatabaseAway: the database stands still, and then is dead, for longer than the
// lease, while a host writes. Requests are answered with 503; writes wait, as nobody
// knows who leads; and all goes on where it was when the database is back.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	const lease = 10 * time.Second
	z := emptyZone(t, "mitaka1", postgres.Start(t))
	z.database += "&answer_timeout=6&connect_timeout=2"
	for i, address := range port.Addresses(t, 2) {
		z.add([]string{"a", "b"}[i], plan{lease: lease.String(), store: embedded, exports: fmt.Sprintf("nbd: %q", address)})
	}
	z.start()
	leads, others := z.leader()
	volume := z.make(leads, "kept")
	c := z.open(leads, volume)
	ctx, stop := context.WithCancel(t.Context())
	h := z.hostOf(ctx, c)
	defer func() {
		stop()
		c.Close() // a write may be under way that waits for the database
		h.wait()
	}()
	asks := []*client.Session{z.login(leads.url, "alice"), z.login(others[0].url, "alice")}
	for _, outage := range []struct{ begin, end func() }{
		{func() { z.server.Stop(t) }, func() { z.server.Continue(t) }},
		{func() { z.server.Kill() }, func() { z.server.Resume(t) }},
	} {
		z.awaitWrites(h)
		unable := func() int { return strings.Count(leads.Log.String(), "a duty can't be renewed") }
		before := unable()
		outage.begin()
		over := time.After(lease) // it is as long as this
		z.unavailable(asks...)
		z.await("the lease is not renewed", func() error {
			if unable() == before {
				return errors.New("nobody says so")
			}
			return nil
		})
		<-over
		n := h.acknowledged.Load()
		z.unavailable(asks...)
		if more := h.acknowledged.Load(); more != n {
			t.Errorf("%d writes were acknowledged when the lease was over", more-n)
		}
		outage.end()
	}
	z.awaitWrites(h)
	stop()
	h.wait()
	if now, _ := z.leader(); now != leads {
		t.Errorf("process %s leads: an outage of the database is no reason", now.Name)
	}
	z.holds(others[0], volume, last(h.acknowledged.Load()))
	z.make(others[0], "after")
}

// unavailable wants requests to be answered with 503, in whatever time.
func (z *zone) unavailable(asks ...*client.Session) {
	z.t.Helper()
	var all sync.WaitGroup
	for _, s := range asks {
		all.Go(func() {
			if _, err := s.Volumes(z.t.Context(), false); !client.IsStatus(err, http.StatusServiceUnavailable) {
				z.t.Errorf("a list while the database is away: %v", err)
			}
		})
		all.Go(func() {
			_, err := s.CreateVolume(z.t.Context(), client.NewVolume{Name: "never", Size: 1})
			if !client.IsStatus(err, http.StatusServiceUnavailable) {
				z.t.Errorf("a volume is made while the database is away: %v", err)
			}
		})
	}
	all.Wait()
}
