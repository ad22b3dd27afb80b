package processes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/test/postgres"
	"kvol/test/program"
)

// open opens an export of a volume: where the process says that it is.
func (z *zone) open(p *process, id string) *nbd.Conn {
	z.t.Helper()
	var c *nbd.Conn
	z.await("an export of volume "+id+" opens", func() error {
		info, err := z.login(p.url, "alice").Connect(z.t.Context(), id, map[string]any{"host": "h"})
		if err != nil {
			return err
		}
		z.secret(info.Data["export"])
		c, err = nbd.Dial(z.t.Context(), info.NBDURL(), nbd.Options{})
		return err
	})
	return c
}

// holds waits until a volume's beginning can be read, and compares it.
func (z *zone) holds(p *process, id string, want []byte) {
	z.t.Helper()
	c := z.open(p, id)
	defer c.Close()
	got := make([]byte, len(want))
	if _, err := c.ReadAt(got, 0); err != nil {
		z.t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		z.t.Errorf("volume %s does not hold what was written", id)
	}
}

// takeover: requests are answered by every process, and what they ask for is
// done by the one that leads; when that is killed, the other one goes on with all
// of it, exports too.
func takeover(t *testing.T, server *postgres.Server) {
	z := newZone(t, server, "10s", embedded, "a", "b")
	leads, others := z.leader()
	other := others[0]
	volume := z.make(other, "one") // asked of one process, made by the other
	c := z.open(other, volume)
	defer c.Close()
	want := pattern(1)
	if _, err := c.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if out := z.command(other, "root", "processes"); !strings.Contains(out, "lead") || strings.Count(out, "serving") != 2 {
		t.Errorf("kvol processes prints\n%s", out)
	}
	if up := z.schedulers(other); up != 2 {
		t.Errorf("%d schedulers are up, of 2 processes", up)
	}
	// What is known only where the work is done is answered everywhere.
	if stores, err := z.login(other.url, "root").Stores(t.Context()); err != nil || len(stores) != 1 {
		t.Errorf("stores: %+v, %v", stores, err)
	}

	s := z.login(other.url, "alice")
	waits, err := s.CreateVolume(t.Context(), client.NewVolume{Name: "two", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	leads.kill()
	meanwhile, err := s.CreateVolume(t.Context(), client.NewVolume{Name: "three", Size: 1})
	if err != nil {
		t.Fatalf("a request beside a dead process: %v", err)
	}
	z.available(s, waits.ID)
	z.available(s, meanwhile.ID)
	z.holds(other, volume, want)
	if now, _ := z.leader(); now != other {
		t.Errorf("process %s leads", now.Name)
	}

	leads.start()
	leads.awaitHealth()
	z.holds(leads, volume, want) // it says where exports are now
	if now, rest := z.leader(); now != other || len(rest) != 1 {
		t.Errorf("process %s leads beside %d", now.Name, len(rest))
	}
}

// schedulers counts the processes that are up, as Cinder's list of services says.
func (z *zone) schedulers(p *process) (up int) {
	z.t.Helper()
	s := z.login(p.url, "root")
	r, err := http.NewRequestWithContext(z.t.Context(), http.MethodGet,
		p.url+"/v3/"+blue+"/os-services?binary=cinder-scheduler", nil)
	if err != nil {
		z.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", s.Token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		z.t.Fatal(err)
	}
	defer answer.Body.Close()
	var list struct {
		Services []struct {
			Host, State string
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
		z.t.Fatal(err)
	}
	for _, one := range list.Services {
		if one.State == "up" {
			up++
		}
	}
	return up
}

// refused: a process with another key than the zone's, and one that would serve
// the zone alone, say why they don't start.
func refused(t *testing.T, server *postgres.Server) {
	z := newZone(t, server, "10s", embedded, "a")
	for why, change := range map[string][2]string{
		"is not the key of the zone's other processes": {"shared_dir: shared", "shared_dir: other"},
		"another process has the catalog open":         {"process: {name: a,", "#"},
	} {
		text, err := os.ReadFile(z.processes[0].Config)
		if err != nil {
			t.Fatal(err)
		}
		own := &process{Process: program.New(binary, "b", filepath.Join(z.dir, "b.yaml")), z: z}
		changed := strings.NewReplacer(change[0], change[1], "name: a,", "name: b,", "data-a", "data-b",
			strings.TrimPrefix(z.processes[0].url, "http://"), "127.0.0.1:0").Replace(string(text))
		if err := os.WriteFile(own.Config, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		own.start()
		if err := own.awaitEnd(); err == nil || !strings.Contains(own.Log.String(), why) {
			t.Errorf("it ended with %v and said\n%s\nnot %q", err, own.Log, why)
		}
	}
}

// detachElsewhere: a host's path that is taken back by a request to one process
// ends before the answer, though another one serves it.
func detachElsewhere(t *testing.T, server *postgres.Server) {
	z := newZone(t, server, "10s", embedded, "a", "b")
	_, others := z.leader()
	volume := z.make(others[0], "one")
	c := z.open(others[0], volume)
	defer c.Close()
	if _, err := c.WriteAt(pattern(2), 0); err != nil {
		t.Fatal(err)
	}
	err := z.login(others[0].url, "alice").Disconnect(t.Context(), volume, map[string]any{"host": "h"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteAt(pattern(3), 0); err == nil {
		t.Error("an export that was taken back was written to")
	}
	z.holds(others[0], volume, pattern(2))
}

// stoppedIsKilled: a process that stands still for as long as its lease is killed
// by the kernel, so that nothing of it can follow; its store, which no two processes
// may have open, is taken over meanwhile.
func stoppedIsKilled(t *testing.T, server *postgres.Server) {
	z := newZone(
		t,
		server,
		"10s",
		fmt.Sprintf(`{name: main, driver: nfs, dir: %q, nfs: {format: qcow2}}`, t.TempDir()),
		"a",
		"b",
	)
	leads, others := z.leader()
	other := others[0]
	volume := z.make(other, "one")
	c := z.open(other, volume)
	defer c.Close()
	if _, err := c.WriteAt(pattern(1), 0); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for i := range int64(4) { // some are under way when it is stopped
		writers.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.WriteAt(pattern(2), (1+i)<<20); err != nil {
					return
				}
			}
		})
	}
	leads.signal(syscall.SIGSTOP)
	err := leads.awaitEnd() // nobody continues it
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the process that was stopped ended with %v", err)
	}
	writers.Wait()
	if now, _ := z.leader(); now != other {
		t.Errorf("process %s leads", now.Name)
	}
	d := z.open(other, volume)
	defer d.Close()
	for i := range int64(5) {
		if _, err := d.WriteAt(pattern(3), i<<20); err != nil {
			t.Fatal(err)
		}
	}
	leads.start()
	leads.awaitHealth()
	for i := range int64(5) {
		z.has(volume, pattern(3), i<<20)
	}
}

// stopped: a process that stands still loses its work, and an embedded store
// that it has open stays its own: the other one says so. The kernel does not kill it,
// as nobody else can reach the store. When it goes on, it changes nothing and ends,
// and the other one goes on with its work.
func stopped(t *testing.T, server *postgres.Server) {
	z := newZone(t, server, "10s", embedded, "a", "b")
	leads, others := z.leader()
	other := others[0]
	volume := z.make(leads, "one")
	c := z.open(other, volume)
	defer c.Close()
	if _, err := c.WriteAt(pattern(4), 0); err != nil {
		t.Fatal(err)
	}

	leads.signal(syscall.SIGSTOP)
	s := z.login(other.url, "alice")
	waits, err := s.CreateVolume(t.Context(), client.NewVolume{Name: "two", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	z.await("the other process says who has the store", func() error {
		if said := other.Log.String(); !strings.Contains(said, "can't lead the zone now") ||
			!strings.Contains(said, "process "+leads.Name) {
			return errors.New("it does not say so")
		}
		return nil
	})
	leads.signal(syscall.SIGCONT)
	if err := leads.awaitEnd(); err == nil {
		t.Error("a process whose work was taken over ended as if it was asked to")
	}
	if said := leads.Log.String(); !strings.Contains(said, "was silent for too long") {
		t.Error("it does not say why it ended")
	}
	if _, err := c.WriteAt(pattern(5), 0); err == nil {
		t.Error("the stopped process acknowledged a write")
	}
	z.available(s, waits.ID)
	z.holds(other, volume, pattern(4))
}
