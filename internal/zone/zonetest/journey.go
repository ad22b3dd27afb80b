package zonetest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/replication"
)

// patience is how long a machine with much else to do may take for what takes
// a moment.
const patience = 5 * time.Minute

// Journey is a volume of Alice's on its way through the zones of a Cloud, with
// all that was written to it.
type Journey struct {
	Zone, Volume string // where it is now

	t       *testing.T
	c       *Cloud
	rnd     *rand.Rand
	content []byte // of the first blocks; all others are zeros
	lost    map[int][]byte
}

// NewJourney makes a volume of 1 GiB in a zone, of which the first blocks will
// be written to.
func NewJourney(t *testing.T, c *Cloud, zone string, blocks int, seed uint64) *Journey {
	t.Helper()
	j := &Journey{Zone: zone, t: t, c: c, rnd: rand.New(rand.NewPCG(seed, 3)), content: make([]byte, blocks*BlockSize),
		lost: map[int][]byte{}}
	s := c.Session(zone, Alice)
	v, err := s.CreateVolume(t.Context(), client.NewVolume{Name: "journey", Size: 1})
	if err == nil {
		_, err = s.WaitVolume(t.Context(), v.ID, nil, "available")
	}
	if err != nil {
		t.Fatal(err)
	}
	j.Volume = v.ID
	return j
}

// At is the journey of what became of the volume in another zone; this one is as
// it was.
func (j *Journey) At(zone, volume string) *Journey {
	other := *j
	other.Zone, other.Volume, other.content, other.lost = zone, volume, bytes.Clone(j.content), map[int][]byte{}
	return &other
}

// Open reaches a volume of Alice's through its export, also where hosts may have
// it by another way.
func (c *Cloud) Open(zone, volume string) *nbd.Conn {
	c.t.Helper()
	s := c.Session(zone, Alice)
	info, err := s.Connect(c.t.Context(), volume, map[string]any{"host": "journey", "protocol": "nbd"})
	if err != nil {
		c.t.Fatal(err)
	}
	var conn *nbd.Conn
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	err = client.Poll(ctx, 5*time.Millisecond, func() (bool, error) {
		var dialled error
		conn, dialled = nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
		return dialled == nil, nil // a zone that just started waits for its peers' word
	})
	if err != nil {
		c.t.Fatalf("open volume %s in %s: %v", volume, zone, err)
	}
	return conn
}

// Write writes n random blocks from a block on, through a connection.
func (j *Journey) Write(conn *nbd.Conn, from, n int) {
	j.t.Helper()
	for b := from; b < from+n; b++ {
		p := j.content[b*BlockSize : (b+1)*BlockSize]
		for i := range p {
			p[i] = byte(j.rnd.Uint32())
		}
		if _, err := conn.WriteAt(p, int64(b)*BlockSize); err != nil {
			j.t.Fatalf("write block %d in %s: %v", b, j.Zone, err)
		}
	}
}

// WriteHere is Write through a connection of its own.
func (j *Journey) WriteHere(from, n int) {
	j.t.Helper()
	conn := j.c.Open(j.Zone, j.Volume)
	j.Write(conn, from, n)
	if err := conn.Close(); err != nil {
		j.t.Error(err)
	}
}

// WriteLost writes n blocks that a recovery will not have.
func (j *Journey) WriteLost(from, n int) {
	j.t.Helper()
	kept := bytes.Clone(j.content)
	j.WriteHere(from, n)
	for b := from; b < from+n; b++ {
		j.lost[b] = bytes.Clone(j.Block(b))
	}
	j.content = kept
}

// WriteLostApart is WriteLost while a zone can't be reached, so that no point of
// its has a part of it: one is cut only when the zone has answered.
func (j *Journey) WriteLostApart(from, n int, zone string) {
	j.t.Helper()
	j.c.Cut(j.Zone, zone)
	j.WriteLost(from, n)
	j.c.Mend(j.Zone, zone)
}

// Sent is how many bytes went to a zone for the volume, on the wire.
func (j *Journey) Sent(to string) int64 {
	j.t.Helper()
	links, err := j.c.Session(j.Zone, Admin).Links(j.t.Context())
	for _, l := range links {
		if l.VolumeID == j.Volume && l.Destination == to {
			return l.BytesSent
		}
	}
	j.t.Fatalf("volume %s is not replicated to %s: %v", j.Volume, to, err)
	return 0
}

// Block is what was written to a block.
func (j *Journey) Block(b int) []byte { return j.content[b*BlockSize : (b+1)*BlockSize] }

// Lost is what WriteLost wrote to a block.
func (j *Journey) Lost(b int) []byte { return j.lost[b] }

