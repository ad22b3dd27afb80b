package ceph_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	zonepeer "kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/replication"
	"kvol/internal/zone/zonetest"
	"kvol/test/afterwards"
	"kvol/test/ceph"
	"kvol/test/ledger"
	"kvol/test/port"
	"kvol/test/postgres"
	"kvol/test/program"
)

const (
	stormBlocks = 48 // that are written to
	burst       = 4  // writes between two flushes
	between     = 5 * time.Millisecond
)

// stormProject is the id of the project of every user.
const stormProject = "523b3c98e9bb2ef79d057633b0ba6c91"

// stormSettings are a zone's configuration: its name and index, the addresses of its
// APIs, for other zones and of exports, the other zone and its address, the
// cluster's configuration and the namespace, the id of the type, and what more there
// is. A cluster that is silent is given up soon, so that hosts are told.
const stormSettings = `
zone: %s
index: %d
listen: %s
peer: {listen: "%s", cert: zone.crt, key: zone.key, ca: ca.crt}
exports: {nbd: "%s"}
peers: [{zone: %s, url: "https://%s"}]
data_dir: data
isolated_start: any
availability_zones: [a]
default_volume_type: ssd
stores: [{name: main, driver: rbd, rbd: {conf: %s, namespace: %s, timeout: 5s, io_timeout: 5s}}]
backends: [{name: fast, store: main}, {name: backup, store: main}]
volume_types: [{id: %s, name: ssd, extra_specs: {volume_backend_name: fast}}]
identity:
  projects: [{id: ` + stormProject + `, name: blue}]
  users:
    - {name: alice, password: a long password, roles: [{project: blue, role: member}]}
    - {name: root, password: a long password, roles: [{project: blue, role: admin}]}
%s`

// stormZone is a zone of one process, on a cluster of its own.
type stormZone struct {
	*program.Process
	url       string
	cluster   *ceph.Cluster
	namespace string
	database  string // URL of its catalog; "" for a file in dir
	dir       string
	alice     *client.Session
	root      *client.Session
}

// storm is two zones, of which left replicates a volume to right, and a host that
// writes to it all the time.
type storm struct {
	t           *testing.T
	rnd         *rand.Rand
	server      *postgres.Server // of the left zone's catalog
	left, right *stormZone
	volume      string
	ledger      *ledger.Ledger
	flushed     atomic.Int64 // how often the host flushed
	broken      atomic.Int64 // how often it had to connect again
	long        bool

	mu sync.Mutex // held while something is written; held by who looks at what was
}

// storming lets processes of kvol, daemons of their clusters and the database be
// killed and stopped, in an order from KVOL_STORM_SEED, while a volume is written to
// and replicated from cluster to cluster. Without KVOL_STORM it is each of the faults
// once; else it goes on for so long. After each round all that was flushed is there,
// the replica gets to be what the source is, and no error is left.
func storming(t *testing.T, a, b *ceph.Cluster) {
	seed, length := uint64(1), time.Duration(0)
	if text := os.Getenv("KVOL_STORM_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	if text := os.Getenv("KVOL_STORM"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		length = d
	}
	t.Logf("seed %d", seed)
	s := newStorm(t, a, b, seed)
	s.long = length > 0
	ctx, stop := context.WithCancel(t.Context())
	var host sync.WaitGroup
	host.Go(func() { s.write(ctx) })
	defer func() {
		stop()
		s.left.Kill() // it may stand still, with a write under way
		s.right.Kill()
		host.Wait()
	}()
	s.goOn()
	began := time.Now()
	for n, round := range s.each() {
		s.round(n, round)
	}
	for n := 0; time.Since(began) < length; n++ {
		s.round(n, s.any())
	}
	stop()
	host.Wait()
	s.settle()
	t.Logf("%d writes and %d flushes; the host had to connect again %d times", s.ledger.Writes(), s.flushed.Load(),
		s.broken.Load())
}

