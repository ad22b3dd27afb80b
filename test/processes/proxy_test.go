package processes

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/test/port"
	"kvol/test/postgres"
	"kvol/test/program"
)

// proxySettings are haproxy's: its address and the processes' lines. It is the
// example of docs/operating.md.
const proxySettings = `
global
  maxconn 200
defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 120s
  timeout check 10s
  option redispatch
  retries 3
frontend kvol
  bind %s
  default_backend processes
backend processes
  balance roundrobin
  option httpchk GET /healthz
  default-server inter 250ms fall 1 rise 1
%s`

// proxyView has haproxy say at an address what it knows of the processes.
const proxyView = `
frontend view
  bind %s
  stats enable
  stats uri /
`

// haproxyPath is where haproxy is.
func haproxyPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err == nil {
		return path
	}
	path = "/usr/sbin/haproxy"
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatal("haproxy is missing; test/setup.sh installs it")
		}
		t.Skip("SKIPPED: haproxy is not installed")
	}
	return path
}

// haproxy starts it before the zone's processes and returns its URL, and that of
// what it knows of them.
func haproxy(t *testing.T, z *zone) (url, view string) {
	t.Helper()
	var lines strings.Builder
	for _, p := range z.processes {
		fmt.Fprintf(&lines, "  server %s %s check\n", p.Name, strings.TrimPrefix(p.url, "http://"))
	}
	addresses := port.Addresses(t, 2)
	runProxy(t, z, fmt.Sprintf(proxySettings+proxyView, addresses[0], lines.String(), addresses[1]))
	url = "http://" + addresses[0]
	z.await("haproxy answers", func() error {
		answer, err := http.Get(url + "/healthz")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
	return url, "http://" + addresses[1]
}

// runProxy runs haproxy until the test ends.
func runProxy(t *testing.T, z *zone, settings string) {
	t.Helper()
	path := haproxyPath(t)
	config := filepath.Join(z.dir, "haproxy.cfg")
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	said := &program.Logbook{}
	cmd := exec.Command(path, "-db", "-f", config)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	program.Note(t, z.dir, "haproxy", cmd)
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // by the kill
		if t.Failed() {
			t.Logf("haproxy:\n%s", said)
		}
	})
}

// frontSettings are haproxy's for what is no HTTP: it connects to whichever process
// listens. It is the example of docs/operating.md.
const frontSettings = `
global
  maxconn 200
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  option redispatch
  retries 3
`

// tcpProxy starts haproxy before addresses of up to three processes each.
func tcpProxy(t *testing.T, z *zone, fronts ...*front) {
	t.Helper()
	var text strings.Builder
	text.WriteString(frontSettings)
	for _, f := range fronts {
		fmt.Fprintf(&text, "listen %s\n  bind %s\n  default-server check inter 250ms fall 1 rise 1 "+
			"on-marked-down shutdown-sessions\n", f.name, f.address)
		for n, name := range []string{"a", "b", "c"} {
			fmt.Fprintf(&text, "  server %s %s\n", name, f.behind(n))
		}
	}
	runProxy(t, z, text.String())
}

// awaitUp waits until haproxy gives a process requests, which it finds out by its
// own questions.
func (z *zone) awaitUp(view string, p *process) {
	z.t.Helper()
	z.await("haproxy knows that process "+p.Name+" is up", func() error {
		answer, err := http.Get(view + "/;csv")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		rows, err := csv.NewReader(answer.Body).ReadAll()
		if err != nil {
			return err
		}
		const name, status = 1, 17 // haproxy's management guide, 9.1
		for _, row := range rows {
			if row[name] == p.Name && row[status] == "UP" {
				return nil
			}
		}
		return errors.New("it is not")
	})
}

// load makes, lists, shows and deletes volumes until ctx ends; failed hears of each
// request that failed.
func (z *zone) load(ctx context.Context, url string, failed func(error)) (rounds *atomic.Int64, wait func()) {
	rounds = &atomic.Int64{}
	var workers sync.WaitGroup
	for i := range 3 {
		s := z.login(url, "alice")
		workers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := round(ctx, s, fmt.Sprintf("load-%d-%d", i, n)); err != nil && ctx.Err() == nil {
					failed(err)
				}
				rounds.Add(1)
			}
		})
	}
	return rounds, workers.Wait
}