// Block reads a block of a volume through its export.
func (c *Cloud) Block(zone, volume string, b int) []byte {
	c.t.Helper()
	conn := c.Open(zone, volume)
	defer conn.Close()
	p := make([]byte, BlockSize)
	if _, err := conn.ReadAt(p, int64(b)*BlockSize); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// Root is the root hash of what was written.
func (j *Journey) Root() string {
	var sum replication.Sum
	sum.Add(0, j.content)
	root := sum.Root(block.GiB)
	return hex.EncodeToString(root[:])
}

// Check reads the volume where it is now and compares it with what was written.
func (j *Journey) Check() {
	j.t.Helper()
	conn := j.c.Open(j.Zone, j.Volume)
	defer conn.Close()
	got := make([]byte, len(j.content))
	if _, err := conn.ReadAt(got, 0); err != nil {
		j.t.Fatal(err)
	}
	for b := 0; b < len(got); b += BlockSize {
		if string(got[b:b+BlockSize]) != string(j.content[b:b+BlockSize]) {
			j.t.Fatalf("block %d in %s is not what was written", b/BlockSize, j.Zone)
		}
	}
}

// AwaitReplica waits until a zone has a point with all that was written, and
// returns the link that brought it there.
func (j *Journey) AwaitReplica(to string) client.Link {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(j.t.Context(), patience)
	defer cancel()
	want := j.Root()
	s := j.c.Session(j.Zone, Admin)
	var last client.Link
	err := client.Poll(ctx, 5*time.Millisecond, func() (bool, error) {
		links, err := s.Links(ctx)
		for _, l := range links {
			if l.VolumeID != j.Volume || l.Destination != to {
				continue
			}
			if last = l; l.Confirmed != nil && l.Confirmed.Root == want {
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		j.t.Fatalf("no replica of volume %s of %s in %s: %v; %+v", j.Volume, j.Zone, to, err, last)
	}
	replicas, err := j.c.Session(to, Admin).ReplicasOf(j.t.Context(), j.Zone, j.Volume)
	if err == nil && (len(replicas) != 1 || replicas[0].Points[len(replicas[0].Points)-1].Root != want) {
		err = fmt.Errorf("it has %+v", replicas)
	}
	if err != nil {
		j.t.Fatalf("the replica in %s: %v", to, err)
	}
	return last
}

// Failover moves the volume to another zone while both live, and goes on there.
func (j *Journey) Failover(to string) client.Failover {
	j.t.Helper()
	s := j.c.Session(j.Zone, Alice)
	f, err := j.BeginFailover(s, to)
	if err == nil {
		f, err = s.WaitFailover(j.t.Context(), f.ID, nil)
	}
	if err != nil {
		j.t.Fatalf("move volume %s from %s to %s: %v", j.Volume, j.Zone, to, err)
	}
	if want := j.Root(); f.Point == nil || f.Point.Root != want {
		j.t.Fatalf("what was written has root %s, what moved is %+v", want, f.Point)
	}
	j.Zone, j.Volume = to, f.NewVolume
	return f
}

// BeginFailover asks, as somebody, until it is taken. 503 says that the other zone did not
// answer in the time that it has for that, as on a machine with much else to
// do, and that nothing has changed.
func (j *Journey) BeginFailover(s *client.Session, to string) (f client.Failover, err error) {
	ctx, cancel := context.WithTimeout(j.t.Context(), patience)
	defer cancel()
	var refused error
	err = client.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		f, refused = s.Failover(ctx, j.Volume, client.FailoverTo{Destination: to})
		if client.IsStatus(refused, http.StatusServiceUnavailable) {
			return false, nil
		}
		return true, refused
	})
	return f, errors.Join(err, refused)
}

// Recover recovers the volume in another zone, whatever has become of its own,
// and goes on there.
func (j *Journey) Recover(to string) {
	j.t.Helper()
	k := j.c.Kvol(to)
	rowkey, err := k.Recovery(j.t.Context(), client.Elsewhere{SrcZone: j.Zone, SrcType: TypeID(j.Zone),
		Volume: j.Volume, DstZone: to, DstProject: j.c.Projects[Alice], DstType: TypeID(to)})
	var job client.KvolJob
	if err == nil {
		job, err = k.Wait(j.t.Context(), "recovery", rowkey, nil)
	}
	if err != nil {
		j.t.Fatalf("recover in %s: %v", to, err)
	}
	j.Zone, j.Volume = to, *job.NewVolumeID
}

// Wrote notes what somebody else wrote from a block on.
func (j *Journey) Wrote(from int, p []byte) { copy(j.content[from*BlockSize:], p) }