func newStorm(t *testing.T, a, b *ceph.Cluster, seed uint64) *storm {
	t.Helper()
	s := &storm{t: t, rnd: rand.New(rand.NewPCG(seed, 41)), server: postgres.Start(t),
		ledger: &ledger.Ledger{Blocks: stormBlocks}}
	dir := t.TempDir()
	afterwards.Run(t, "/bin/sh", "-c", `kill -KILL $(cat "$0"/*/*.pid)`, dir)
	binary, err := program.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := zonepeer.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ports := port.Addresses(t, 6)
	for i, c := range []*ceph.Cluster{a, b} {
		names := []string{"left", "right"}
		z := &stormZone{dir: filepath.Join(dir, names[i]), url: "http://" + ports[3*i], cluster: c, namespace: block.NewID()}
		more := ""
		if i == 0 {
			z.database = s.server.Database(t)
			more = fmt.Sprintf("catalog: {url: %q}\nprotections: [{seq: 2, volume_type: ssd, destination: right, "+
				"backup_backend: {name: backup}, interval: 200ms}]\n", z.database)
		}
		c.Run(t, "rbd", "namespace", "create", "rbd/"+z.namespace)
		z.prepare(t, ca, binary, names[i], fmt.Sprintf(stormSettings, names[i], i+1, ports[3*i], ports[3*i+1], ports[3*i+2],
			names[1-i], ports[3*(1-i)+1], c.Conf(), z.namespace, block.NewID(), more))
		if i == 0 {
			s.left = z
		} else {
			s.right = z
		}
	}
	for _, z := range []*stormZone{s.left, s.right} {
		z.Start(t)
	}
	for _, z := range []*stormZone{s.left, s.right} {
		s.awaitReady(z)
		z.alice, z.root = s.login(z, "alice"), s.login(z, "root")
	}
	v, err := s.left.alice.CreateVolume(t.Context(), client.NewVolume{Name: "storm", Size: 1})
	if err == nil {
		v, err = s.left.alice.WaitVolume(t.Context(), v.ID, nil, "available")
	}
	if err != nil {
		t.Fatal(err)
	}
	s.volume = v.ID
	return s
}