// round is a volume's life, as a tenant's client sees it.
func round(ctx context.Context, s *client.Session, name string) error {
	v, err := s.CreateVolume(ctx, client.NewVolume{Name: name, Size: 1})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for v.Status == "creating" {
		if _, err := s.Volumes(ctx, false); err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if v, err = s.Volume(ctx, v.ID); err != nil {
			return fmt.Errorf("show: %w", err)
		}
		time.Sleep(20 * time.Millisecond) // between two questions, as clients do
	}
	if v.Status != "available" {
		return fmt.Errorf("volume %s is %s", v.ID, v.Status)
	}
	if err := s.DeleteVolume(ctx, v.ID); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

// awaitRounds waits until the load has gone on by some volumes.
func (z *zone) awaitRounds(rounds *atomic.Int64, n int64) {
	z.t.Helper()
	until := rounds.Load() + n
	z.await("the load goes on", func() error {
		if rounds.Load() < until {
			return fmt.Errorf("%d of %d rounds", rounds.Load(), until)
		}
		return nil
	})
}

// rollingRestart ends each process of a zone by SIGTERM and starts it again,
// while clients work through haproxy. No request of theirs fails.
func rollingRestart(t *testing.T, server *postgres.Server) {
	z := newZone(t, server, "10s", embedded, "a", "b")
	url, view := haproxy(t, z)
	z.leader()
	for _, p := range z.processes {
		z.awaitUp(view, p)
	}
	ctx, stop := context.WithCancel(t.Context())
	var failures atomic.Int64
	rounds, wait := z.load(ctx, url, func(err error) {
		failures.Add(1)
		t.Errorf("a request failed: %v", err)
	})
	defer func() { stop(); wait() }()
	z.awaitRounds(rounds, 5)
	for range 2 {
		for _, p := range z.processes {
			p.signal(syscall.SIGTERM)
			if err := p.awaitEnd(); err != nil {
				t.Errorf("process %s ended with %v", p.Name, err)
			}
			z.awaitRounds(rounds, 3) // the other one does it all
			p.start()
			p.awaitHealth()
			z.awaitUp(view, p)
			z.awaitRounds(rounds, 3)
		}
	}
	stop()
	wait()
	t.Logf("%d volumes made and deleted during 4 restarts, %d requests failed", rounds.Load(), failures.Load())
}

// TestDatabaseRestart kills PostgreSQL under load and starts it again: requests
// fail with 503 meanwhile and nothing else, and the processes go on by themselves.
func TestDatabaseRestart(t *testing.T) {
	t.Parallel()
	z := newZone(t, postgres.Start(t), "10s", embedded, "a", "b")
	leads, others := z.leader()
	volume := z.make(leads, "kept")
	c := z.open(leads, volume)
	defer c.Close()
	if _, err := c.WriteAt(pattern(6), 0); err != nil {
		t.Fatal(err)
	}
	// Volumes whose life is cut short by a 503 stay.
	if err := z.login(leads.url, "root").SetQuotas(t.Context(), blue, map[string]int64{"volumes": -1,
		"gigabytes": -1}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	rounds, wait := z.load(ctx, others[0].url, func(err error) {
		if err = errors.Unwrap(err); !client.IsStatus(err, http.StatusServiceUnavailable) {
			t.Errorf("a request failed, not with 503: %v", err)
		}
	})
	defer func() { stop(); wait() }()
	z.awaitRounds(rounds, 3)
	for range 2 {
		z.server.Kill()
		z.server.Resume(t)
		z.awaitRounds(rounds, 3)
	}
	stop()
	wait()
	if now, rest := z.leader(); now != leads || len(rest) != 1 {
		t.Errorf("process %s leads beside %d: a restart of the database is no reason", now.Name, len(rest))
	}
	z.holds(others[0], volume, pattern(6))
	z.settled(leads)
}
