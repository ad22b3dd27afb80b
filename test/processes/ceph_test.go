package processes

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"kvol/internal/client"
	"kvol/test/ceph"
	"kvol/test/postgres"
)

// sharedStore: a store that any process can open is taken over from a process
// that stands still as from one that is killed. The one that goes on after its lease
// was taken acknowledges nothing to hosts, changes nothing, and ends.
func sharedStore(t *testing.T, server *postgres.Server) {
	cluster := ceph.Start(t)
	cluster.Run(t, "rbd", "namespace", "create", "rbd/zone")
	z := newZoneOf(t, server, plan{lease: "10s", process: unguarded,
		store: fmt.Sprintf("{name: main, driver: rbd, rbd: {conf: %s, namespace: zone}}", cluster.Conf())}, "a", "b")
	leads, others := z.leader()
	other := others[0]
	volume := z.make(other, "one")
	c := z.open(other, volume)
	defer c.Close()
	if _, err := c.WriteAt(pattern(1), 0); err != nil {
		t.Fatal(err)
	}

	leads.signal(syscall.SIGSTOP)
	s := z.login(other.url, "alice")
	waits, err := s.CreateVolume(t.Context(), client.NewVolume{Name: "two", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { // reaches the process that is stopped, and is heard when it goes on
		_, err := c.WriteAt(pattern(2), 0)
		answered <- err
	}()
	z.available(s, waits.ID) // by the other process
	z.holds(other, volume, pattern(1))
	d := z.open(other, volume)
	defer d.Close()
	if _, err := d.WriteAt(pattern(3), 0); err != nil {
		t.Fatal(err)
	}
	before := z.state()

	leads.signal(syscall.SIGCONT)
	if err := leads.awaitEnd(); err == nil {
		t.Error("a process whose work was taken over ended as if it was asked to")
	}
	if err := <-answered; err == nil {
		t.Error("the process that was stopped acknowledged a write")
	}
	got := make([]byte, len(pattern(3)))
	if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, pattern(3)) {
		t.Errorf("what was written after the takeover is gone: %v", err)
	}
	if after := z.state(); after != before {
		t.Errorf("the catalog was\n%s\nand is\n%s", before, after)
	}

	other.kill()
	leads.start()
	leads.awaitHealth()
	z.holds(leads, volume, pattern(3))
}

// state is what the catalog says of volumes, jobs and connections.
func (z *zone) state() (text string) {
	z.t.Helper()
	conn, err := pgx.Connect(z.t.Context(), z.database)
	if err != nil {
		z.t.Fatal(err)
	}
	defer conn.Close(z.t.Context())
	for _, table := range []string{"volumes", "jobs", "connections"} {
		var rows string
		err := conn.QueryRow(z.t.Context(), "SELECT string_agg(r::text, E'\\n' ORDER BY id) FROM "+table+" AS r").Scan(&rows)
		if err != nil {
			z.t.Fatal(err)
		}
		text += table + "\n" + rows + "\n"
	}
	return text
}