// prepare writes a zone's files. Its process ends with the test.
func (z *stormZone) prepare(t *testing.T, ca *zonepeer.CA, binary, name, settings string) {
	t.Helper()
	z.Process = program.New(binary, name, filepath.Join(z.dir, "kvol.yaml"))
	t.Cleanup(func() {
		z.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, z.Log.Complaints())
		}
	})
	authority, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	issued, err := ca.IssueZone(block.Zone(name), time.Now(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(z.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{"kvol.yaml": []byte(settings), "ca.crt": authority.Cert,
		"zone.crt": issued.Cert, "zone.key": issued.Key} {
		if err := os.WriteFile(filepath.Join(z.dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// await waits until check finds nothing wrong.
func (s *storm) await(what string, check func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var last error
	err := client.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		ask, done := context.WithTimeout(ctx, patience/10)
		defer done()
		now := check(ask)
		if last == nil || ctx.Err() == nil { // what is asked at the end has no time to answer
			last = now
		}
		return now == nil, nil
	})
	if err != nil {
		s.t.Fatalf("not yet: %s: %v", what, last)
	}
}

// awaitReady waits until a zone's process serves.
func (s *storm) awaitReady(z *stormZone) {
	s.t.Helper()
	s.await("zone "+z.Name+" is ready", func(ctx context.Context) error {
		select {
		case <-z.Ended():
			s.t.Fatalf("the process of %s ended by itself: %v", z.Name, z.Exit())
		default:
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, z.url+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
}

func (s *storm) login(z *stormZone, user string) (session *client.Session) {
	s.t.Helper()
	s.await(user+" logs in at "+z.Name, func(ctx context.Context) (err error) {
		session, err = client.Login(ctx, client.Auth{URL: z.url + "/identity", User: user, Password: "a long password",
			Project: "blue"})
		return err
	})
	return session
}

// open reaches a volume by a host's export.
func open(ctx context.Context, z *stormZone, volume string) (*nbd.Conn, error) {
	info, err := z.alice.Connect(ctx, volume, map[string]any{"host": "storm", "protocol": "nbd"})
	if err != nil {
		return nil, err
	}
	return nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
}

// write is the host: it writes and flushes until ctx ends, and connects again when
// its connection breaks or the volume reports an error.
func (s *storm) write(ctx context.Context) {
	blocks := rand.New(rand.NewPCG(s.rnd.Uint64(), 43))
	for ctx.Err() == nil {
		ask, done := context.WithTimeout(ctx, patience/10)
		c, err := open(ask, s.left, s.volume)
		done()
		for err == nil && ctx.Err() == nil {
			err = s.burst(c, blocks)
			if err == nil {
				wait(ctx, between)
			}
		}
		if c != nil {
			_ = c.Close() // it may be broken
		}
		if err != nil {
			s.broken.Add(1)
			wait(ctx, 20*between)
		}
	}
}

// wait is a pause of a host, or how long a fault lasts.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// burst writes some blocks and has them flushed.
func (s *storm) burst(c *nbd.Conn, blocks *rand.Rand) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range burst {
		at := blocks.IntN(stormBlocks)
		number := s.ledger.Send(at)
		if _, err := c.WriteAt(ledger.Content(number), int64(at)*zonetest.BlockSize); err != nil {
			return err
		}
		s.ledger.Acked()
	}
	if err := c.Flush(); err != nil {
		return err
	}
	s.flushed.Add(1)
	return nil
}

// goOn waits until the host writes again. Then it holds what the volume has against
// all that the host was ever told, and waits until the replica is the same and the
// link has no error any more. The host waits meanwhile.
func (s *storm) goOn() {
	s.t.Helper()
	s.awaitReady(s.left)
	s.awaitReady(s.right)
	before := s.flushed.Load()
	s.await("the host writes", func(context.Context) error {
		if n := s.flushed.Load() - before; n < 3 {
			return fmt.Errorf("it flushed %d times", n)
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	content := s.read(s.left, s.volume)
	if _, err := s.ledger.Verify(content, time.Now()); err != nil {
		s.t.Fatalf("what the host was told of is not there: %v", err)
	}
	s.replicated(rootOf(content))
}

// rootOf is the root hash of a volume of 1 GiB that begins so, and goes on with zeros.
func rootOf(content []byte) string {
	var sum replication.Sum
	sum.Add(0, content)
	root := sum.Root(block.GiB)
	return hex.EncodeToString(root[:])
}

// read reads what may have been written to a volume.
func (s *storm) read(z *stormZone, volume string) (content []byte) {
	s.t.Helper()
	s.await("volume "+volume+" of "+z.Name+" is read", func(ctx context.Context) error {
		c, err := open(ctx, z, volume)
		if err != nil {
			return err
		}
		defer c.Close()
		content = make([]byte, stormBlocks*zonetest.BlockSize)
		_, err = c.ReadAt(content, 0)
		return err
	})
	return content
}

// replicated waits until both zones say that the replica's newest point is that
// content, and the link that nothing is wrong.
func (s *storm) replicated(root string) {
	s.t.Helper()
	s.await("the replica is what the source is, and no error is left", func(ctx context.Context) error {
		links, err := s.left.root.Links(ctx)
		if err != nil {
			return err
		}
		if len(links) != 1 || links[0].Confirmed == nil || links[0].Confirmed.Root != root || links[0].LastError != "" {
			return fmt.Errorf("the source has root %s, the links are %+v", root, links)
		}
		replicas, err := s.right.root.ReplicasOf(ctx, "left", s.volume)
		if err != nil {
			return err
		}
		if len(replicas) != 1 || replicas[0].Receiving || len(replicas[0].Points) == 0 ||
			replicas[0].Points[len(replicas[0].Points)-1].Root != root {
			return fmt.Errorf("the source has root %s, the replicas are %+v", root, replicas)
		}
		return nil
	})
}
