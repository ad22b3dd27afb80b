package processes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/test/port"
	"kvol/test/postgres"
)

// separate is what runs a program among processes of its own, as on another machine:
// those of the zone can't see there that one of them is dead.
var separate = []string{"unshare", "--pid", "--fork", "--kill-child"}

// apart makes a program that is the binary, run apart from the other processes; ok
// is false where the machine does not allow it.
func apart(t *testing.T, dir string) (path string, ok bool) {
	t.Helper()
	if err := exec.CommandContext(t.Context(), separate[0], append(separate[1:], "true")...).Run(); err != nil {
		t.Logf("processes can't be kept apart here, so that one's death is seen at once: %v", err)
		return binary, false
	}
	path = filepath.Join(dir, "apart")
	text := "#!/bin/sh\nexec"
	for _, word := range separate {
		text += " " + word
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, "%s '%s' \"$@\"\n", text, binary), 0o700); err != nil {
		t.Fatal(err)
	}
	return path, true
}

// lead is what the catalog says of the duty of the process that leads.
type lead struct {
	holder string
	token  int64
	ends   time.Time
}

func (z *zone) lead() (d lead) {
	z.t.Helper()
	conn, err := pgx.Connect(z.t.Context(), z.database)
	if err != nil {
		z.t.Fatal(err)
	}
	defer conn.Close(z.t.Context())
	var micros int64
	err = conn.QueryRow(z.t.Context(), "SELECT holder, token, ends_at FROM duties WHERE name = 'lead'").Scan(&d.holder,
		&d.token, &micros)
	if err != nil {
		z.t.Fatal(err)
	}
	d.ends = time.UnixMicro(micros)
	return d
}

// stall is the longest time in which a count did not rise.
type stall struct{ nanoseconds atomic.Int64 }

func (s *stall) String() string {
	return time.Duration(s.nanoseconds.Load()).Round(time.Second / 100).String()
}

// watch looks at a count until ctx ends.
func (s *stall) watch(ctx context.Context, count *atomic.Int64) {
	before, since := count.Load(), time.Now()
	for ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond) // between two looks
		now := time.Now()
		s.nanoseconds.Store(max(s.nanoseconds.Load(), int64(now.Sub(since))))
		if n := count.Load(); n != before {
			before, since = n, now
		}
	}
}

// follower is a host that writes to a volume, one write after another, and connects
// again by way of the proxy when its path breaks.
type follower struct {
	sent, acknowledged, paths atomic.Int64
}

func (f *follower) run(ctx context.Context, s *client.Session, volume string) {
	for ctx.Err() == nil {
		info, err := s.Connect(ctx, volume, map[string]any{"host": "h"})
		var c *nbd.Conn
		if err == nil {
			c, err = nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // between two tries
			continue
		}
		f.paths.Add(1)
		for ctx.Err() == nil {
			n := f.sent.Add(1)
			if _, err := c.WriteAt(last(n), 0); err != nil {
				break
			}
			f.acknowledged.Store(n)
		}
		_ = c.Close() // it may be broken
	}
}

// busy is all that goes on while processes are killed, and how long each kind of it
// stood still at most.
type busy struct {
	lives, beside, asked   *atomic.Int64 // by way of the proxy, of the other process, and of requests
	host                   follower
	jobs, requests, writes stall
	cut                    atomic.Int64 // requests that the dead process had
}

// begin lets clients and a host work; stop ends that, and waits for it.
func (z *zone) begin(url string, other *process, volume string) (b *busy, stop func()) {
	z.t.Helper()
	ctx, cancel := context.WithCancel(z.t.Context())
	b = &busy{asked: &atomic.Int64{}}
	failed := func(err error) {
		// The proxy answers with 502 for a process that died with the request, or breaks
		// off what that had begun to say.
		if e := (*client.APIError)(nil); errors.As(err, &e) && e.Status != http.StatusBadGateway {
			z.t.Errorf("a request behind the proxy failed: %v", err)
		}
		b.cut.Add(1)
	}
	var endLives, endBeside func()
	b.lives, endLives = z.load(ctx, url, failed)
	b.beside, endBeside = z.load(ctx, other.url, func(err error) { z.t.Errorf("a request of the other process: %v", err) })
	asks, host := z.login(url, "alice"), z.login(url, "alice")
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			if _, err := asks.Volume(ctx, volume); err == nil {
				b.asked.Add(1)
			} else if ctx.Err() == nil {
				failed(err)
			}
			time.Sleep(10 * time.Millisecond) // between two questions
		}
	})
	all.Go(func() { b.host.run(ctx, host, volume) })
	all.Go(func() { b.jobs.watch(ctx, b.beside) })
	all.Go(func() { b.requests.watch(ctx, b.asked) })
	all.Go(func() { b.writes.watch(ctx, &b.host.acknowledged) })
	return b, sync.OnceFunc(func() {
		cancel()
		all.Wait()
		endLives()
		endBeside()
	})
}

