package processes

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/test/port"
	"kvol/test/postgres"
)

// protecting is what the processes of a zone know of the other one: the listener for
// other zones, the other's name and address, and the number of the protection.
const protecting = `
index: %[5]d
isolated_start: any
peer: {listen: "%[1]s", cert: peer.crt, key: peer.key, ca: peer-ca.crt}
peers: [{zone: %[2]s, url: "https://%[3]s"}]
protections: [{seq: %[4]d, volume_type: ssd, destination: %[2]s, backup_backend: {name: backup}, interval: 200ms}]
`

// newPair starts two zones that protect each other, of two processes each. Before the
// listeners for other zones is a proxy, as docs/operating.md has it.
func newPair(t *testing.T, server *postgres.Server) (left, right *zone) {
	t.Helper()
	ca, certificate := authority(t)
	zones := []*zone{emptyZone(t, "left", server), emptyZone(t, "right", server)}
	fronts := []*front{{name: "left"}, {name: "right"}}
	for _, f := range fronts {
		f.choose(t)
	}
	for i, z := range zones {
		issued, err := ca.IssueZone(block.Zone(z.name), time.Now(), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string][]byte{"peer-ca.crt": certificate, "peer.crt": issued.Cert,
			"peer.key": issued.Key} {
			if err := os.WriteFile(filepath.Join(z.dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		own := block.NewID()
		for n, name := range []string{"a", "b"} {
			z.add(name, plan{lease: "10s", store: embedded, typeID: own,
				exports: fmt.Sprintf("nbd: %q", port.Address(t)),
				more: fmt.Sprintf(protecting, fronts[i].behind(n), zones[1-i].name, fronts[1-i].address,
					2*i+2, i+1)})
		}
	}
	tcpProxy(t, zones[0], fronts...)
	for _, z := range zones {
		z.start()
	}
	return zones[0], zones[1]
}

// front is an address of a zone for those that speak TCP. Its processes listen at
// the same port of other addresses, and only the one that leads.
type front struct {
	name    string
	address string
	port    string
}

// choose finds a port for it.
func (f *front) choose(t *testing.T) {
	t.Helper()
	f.address = port.Address(t)
	var err error
	if _, f.port, err = net.SplitHostPort(f.address); err != nil {
		t.Fatal(err)
	}
}

// behind is where the n-th process listens.
func (f *front) behind(n int) string { return net.JoinHostPort(fmt.Sprintf("127.0.0.%d", n+2), f.port) }

// link waits until what the zone says of a volume's replication fits.
func (z *zone) link(volume, what string, fits func(client.Link) error) (found client.Link) {
	z.t.Helper()
	p := z.running()
	s := z.login(p.url, "root")
	z.await(what, func() error {
		all, err := s.Links(z.t.Context())
		if err != nil {
			return err
		}
		for _, l := range all {
			if l.VolumeID == volume {
				found = l
				return fits(l)
			}
		}
		return errors.New("it is not replicated")
	})
	return found
}

// replicated waits until the other zone has all that was written before the call.
func (z *zone) replicated(volume string) client.Link {
	z.t.Helper()
	now := time.Now()
	return z.link(volume, "zone "+z.name+" has replicated volume "+volume, func(l client.Link) error {
		if l.Confirmed == nil || !l.ReplicatedUpTo.After(now) {
			return fmt.Errorf("it is at %v: %+v", l.ReplicatedUpTo, l)
		}
		return nil
	})
}

// running is one of the processes that run.
func (z *zone) running() *process {
	z.t.Helper()
	for _, p := range z.processes {
		if p.Runs() {
			return p
		}
	}
	z.t.Fatal("no process runs")
	return nil
}

// succeed kills the process that leads, waits until the other one does, and starts
// the killed one again.
func (z *zone) succeed() {
	z.t.Helper()
	leads, others := z.leader()
	leads.kill()
	if now, _ := z.leader(); now != others[0] {
		z.t.Errorf("process %s leads zone %s", now.Name, z.name)
	}
	leads.start()
	leads.awaitHealth()
}

// write writes at a place of a volume and flushes.
func (z *zone) write(volume string, data []byte, off int64) {
	z.t.Helper()
	z.await("volume "+volume+" is written to", func() error {
		c := z.open(z.running(), volume)
		defer c.Close()
		if _, err := c.WriteAt(data, off); err != nil {
			return err
		}
		return c.Flush()
	})
}

// random is bytes that nothing makes smaller.
func random(n int) []byte {
	data := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(n), 7})
	_, _ = source.Read(data) // never fails
	return data
}

// has compares what a volume holds at a place.
func (z *zone) has(volume string, want []byte, off int64) {
	z.t.Helper()
	var got []byte
	z.await("volume "+volume+" is read", func() error {
		c := z.open(z.running(), volume)
		defer c.Close()
		got = make([]byte, len(want))
		_, err := c.ReadAt(got, off)
		return err
	})
	if !bytes.Equal(got, want) {
		z.t.Errorf("volume %s in zone %s does not hold what was written at %d", volume, z.name, off)
	}
}

// replicationTakeover: the process that leads is killed at either end of a
// replication, and replication goes on where it was. It is killed during a planned
// failover and during a recovery, at both ends, and they end.
func replicationTakeover(t *testing.T, server *postgres.Server) {
	left, right := newPair(t, server)
	left.leader()
	right.leader()
	volume := left.make(left.processes[0], "one")
	whole := random(16 << 20)
	left.write(volume, whole, 0)
	first := left.replicated(volume)
	if first.BytesSent < int64(len(whole)) {
		t.Fatalf("%d bytes were sent of %d", first.BytesSent, len(whole))
	}
	written := [][]byte{whole[:64<<10]}
	change := func(z *zone, n int) {
		data := pattern(byte(n))
		z.write(volume, data, int64(n)<<20)
		written = append(written, data)
	}

	change(left, 1)
	left.succeed()
	change(left, 2)
	left.replicated(volume)
	change(left, 3)
	right.succeed()
	change(left, 4)
	last := left.replicated(volume)
	if sent := last.BytesSent - first.BytesSent; sent > int64(len(whole))/4 {
		t.Errorf("%d bytes were sent for 4 changes of 64 KiB: a whole copy again", sent)
	}
	if last.Confirmed.Epoch != first.Confirmed.Epoch || last.Confirmed.Sequence <= first.Confirmed.Sequence {
		t.Errorf("the point after the takeovers is %+v, the one before %+v", last.Confirmed, first.Confirmed)
	}

	moved := failover(t, left, right, volume)
	for i, data := range written {
		right.has(moved, data, int64(i)<<20)
	}
	back := right.replicated(moved)
	if back.Confirmed.Epoch <= last.Confirmed.Epoch {
		t.Errorf("volume %s has points of epoch %d in its new zone, and had %d", moved, back.Confirmed.Epoch,
			last.Confirmed.Epoch)
	}

	recovered := recovery(t, left, right, moved)
	for i, data := range written {
		left.has(recovered, data, int64(i)<<20)
	}
	again := left.replicated(recovered)
	if again.Confirmed.Epoch <= back.Confirmed.Epoch {
		t.Errorf("volume %s was recovered with epoch %d after %d", recovered, again.Confirmed.Epoch, back.Confirmed.Epoch)
	}
}

// failover moves a volume as planned, while the processes that lead are killed, and
// returns it as it is in its new zone.
func failover(t *testing.T, from, to *zone, volume string) string {
	t.Helper()
	var f client.Failover
	from.await("the failover begins", func() (err error) {
		f, err = from.login(from.running().url, "root").Failover(t.Context(), volume, client.FailoverTo{})
		if err != nil && !client.IsStatus(err, http.StatusServiceUnavailable) { // the other zone is slow
			t.Fatal(err)
		}
		return err
	})
	from.succeed()
	to.succeed()
	from.await("the failover ends", func() error {
		s := from.login(from.running().url, "root")
		var err error
		if f, err = s.FailoverByID(t.Context(), f.ID); err != nil {
			return err
		}
		if f.Status == "running" {
			return errors.New(f.Phase)
		}
		return nil
	})
	if f.Status != "success" {
		t.Fatalf("the failover went back: %+v", f)
	}
	return f.NewVolume
}

// recovery recovers a volume of a zone whose processes are all killed, while the
// process that leads the other zone is killed, and returns it.
func recovery(t *testing.T, in, of *zone, volume string) string {
	t.Helper()
	for _, p := range of.processes {
		p.kill()
	}
	s := in.login(in.running().url, "root")
	d, _, err := s.Recover(t.Context(), client.Recovery{AcceptLoss: true,
		Scope: client.RecoveryScope{Zone: of.name, Volumes: []string{volume}}})
	if err != nil {
		t.Fatal(err)
	}
	in.succeed()
	in.await("the recovery ends", func() error {
		s := in.login(in.running().url, "root")
		if d, err = s.Durable(t.Context(), d.ID); err != nil {
			return err
		}
		if !d.Ended() {
			return errors.New(d.Status)
		}
		return nil
	})
	for _, step := range d.Steps {
		if step.NewVolume != "" && d.Status == "succeeded" {
			for _, p := range of.processes {
				p.start()
			}
			return step.NewVolume
		}
	}
	t.Fatalf("the recovery ended without a volume: %+v", d)
	return ""
}
