package catalog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kvol/internal/block"
	pgserver "kvol/test/postgres"
)

// patient tries until it works, on a machine however busy.
func patient(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("not yet: %s: %v", what, err)
}

// hanging starts a server, and opens a catalog on it alone that is patient for two
// seconds.
func hanging(t *testing.T) (*pgserver.Server, *Catalog) {
	t.Helper()
	server := pgserver.Start(t)
	url := server.Database(t)
	ready, err := Open(t.Context(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := ready.Close(); err != nil {
		t.Fatal(err)
	}
	var c *Catalog
	patient(t, "it opens", func() (err error) {
		c, err = Open(t.Context(), Options{URL: url + "&connect_timeout=2&answer_timeout=5", Alone: true})
		return err
	})
	return server, c
}

// TestServerHangs lets PostgreSQL stand still under load: whatever is asked of the
// catalog fails as unavailable, however many ask, and not one after another; and when
// the server goes on, so does the catalog, as the only one that has it open.
func TestServerHangs(t *testing.T) {
	if onPostgres() {
		t.Skip("it has a server of its own")
	}
	server, c := hanging(t)
	defer c.Close()
	patient(t, "before", func() error { return c.Update(t.Context(), set("before")) })
	server.Stop(t)
	var all sync.WaitGroup
	for i := range 40 * maxReaders { // one after another, they would take half an hour
		all.Go(func() { wantUnavailable(t, "an update", c.Update(t.Context(), set(fmt.Sprint("without", i)))) })
		all.Go(func() { wantUnavailable(t, "a view", c.View(t.Context(), asks)) })
	}
	all.Wait()
	server.Continue(t)
	patient(t, "after", func() error { return c.Update(t.Context(), set("after")) })
	patient(t, "it is read", func() error {
		return c.View(t.Context(), func(tx *Tx) error {
			for _, name := range []string{"before", "after"} {
				if _, ok, err := tx.Setting(name); err != nil || !ok {
					return errors.Join(fmt.Errorf("%s: %v", name, ok), err)
				}
			}
			return nil
		})
	})
}

func asks(tx *Tx) error {
	_, _, err := tx.Setting("before")
	return err
}

func wantUnavailable(t *testing.T, what string, err error) {
	t.Helper()
	if !block.Is(err, block.Unavailable) {
		t.Errorf("%s while the server hangs: %v", what, err)
	}
}

// TestServerHangsInside: the server stands still in the middle of a View and of an
// Update, which end, and so does one that waits to be committed with the latter.
func TestServerHangsInside(t *testing.T) {
	if onPostgres() {
		t.Skip("it has a server of its own")
	}
	server, c := hanging(t)
	defer c.Close()
	reads, stopped := make(chan struct{}), make(chan struct{})
	begun, queued := make(chan struct{}), make(chan struct{})
	stop := sync.OnceFunc(func() { server.Stop(t); close(stopped) })
	var all sync.WaitGroup
	inside := func(what string, run func(context.Context, func(*Tx) error) error, begins, waits chan struct{},
		fn func(*Tx) error) {
		begin := sync.OnceFunc(func() { close(begins) })
		all.Go(func() {
			entered := false
			for !entered { // on a machine however busy
				err := run(t.Context(), func(tx *Tx) error {
					entered = true
					begin()
					<-waits
					return fn(tx)
				})
				if entered {
					wantUnavailable(t, what, err)
				}
			}
		})
		<-begins
	}
	inside("the middle of a view", c.View, reads, stopped, asks)
	inside("the commit of an update", c.Update, begun, queued, set("first"))
	all.Go(func() {
		for stopped := false; !stopped; {
			err := c.Update(t.Context(), func(tx *Tx) error {
				stop()
				stopped = true
				return set("second")(tx)
			})
			if stopped {
				wantUnavailable(t, "the middle of an update", err)
			}
		}
	})
	for waits := 0; waits == 0; time.Sleep(time.Millisecond) {
		c.writer.turn.mu.Lock()
		waits = len(c.writer.turn.queue)
		c.writer.turn.mu.Unlock()
	}
	close(queued)
	all.Wait()
	server.Continue(t)
	patient(t, "after", func() error { return c.Update(t.Context(), set("after")) })
	patient(t, "it is read", func() error { return c.View(t.Context(), asks) })
	wantSet(t, c, map[string]bool{"first": false, "second": false, "after": true})
}

// TestTurn: who gives up his turn leaves no gap, and neither does he to whom it came
// in that very moment.
func TestTurn(t *testing.T) {
	var u turn
	var inside, taken, gone int
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 2000 {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+n)%3 == 0 {
					go cancel()
				}
				err := u.take(ctx)
				cancel()
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					continue
				}
				if inside++; inside != 1 {
					t.Errorf("%d have the turn", inside)
				}
				taken++
				inside--
				if !u.hand() {
					gone++
					u.leave()
				}
			}
		})
	}
	all.Wait()
	if err := u.take(t.Context()); err != nil || len(u.queue) != 0 {
		t.Errorf("after all: %v, %d wait", err, len(u.queue))
	}
	t.Logf("the turn was taken %d times, and left %d times to nobody", taken, gone)
}

// TestDialer: a connection to another machine breaks when nothing is heard of it.
func TestDialer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for query, want := range map[string]int{"": 15000, "?tcp_user_timeout=9000": 9000} {
		config, answer, err := (&postgres{url: "postgres://db.example/kvol" + query}).config()
		if err != nil || answer != answerLimit || config.ConnectTimeout != connectLimit {
			t.Fatalf("an answer within %v, a connection within %v, %v", answer, config.ConnectTimeout, err)
		}
		if given := config.RuntimeParams["tcp_user_timeout"]; given != fmt.Sprint(want) {
			t.Errorf("the server is told %s", given)
		}
		c, err := config.DialFunc(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Control(func(fd uintptr) {
			for option, want := range map[int]int{unix.TCP_USER_TIMEOUT: want, unix.TCP_KEEPIDLE: want / 3000,
				unix.TCP_KEEPINTVL: want / 3000, unix.TCP_KEEPCNT: 3} {
				if got, err := unix.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option); err != nil || got != want {
					t.Errorf("option %d is %d, want %d, %v", option, got, want, err)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range []string{"answer_timeout=0", "answer_timeout=3601", "answer_timeout=1s", "tcp_user_timeout=-1"} {
		if _, _, err := (&postgres{url: "postgres://db.example/kvol?" + query}).config(); !block.Is(err, block.Invalid) {
			t.Errorf("%s: %v", query, err)
		}
	}
}
