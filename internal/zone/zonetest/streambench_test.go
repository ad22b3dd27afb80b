package zonetest_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// linkRate is the rate of the shaped link, in bytes a second.
const linkRate = 16 << 20

// figures is for how long each figure is taken; the test is skipped without.
func figures(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("KVOL_STREAM_BENCH"))
	if err != nil {
		t.Skip("make bench-dr sets KVOL_STREAM_BENCH")
	}
	return d
}

// onePair leaves one protection, every half second, and a type without any.
func onePair(cfg *zone.Config) {
	cfg.Protections = slices.DeleteFunc(cfg.Protections, func(p zone.ProtectionConfig) bool {
		return p.Destination != to || cfg.Zone != source
	})
	for i := range cfg.Protections {
		cfg.Protections[i].Interval = 500 * time.Millisecond
	}
	cfg.VolumeTypes = append(cfg.VolumeTypes, zone.TypeConfig{ID: block.TypeID("0a0a0a0a-0000-4000-8000-00000000000" +
		string('0'+rune(cfg.Index%10))), Name: "plain", ExtraSpecs: map[string]string{
		"volume_backend_name": string(cfg.Zone) + "-ssd"}})
}

func scribble(p []byte, rnd *rand.Rand) {
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], rnd.Uint64())
	}
}

// heartbeats writes the time to the first block of a volume, every 5 ms.
func heartbeats(t *testing.T, conn *nbd.Conn, done <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	p := make([]byte, zonetest.BlockSize)
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		binary.LittleEndian.PutUint64(p, uint64(time.Now().UnixNano()))
		if _, err := conn.WriteAt(p, 0); err != nil {
			t.Error(err)
			return
		}
	}
}

// load writes random blocks to other places of a volume, so many bytes a second.
func load(t *testing.T, conn *nbd.Conn, rate int, done <-chan struct{}) {
	const each = 64 << 10
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	rnd := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, each)
	began, n := time.Now(), int64(0)
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		for due := int64(time.Since(began).Seconds() * float64(rate) / each); n < due; n++ {
			scribble(p, rnd)
			if _, err := conn.WriteAt(p, (1+n%1000)*each); err != nil { // no block twice within an interval
				t.Error(err)
				return
			}
		}
	}
}

// seenAt is the newest heartbeat in the newest point of a replica; zero where
// there is none.
func seenAt(t *testing.T, c *zonetest.Cloud, s *client.Session, volume string) time.Time {
	t.Helper()
	replicas, err := s.ReplicasOf(t.Context(), source, volume)
	if err != nil || len(replicas) == 0 || len(replicas[0].Points) == 0 {
		return time.Time{}
	}
	points := replicas[0].Points
	r, err := c.Store(to).OpenSnapshot(t.Context(), driver.SnapshotRef{Volume: block.VolumeID(replicas[0].ID),
		Name: block.PointID(points[len(points)-1].ID)})
	if err != nil {
		return time.Time{} // it was thinned out meanwhile
	}
	defer r.Close()
	p := make([]byte, 8)
	if _, err := r.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, int64(binary.LittleEndian.Uint64(p)))
}

// TestStreamRPO prints how old the newest heartbeat is that could be recovered,
// while hosts write 70 % of what a shaped link carries.
func TestStreamRPO(t *testing.T) {
	d := figures(t)
	c := zonetest.NewWith(t, onePair)
	beat, noise := zonetest.NewJourney(t, c, source, 8, 1), zonetest.NewJourney(t, c, source, 8, 2)
	beat.WriteHere(0, 1)
	beat.AwaitReplica(to)
	c.Shape(source, to, linkRate)
	one, two := c.Open(source, beat.Volume), c.Open(source, noise.Volume)
	done := make(chan struct{})
	var writers sync.WaitGroup
	writers.Go(func() { heartbeats(t, one, done) })
	writers.Go(func() { load(t, two, linkRate*7/10, done) })
	s := c.Session(to, zonetest.Admin)
	warm := time.Now().Add(3 * time.Second)
	before, began := int64(0), time.Time{}
	var ages []time.Duration
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := warm.Add(d); time.Now().Before(end); <-tick.C {
		at := seenAt(t, c, s, beat.Volume)
		if time.Now().Before(warm) || at.Year() < 2020 || at.Year() > 2100 {
			before, began = c.Sent(source, to), time.Now()
			continue
		}
		ages = append(ages, time.Since(at))
	}
	rate := float64(c.Sent(source, to)-before) / time.Since(began).Seconds()
	close(done)
	writers.Wait()
	_, _ = one.Close(), two.Close()
	if len(ages) == 0 {
		t.Fatal("no heartbeat arrived")
	}
	slices.Sort(ages)
	at := func(q float64) time.Duration { return ages[int(q*float64(len(ages)-1))].Round(time.Millisecond) }
	t.Logf("RPO at %.0f %% of a link of %d MiB/s, of %d looks in %s: p50 %s (aim 500ms), p99 %s (aim 2s), max %s (aim 5s)",
		100*rate/linkRate, linkRate>>20, len(ages), d, at(0.5), at(0.99), at(1))
}