// goesOn waits until there is some progress of each kind.
func (z *zone) goesOn(b *busy) {
	z.t.Helper()
	z.awaitRounds(&b.host.acknowledged, 3)
	z.awaitRounds(b.asked, 3)
	z.awaitRounds(b.lives, 3)
	z.awaitRounds(b.beside, 3)
}

// killed: the process that leads is killed in the midst of work, where nobody can see
// that, and then one that does not lead. What the dead process does not do is taken
// over when its lease is over, once, and not before. Meanwhile every request is
// answered but those that it had. Nothing that was answered is lost, and nothing is
// left under way. How long each kind of work stood still is in the log.
func killed(t *testing.T, server *postgres.Server) {
	const lease = 10 * time.Second
	z := emptyZone(t, "mitaka1", server)
	path, hidden := apart(t, z.dir)
	for i, address := range port.Addresses(t, 2) {
		z.add([]string{"a", "b"}[i], plan{lease: lease.String(), store: embedded, exports: fmt.Sprintf("nbd: %q", address),
			program: path})
	}
	z.start()
	leads, others := z.leader()
	other := others[0]
	url, view := haproxy(t, z)
	for _, p := range z.processes {
		z.awaitUp(view, p)
	}
	if err := z.login(other.url, "root").SetQuotas(t.Context(), blue, map[string]int64{"volumes": -1,
		"gigabytes": -1}); err != nil { // volumes stay whose client was cut off
		t.Fatal(err)
	}
	volume := z.make(other, "kept")
	b, stop := z.begin(url, other, volume)
	defer stop()
	z.goesOn(b)

	leads.kill()
	dead := z.lead()
	z.await("another process leads", func() error {
		switch now := z.lead(); {
		case now.holder == dead.holder:
			return errors.New("nobody else does")
		case now.token != dead.token+1:
			t.Fatalf("the lead was taken over %d times", now.token-dead.token)
		case hidden && time.Now().Before(dead.ends):
			t.Fatal("the lead was taken over before the lease was over")
		}
		return nil
	})
	z.goesOn(b)
	t.Logf(
		"with a lease of %s the longest time without any progress was: of requests %s, of jobs %s, of a host's writes %s",
		lease,
		&b.requests,
		&b.jobs,
		&b.writes,
	)

	leads.start()
	leads.awaitHealth()
	z.awaitUp(view, leads)
	paths := b.host.paths.Load()
	z.goesOn(b)
	leads.kill() // which leads no more
	z.goesOn(b)
	if n := b.host.paths.Load() - paths; n != 0 {
		t.Errorf("a host lost its path %d times though the process that leads lives", n)
	}
	stop()
	if now := z.lead(); now.token != dead.token+1 {
		t.Errorf("the lead was taken over %d times", now.token-dead.token)
	}
	z.holds(other, volume, last(b.host.acknowledged.Load()))
	z.settled(other)
	t.Logf("%d and %d volumes were made and deleted; the dead processes had %d requests", b.lives.Load(), b.beside.Load(),
		b.cut.Load())
}

// settled waits until every volume is available or gone.
func (z *zone) settled(p *process) {
	z.t.Helper()
	s := z.login(p.url, "alice")
	z.await("every volume is settled", func() error {
		all, err := s.Volumes(z.t.Context(), false)
		for _, v := range all {
			if v.Status != "available" {
				err = errors.Join(err, fmt.Errorf("volume %s is %s", v.ID, v.Status))
			}
		}
		return err
	})
}
