package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/zone/zonetest"
	"kvol/test/ledger"
)

const (
	soakVolumes = 3
	soakBlocks  = 256 // that are written to, of each
	soakLimit   = 3 * time.Minute
)

// TestSoak runs three zones as processes, writes to volumes through NBD all the
// time, and kills, stops and cuts off zones from a seed, with planned and
// unplanned failovers in between, for the time that SOAK says. After each event
// every volume is held against an oracle: what was acknowledged is there, after
// an unplanned failover as far as was reported, and nothing that was never
// written.
func TestSoak(t *testing.T) {
	length := 20 * time.Second
	if d, err := time.ParseDuration(os.Getenv("SOAK")); err == nil {
		length = d
	}
	seed := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("SOAK_SEED"), 10, 64); err == nil {
		seed = n
	}
	s := newSoak(t, seed)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for _, v := range s.volumes {
		writers.Go(func() { v.write(ctx) })
	}
	done := map[string]int{}
	for began := time.Now(); time.Since(began) < length && !t.Failed(); {
		done[s.event()]++
	}
	stop()
	writers.Wait()
	total := uint64(0)
	for _, v := range s.volumes {
		v.check(time.Now(), true)
		total += v.ledger.Writes()
	}
	t.Logf("seed %d: %v; %d writes; %d acknowledged ones lost, all after what was reported", seed, done, total, s.lost)
}

// soak is the three zones and what happens to them.
type soak struct {
	t       *testing.T
	dir     string
	rnd     *rand.Rand
	cmds    map[string]*exec.Cmd
	wires   map[[2]string]*zonetest.Wire
	volumes []*soaked
	lost    int
}

// soaked is a volume under load.
type soaked struct {
	s      *soak
	ledger *ledger.Ledger
	rnd    *rand.Rand

	mu       sync.Mutex // held while it is written to, and while it is checked or moved
	zone, id string     // guarded by mu
	left     [][2]string
}

var soakZones = []string{"mitaka1", "kilo1"} // that have the volumes; kilo2 keeps copies

func newSoak(t *testing.T, seed uint64) *soak {
	s := &soak{t: t, dir: t.TempDir(), rnd: rand.New(rand.NewPCG(seed, 31)), cmds: map[string]*exec.Cmd{},
		wires: map[[2]string]*zonetest.Wire{}}
	anotherCloud(t, s.dir)
	s.rewire()
	for _, z := range zones.Zones {
		s.start(z.Name)
		t.Cleanup(func() { s.kill(z.Name) })
	}
	for n := range soakVolumes {
		c := s.session(soakZones[0])
		v, err := c.CreateVolume(t.Context(), client.NewVolume{Name: fmt.Sprint("soak ", n), Size: 1})
		if err == nil {
			v, err = c.WaitVolume(t.Context(), v.ID, nil, "available")
		}
		if err != nil {
			t.Fatal(err)
		}
		s.volumes = append(s.volumes, &soaked{s: s, ledger: &ledger.Ledger{Blocks: soakBlocks}, zone: soakZones[0], id: v.ID,
			rnd: rand.New(rand.NewPCG(seed, uint64(n)))})
	}
	return s
}

var peerURL = regexp.MustCompile(
	`(?m)^(- |  )zone: (\w+)\n  url: https://([0-9.:]+)$|^(- |  )url: https://([0-9.:]+)\n  zone: (\w+)$`,
)

// rewire puts a wire between each two zones.
func (s *soak) rewire() {
	for _, z := range zones.Zones {
		file := filepath.Join(s.dir, z.Name, "kvol.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		out := peerURL.ReplaceAllStringFunc(string(text), func(entry string) string {
			m := peerURL.FindStringSubmatch(entry)
			peer, address := m[2]+m[6], m[3]+m[5]
			w, err := zonetest.NewWire(address)
			if err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { _ = w.Close() }) // its zones are gone
			s.wires[[2]string{z.Name, peer}] = w
			return strings.Replace(entry, address, w.Address(), 1)
		})
		if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	if len(s.wires) != 6 {
		s.t.Fatalf("%d of 6 wires", len(s.wires))
	}
}