// TestStreamCatchesUp prints how much of a shaped link the difference takes
// after an outage, and how many bytes go over it for each that differs.
func TestStreamCatchesUp(t *testing.T) {
	figures(t)
	const blocks = 16384 // 64 MiB
	c := zonetest.NewWith(t, onePair)
	j := zonetest.NewJourney(t, c, source, blocks, 3)
	j.WriteHere(0, 1)
	j.AwaitReplica(to)
	c.Shape(source, to, linkRate)
	c.Cut(source, to)
	j.WriteHere(0, blocks)
	before := j.Sent(to)
	c.Mend(source, to)
	poll := func(until func() bool) {
		t.Helper()
		if err := client.Poll(t.Context(), time.Millisecond, func() (bool, error) { return until(), nil }); err != nil {
			t.Fatal(err)
		}
	}
	start := c.Sent(source, to)
	poll(func() bool { return c.Sent(source, to)-start > 1<<20 })
	began, from := time.Now(), c.Sent(source, to)
	poll(func() bool { return c.Sent(source, to)-start > (blocks-512)*zonetest.BlockSize })
	rate := float64(c.Sent(source, to)-from) / time.Since(began).Seconds()
	j.AwaitReplica(to)
	wire := j.Sent(to) - before
	t.Logf(
		"catching up with 64 MiB: %.1f %% of a link of %d MiB/s (aim 90 %%), %.4f bytes on the wire for each that differs "+
			"(aim 1.02)",
		100*rate/linkRate,
		linkRate>>20,
		float64(wire)/float64(blocks*zonetest.BlockSize),
	)
}

// TestStreamCost prints what replication costs hosts that write, with the other
// zone alive and dead, against a volume that nothing replicates, in turns.
func TestStreamCost(t *testing.T) {
	d := figures(t)
	c := zonetest.NewEmbeddedWith(t, onePair)
	s := c.Session(source, zonetest.Alice)
	open := func(kind string) *nbd.Conn {
		v, err := s.CreateVolume(t.Context(), client.NewVolume{Size: 1, VolumeType: kind})
		if err == nil {
			_, err = s.WaitVolume(t.Context(), v.ID, nil, "available")
		}
		if err != nil {
			t.Fatal(err)
		}
		return c.Open(source, v.ID)
	}
	conns := map[string]*nbd.Conn{"alone": open("plain"), "replicated": open(zonetest.TypeName)}
	compare := func(what string) {
		took := map[string][]time.Duration{}
		for round := range 6 {
			for _, name := range [][]string{{"alone", "replicated"}, {"replicated", "alone"}}[round%2] {
				took[name] = append(took[name], writes(t, conns[name], d/12)...)
			}
		}
		p99 := func(name string) float64 {
			slices.Sort(took[name])
			return took[name][len(took[name])*99/100].Seconds()
		}
		t.Logf(
			"%s: %.1f %% of the writes in the same time (aim 95 %%), p99 %.0f %% of a volume's that is alone (aim 110 %%); "+
				"%d and %d writes of 4 KiB, one at a time",
			what,
			100*float64(len(took["replicated"]))/float64(len(took["alone"])),
			100*p99("replicated")/p99("alone"),
			len(took["replicated"]),
			len(took["alone"]),
		)
	}
	compare("replicated every half second")
	c.Cut(source, to)
	compare("with a dead target")
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// writes writes blocks one after the other for a time, and tells how long each
// took.
func writes(t *testing.T, conn *nbd.Conn, d time.Duration) (took []time.Duration) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 5))
	p := make([]byte, zonetest.BlockSize)
	for end := time.Now().Add(d); ; {
		scribble(p, rnd)
		began := time.Now()
		if began.After(end) {
			return took
		}
		if _, err := conn.WriteAt(p, rnd.Int64N(16384)*zonetest.BlockSize); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
}
