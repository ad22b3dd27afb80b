package processes

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
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

// TestTakeover: requests are answered by every process, and what they ask for is
// done by the one that leads; when that is killed, the other one goes on with all
// of it, exports too.
func TestTakeover(t *testing.T) {
	z := newZone(t, "10s", embedded, "a", "b")
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
		t.Errorf("process %s leads", now.name)
	}

	leads.start()
	leads.awaitHealth()
	z.holds(leads, volume, want) // it says where exports are now
	if now, rest := z.leader(); now != other || len(rest) != 1 {
		t.Errorf("process %s leads beside %d", now.name, len(rest))
	}
}

// TestDetachElsewhere: a host's path that is taken back by a request to one process
// ends before the answer, though another one serves it.
func TestDetachElsewhere(t *testing.T) {
	z := newZone(t, "10s", embedded, "a", "b")
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

// TestStopped: a process that stands still loses its work, and an embedded store
// that it has open stays its own: the other one says so. When it goes on, it changes
// nothing and ends, and the other one goes on with its work.
func TestStopped(t *testing.T) {
	z := newZone(t, "3s", embedded, "a", "b")
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
		if said := other.log.String(); !strings.Contains(said, "can't lead the zone now") ||
			!strings.Contains(said, "process "+leads.name) {
			return errors.New("it does not say so")
		}
		return nil
	})
	leads.signal(syscall.SIGCONT)
	if err := leads.awaitEnd(); err == nil {
		t.Error("a process whose work was taken over ended as if it was asked to")
	}
	if said := leads.log.String(); !strings.Contains(said, "was silent for too long") {
		t.Error("it does not say why it ended")
	}
	if _, err := c.WriteAt(pattern(5), 0); err == nil {
		t.Error("the stopped process acknowledged a write")
	}
	z.available(s, waits.ID)
	z.holds(other, volume, pattern(4))
}