func (s *soak) environment(zone string) map[string]string {
	text, err := os.ReadFile(filepath.Join(s.dir, zone+"-alice.rc"))
	if err != nil {
		s.t.Fatal(err)
	}
	env := map[string]string{}
	for _, kv := range strings.Fields(string(text))[1:] {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	return env
}

// start runs a zone and waits until it is ready.
func (s *soak) start(zone string) {
	v := &victim{name: zone, dir: filepath.Join(s.dir, zone), url: s.environment(zone)["KVOL_URL"]}
	v.start(s.t)
	s.cmds[zone] = v.cmd
}

func (s *soak) kill(zone string) {
	if cmd := s.cmds[zone]; cmd != nil {
		_ = cmd.Process.Signal(syscall.SIGCONT) // it may be gone
		_ = cmd.Process.Kill()                  // the same
		_ = cmd.Wait()                          // it was killed
		s.cmds[zone] = nil
	}
}

func (s *soak) session(zone string) *client.Session {
	env := s.environment(zone)
	c, err := client.Login(s.t.Context(), client.Auth{URL: env["OS_AUTH_URL"], User: env["OS_USERNAME"],
		Password: env["OS_PASSWORD"], Project: env["OS_PROJECT_ID"]})
	if err != nil {
		s.t.Fatalf("log in at %s: %v", zone, err)
	}
	return c
}

// event lets one thing happen and checks every volume after it.
func (s *soak) event() (what string) {
	v := s.volumes[s.rnd.IntN(len(s.volumes))]
	zone := zones.Zones[s.rnd.IntN(len(zones.Zones))].Name
	switch s.rnd.IntN(6) {
	case 0:
		what = "zone killed"
		s.kill(zone)
		s.start(zone)
	case 1:
		what = "zone stopped"
		_ = s.cmds[zone].Process.Signal(syscall.SIGSTOP) // it runs
		s.pause()
		_ = s.cmds[zone].Process.Signal(syscall.SIGCONT)
	case 2:
		what = "link cut"
		s.cut(true)
		s.pause()
		s.cut(false)
	case 3:
		what = "unplanned failover"
		s.unplanned(v)
	default:
		what = "planned failover, " + s.planned(v)
	}
	for _, v := range s.volumes {
		v.check(time.Now(), false)
	}
	return what
}

// cut cuts or mends the wires between the two zones that have the volumes.
func (s *soak) cut(cut bool) {
	s.wires[[2]string{soakZones[0], soakZones[1]}].Cut(cut)
	s.wires[[2]string{soakZones[1], soakZones[0]}].Cut(cut)
}

// pause is how long a zone is stopped or a link is cut.
func (s *soak) pause() {
	select {
	case <-time.After(time.Duration(100+s.rnd.IntN(1500)) * time.Millisecond):
	case <-s.t.Context().Done():
	}
}

func (s *soak) await(what string, check func() (bool, error)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soakLimit)
	defer cancel()
	if err := client.Poll(ctx, 20*time.Millisecond, check); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func other(zone string) string {
	if zone == soakZones[0] {
		return soakZones[1]
	}
	return soakZones[0]
}

// planned moves a volume while it is written to, with a fault now and then.
func (s *soak) planned(v *soaked) string {
	from, id := v.place()
	to := other(from)
	var f client.Failover
	s.await("a planned failover begins", func() (done bool, err error) {
		f, err = s.session(from).Failover(s.t.Context(), id, client.FailoverTo{Destination: to})
		if client.IsStatus(err, 503) { // no whole copy yet, or no answer
			return false, nil
		}
		return true, err
	})
	switch s.rnd.IntN(4) {
	case 0:
		s.kill(to)
		s.start(to)
	case 1:
		s.kill(from)
		s.start(from)
	}
	s.await("a planned failover ends", func() (done bool, err error) {
		f, err = s.session(from).FailoverByID(s.t.Context(), f.ID)
		return f.Status != "running", err
	})
	if f.Status != "success" {
		return "which went back"
	}
	v.move(to, f.NewVolume, time.Now())
	return "done"
}

// unplanned loses a volume's zone and recovers the volume in the other one. What
// was acknowledged before the instant that the source reported has to be there.
func (s *soak) unplanned(v *soaked) {
	from, id := v.place()
	to := other(from)
	var reported time.Time
	s.await("a point in zone "+to, func() (bool, error) {
		links, err := s.session(from).Links(s.t.Context())
		for _, l := range links {
			if l.VolumeID == id && l.Destination == to {
				reported = l.ReplicatedUpTo
			}
		}
		return !reported.IsZero() && reported.Year() > 2000, err
	})
	s.kill(from)
	env := s.environment(to)
	k, err := client.KvolLogin(s.t.Context(), env["KVOL_URL"], env["KVOL_USER"], env["KVOL_PASSWORD"])
	var rowkey int64
	if err == nil {
		rowkey, err = k.Recovery(s.t.Context(), client.Elsewhere{SrcZone: from, SrcType: s.typeID(from), Volume: id,
			DstZone: to, DstType: s.typeID(to), DstProject: env["OS_PROJECT_ID"]})
	}
	var job client.KvolJob
	if err == nil {
		job, err = k.Wait(s.t.Context(), "recovery", rowkey, nil)
	}
	if err != nil {
		s.t.Fatalf("recover volume %s of %s in %s: %v", id, from, to, err)
	}
	v.move(to, *job.NewVolumeID, reported)
	s.start(from)
}

func (s *soak) typeID(name string) string {
	for _, id := range zone(s.t, name).VolumeTypes {
		return id
	}
	return ""
}

func (v *soaked) place() (zone, id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.zone, v.id
}

// move goes on with a volume in another zone, after a look at what it has. What
// was left before is deleted, since nobody needs it.
func (v *soaked) move(zone, id string, before time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left = append(v.left, [2]string{v.zone, v.id})
	v.zone, v.id = zone, id
	v.look(before, false)
	if len(v.left) > 1 && v.s.cmds[v.left[0][0]] != nil {
		if err := v.s.session(v.left[0][0]).DeleteVolume(v.s.t.Context(), v.left[0][1]); err == nil {
			v.left = v.left[1:]
		}
	}
}

// write writes until ctx ends, wherever the volume is. A broken connection is
// what this is about.
func (v *soaked) write(ctx context.Context) {
	for ctx.Err() == nil {
		v.burst(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond): // somebody else may want the volume
		}
	}
}

