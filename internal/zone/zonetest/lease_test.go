package zonetest_test

import (
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// TestLeaseOneWriter cuts the zone of a volume off and recovers the volume in
// its backup zone while a host in the cut zone goes on writing. Nothing that the
// host writes is acknowledged once the backup zone takes writes, by whatever call
// it was recovered, and also if the backup zone was killed while it waited for
// the lease.
func TestLeaseOneWriter(t *testing.T) {
	ways := map[string]func(*testing.T, *zonetest.Cloud, string) string{
		"recovery":  func(t *testing.T, c *zonetest.Cloud, v string) string { return byKvolAPI(t, c, v, func() {}) },
		"operation": byOperation,
		"destination killed": func(t *testing.T, c *zonetest.Cloud, v string) string {
			return byKvolAPI(t, c, v, func() { c.Kill(to); c.Start(to) })
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := withLease(t, to, 10*time.Second)
			j := zonetest.NewJourney(t, c, source, 64, 1)
			j.WriteHere(0, 64)
			j.AwaitReplica(to)
			host := startHost(c.Open(source, j.Volume))
			c.Cut(source, "kilo1")
			c.Cut(source, "kilo2")
			volume := way(t, c, j.Volume)
			conn := c.Open(to, volume)
			defer conn.Close()
			if _, err := conn.WriteAt(make([]byte, zonetest.BlockSize), 0); err != nil {
				t.Fatal(err)
			}
			here := time.Now()
			last, err := host.stop()
			if err == nil || !last.Before(here) {
				t.Errorf("the cut zone acknowledged a write %s after the backup zone did; its host saw %v", last.Sub(here), err)
			}
			c.Mend(source, "kilo1")
			awaitStale(t, c, j.Volume)
		})
	}
}

// byKvolAPI recovers a volume and returns the new one's id.
func byKvolAPI(t *testing.T, c *zonetest.Cloud, volume string, meanwhile func()) string {
	rowkey, err := c.Kvol(to).Recovery(t.Context(), client.Elsewhere{SrcZone: source, SrcType: zonetest.TypeID(source),
		Volume: volume, DstZone: to, DstProject: c.Projects[zonetest.Alice], DstType: zonetest.TypeID(to)})
	if err != nil {
		t.Fatal(err)
	}
	meanwhile()
	done, err := c.Kvol(to).Wait(t.Context(), "recovery", rowkey, nil)
	if err != nil {
		t.Fatal(err)
	}
	return *done.NewVolumeID
}

func byOperation(t *testing.T, c *zonetest.Cloud, volume string) string {
	s := c.Session(to, zonetest.Alice)
	op, _, err := s.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Volumes: []string{volume}},
		AcceptLoss: true})
	if err == nil {
		err = client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
			op, err = s.Durable(t.Context(), op.ID)
			return op.Ended(), err
		})
	}
	if err != nil || op.Status != "succeeded" {
		t.Fatalf("%+v, %v", op, err)
	}
	return op.Steps[0].NewVolume
}

// TestLeaseComesBack: a zone that is cut off takes no writes to a volume whose
// protection asks for a lease, those to others, and takes them again when it
// reaches its backup zone. A dead backup zone stops nobody without a lease.
func TestLeaseComesBack(t *testing.T) {
	t.Parallel()
	c := withLease(t, "kilo1", 10*time.Second)
	j := zonetest.NewJourney(t, c, source, 64, 2)
	host := startHost(c.Open(source, j.Volume))
	c.Cut(source, "kilo2")
	j.WriteHere(8, 8) // that protection has no lease
	c.Cut(source, "kilo1")
	if err := host.wait(); err == nil {
		t.Error("a host went on writing without a lease")
	}
	info, err := c.Session(source, zonetest.Alice).Connect(t.Context(), j.Volume, map[string]any{"host": "late"})
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := nbd.Dial(t.Context(), info.NBDURL(), nbd.Options{}); err == nil {
		conn.Close()
		t.Error("a volume without its lease was opened for writing")
	}
	c.Mend(source, "kilo1")
	j.WriteHere(16, 8)
}

// withLease starts a cloud in which one protection of the source has a lease.
func withLease(t *testing.T, to string, lease time.Duration) *zonetest.Cloud {
	c := zonetest.New(t)
	c.Configure(source, func(cfg *zone.Config) {
		for i := range cfg.Protections {
			if cfg.Protections[i].Destination == block.Zone(to) {
				cfg.Protections[i].Lease = lease
			}
		}
	})
	return c
}

func awaitStale(t *testing.T, c *zonetest.Cloud, volume string) {
	t.Helper()
	s := c.Session(source, zonetest.Alice)
	if err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
		v, err := s.Volume(t.Context(), volume)
		return err == nil && v.ReplicationStatus != nil && *v.ReplicationStatus == block.FailedOver, err
	}); err != nil {
		t.Error(err)
	}
}

// host writes one block again and again until it is told that it can't.
type host struct {
	conn  *nbd.Conn
	ended chan struct{}
	once  sync.Once
	quit  chan struct{}
	last  time.Time // of the newest acknowledged write; to be read when ended
	err   error
}

func startHost(conn *nbd.Conn) *host {
	h := &host{conn: conn, ended: make(chan struct{}), quit: make(chan struct{})}
	go func() {
		defer close(h.ended)
		defer conn.Close()
		for {
			select {
			case <-h.quit:
				return
			default:
			}
			if _, h.err = conn.WriteAt(make([]byte, zonetest.BlockSize), 128*zonetest.BlockSize); h.err != nil {
				return
			}
			h.last = time.Now()
		}
	}()
	return h
}

// wait waits until the host can't write.
func (h *host) wait() error {
	<-h.ended
	return h.err
}

// stop ends the host, and returns when its last write was acknowledged and what
// kept it from more.
func (h *host) stop() (time.Time, error) {
	h.once.Do(func() { close(h.quit) })
	<-h.ended
	return h.last, h.err
}