// burst writes a few blocks and has them flushed.
func (v *soaked) burst(ctx context.Context) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c, err := v.open(ctx)
	if err != nil {
		return
	}
	defer c.Close()
	for range 20 {
		block := v.rnd.IntN(soakBlocks)
		number := v.ledger.Send(block)
		if _, err := c.WriteAt(ledger.Content(number), int64(block)*zonetest.BlockSize); err != nil {
			return
		}
		v.ledger.Acked()
	}
	_ = c.Flush() // what was acknowledged has to survive a kill without it
}

// open reaches the volume once; it may be in no state for it.
func (v *soaked) open(ctx context.Context) (*nbd.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	env := v.s.environment(v.zone)
	c, err := client.Login(ctx, client.Auth{URL: env["OS_AUTH_URL"], User: env["OS_USERNAME"],
		Password: env["OS_PASSWORD"], Project: env["OS_PROJECT_ID"]})
	if err != nil {
		return nil, err
	}
	info, err := c.Connect(ctx, v.id, connector)
	if err != nil {
		return nil, err
	}
	conn, err := nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
	if err == nil && conn.ReadOnly() {
		err = fmt.Errorf("volume %s is being moved", v.id)
		conn.Close()
	}
	return conn, err
}

// check reads the volume and holds it against the ledger; all of it, or the
// blocks that are written to.
func (v *soaked) check(before time.Time, all bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.look(before, all)
}

// look is check while nobody writes.
func (v *soaked) look(before time.Time, all bool) {
	v.s.t.Helper()
	var c *nbd.Conn
	v.s.await("a connection to volume "+v.id+" in "+v.zone, func() (bool, error) {
		var err error
		c, err = v.open(v.s.t.Context())
		return err == nil, nil
	})
	defer c.Close()
	got := make([]byte, soakBlocks*zonetest.BlockSize)
	if _, err := c.ReadAt(got, 0); err != nil {
		v.s.t.Fatal(err)
	}
	lost, err := v.ledger.Verify(got, before)
	if err != nil {
		v.s.t.Errorf("volume %s in %s: %v", v.id, v.zone, err)
	}
	v.s.lost += lost
	zero, p := make([]byte, 4<<20), make([]byte, 4<<20)
	for off := int64(len(got)); all && off < c.Size(); off += int64(len(p)) {
		p = p[:min(int64(len(p)), c.Size()-off)]
		if _, err := c.ReadAt(p, off); err != nil || string(p) != string(zero[:len(p)]) {
			v.s.t.Fatalf("volume %s holds something at %d that was never written: %v", v.id, off, err)
		}
	}
}
