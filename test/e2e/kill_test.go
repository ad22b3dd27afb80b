package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/driver/logstore"
	"kvol/test/port"
)

// killConfig is a zone's configuration: name, index, three addresses, the other
// zone's name and peer address, the other's name again, and the volume type.
const killConfig = `
zone: %[1]s
index: %[2]d
listen: %[3]s
peer: {listen: "%[4]s", cert: zone.crt, key: zone.key, ca: ca.crt}
exports: {nbd: "%[5]s"}
peers: [{zone: %[6]s, url: "https://%[7]s"}]
availability_zones: [a]
default_volume_type: ssd
isolated_start: any
stores: [{name: main, driver: logstore}]
backends: [{name: fast, store: main}, {name: backup, store: main}]
volume_types: [{id: %[8]s, name: ssd, extra_specs: {volume_backend_name: fast}}]
protections: [{seq: %[9]d, volume_type: ssd, destination: %[6]s, backup_backend: {name: backup}, interval: 200ms}]
identity:
  projects: [{id: %[10]s, name: blue}]
  users: [{name: alice, password: a long password, roles: [{project: blue, role: member}]}]
kvol_api: {users: [{name: gabianet, password: a long password}]}
`

const blue = "523b3c98e9bb2ef79d057633b0ba6c91"

// victim is a zone that is killed now and then.
type victim struct {
	name, dir, url, typeID string
	cmd                    *exec.Cmd
}

// victims makes two zones that protect each other; none runs yet.
func victims(t *testing.T) []*victim {
	t.Helper()
	ca, err := peer.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	all := []*victim{{name: "left", typeID: block.NewID()}, {name: "right", typeID: block.NewID()}}
	ports := port.Addresses(t, 6)
	for i, v := range all {
		v.dir = filepath.Join(t.TempDir(), v.name)
		v.url = "http://" + ports[3*i]
		issued, err := ca.IssueZone(block.Zone(v.name), time.Now(), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Appendf(nil, killConfig, v.name, i+1, ports[3*i], ports[3*i+1], ports[3*i+2], all[1-i].name,
			ports[3*(1-i)+1], v.typeID, 2*i+2, blue)
		if err := os.MkdirAll(v.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string][]byte{"kvol.yaml": text, "ca.crt": authority.Cert, "zone.crt": issued.Cert,
			"zone.key": issued.Key} {
			if err := os.WriteFile(filepath.Join(v.dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { v.kill(t) })
	}
	return all
}

// start runs the zone and waits until it is ready.
func (v *victim) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(v.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	v.cmd = exec.Command(zones.exe, "serve", "--config", filepath.Join(v.dir, "kvol.yaml"))
	v.cmd.Stderr = log
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err = client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		answer, err := http.Get(v.url + "/readyz")
		if err != nil {
			return false, nil // not listening yet
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		text, _ := os.ReadFile(log.Name()) // what there is of it
		t.Fatalf("zone %s did not start: %v\n%s", v.name, err, text)
	}
}

func (v *victim) kill(t *testing.T) {
	t.Helper()
	if v.cmd == nil {
		return
	}
	if err := v.cmd.Process.Kill(); err != nil {
		t.Errorf("kill zone %s: %v", v.name, err)
	}
	_ = v.cmd.Wait() // it was killed
	v.cmd = nil
}

// stop ends the zone as an operator does.
func (v *victim) stop(t *testing.T) {
	t.Helper()
	cmd := v.cmd
	v.cmd = nil
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
		t.Errorf("zone %s: %v", v.name, err)
	}
}

// checkStore opens the store of a zone that does not run and of which all was
// deleted: it must hold the replicas that the catalog knows, whole, and nothing
// else.
func (v *victim) checkStore(t *testing.T) {
	t.Helper()
	data := filepath.Join(v.dir, "data")
	c, err := catalog.Open(t.Context(), catalog.Options{Path: filepath.Join(data, "catalog.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	replicas := map[block.VolumeID]bool{}
	err = c.View(t.Context(), func(tx *catalog.Tx) error {
		all, err := tx.Replicas("")
		for _, r := range all {
			replicas[r.ID] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := logstore.Open(t.Context(), logstore.Options{Dir: filepath.Join(data, "main")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Check(t.Context()); err != nil {
		t.Errorf("the store of %s: %v", v.name, err)
	}
	n := 0
	for info, err := range d.Volumes(t.Context()) {
		if n++; err != nil || !replicas[info.ID] {
			t.Errorf("the store of %s holds volume %s, which is nobody's: %v", v.name, info.ID, err)
		}
	}
	t.Logf("the store of %s holds %d volumes for %d replicas", v.name, n, len(replicas))
}

func (v *victim) session(t *testing.T) *client.Session {
	t.Helper()
	s, err := client.Login(t.Context(), client.Auth{URL: v.url + "/identity", User: "alice",
		Password: "a long password", Project: blue})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKilledZonesSettle asks two zones for everything at once while one or the
// other is killed with SIGKILL. What a call answers is of no interest then; but
// in the end nothing may be left in a passing status, nothing may have failed,
// everything can be deleted, and no store
// keeps what is nobody's.
func TestKilledZonesSettle(t *testing.T) {
	all := victims(t)
	rnd := rand.New(rand.NewPCG(7, 11))
	var hands []*hand
	for i, v := range all {
		v.start(t)
		k, err := client.KvolLogin(t.Context(), v.url, "gabianet", "a long password")
		if err != nil {
			t.Fatal(err)
		}
		hands = append(hands, &hand{s: v.session(t), k: k, own: v, other: all[1-i],
			rnd: rand.New(rand.NewPCG(uint64(i), 13))})
	}
	for range 5 {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{}, 2*len(hands))
		for _, h := range hands {
			h.idle = make(chan struct{})
			go h.work(ctx, done)
		}
		for range 20 + rnd.IntN(40) {
			<-done
		}
		v := all[rnd.IntN(len(all))]
		v.kill(t)
		stop()
		for _, h := range hands {
			h.wait()
		}
		v.start(t)
	}
	for _, h := range hands {
		h.settle(t)
	}
	for _, h := range hands {
		h.clear(t)
	}
	for _, v := range all {
		v.stop(t)
		v.checkStore(t)
	}
}

// hand asks one zone for things.
type hand struct {
	s          *client.Session
	k          *client.Kvol
	own, other *victim
	rnd        *rand.Rand
	idle       chan struct{} // closed when it does nothing any more
}

func (h *hand) wait() { <-h.idle }

// work does one thing after the other until ctx ends, and tells of each.
func (h *hand) work(ctx context.Context, done chan<- struct{}) {
	defer close(h.idle)
	for ctx.Err() == nil {
		_ = h.act(ctx) // the zone may be dead, or the thing in no state for it
		select {
		case done <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

func (h *hand) act(ctx context.Context) error {
	volumes, err := h.s.Volumes(ctx, false)
	if err != nil {
		return err
	}
	snapshots, err := h.s.Snapshots(ctx)
	if err != nil {
		return err
	}
	var v, snap string
	if len(volumes) > 0 {
		v = volumes[h.rnd.IntN(len(volumes))].ID
	}
	if len(snapshots) > 0 {
		snap = snapshots[h.rnd.IntN(len(snapshots))].ID
	}
	elsewhere := client.Elsewhere{SrcZone: h.own.name, SrcType: h.own.typeID, DstZone: h.other.name,
		DstType: h.other.typeID, DstProject: blue}
	switch n := h.rnd.IntN(12); {
	case n < 2 || v == "":
		_, err = h.s.CreateVolume(ctx, client.NewVolume{Name: "empty", Size: 1})
	case n == 2:
		_, err = h.s.CreateVolume(ctx, client.NewVolume{Name: "copy", Size: 1, SourceVolumeID: v})
	case n < 5 || snap == "":
		_, err = h.s.CreateSnapshot(ctx, client.NewSnapshot{VolumeID: v, Force: true})
	case n == 5:
		_, err = h.s.CreateVolume(ctx, client.NewVolume{Name: "from a snapshot", Size: 1, SnapshotID: snap})
	case n == 6:
		err = h.s.VolumeAction(ctx, v, "os-extend", map[string]any{"new_size": 2}, nil)
	case n == 7:
		err = h.s.DeleteVolume(ctx, v)
	case n == 8:
		err = h.s.DeleteSnapshot(ctx, snap)
	case n == 9:
		elsewhere.Snapshot = snap
		_, err = h.k.Create(ctx, elsewhere)
	case n == 10:
		elsewhere.Volume = v
		_, err = h.k.Recovery(ctx, elsewhere)
	default:
		err = h.write(ctx, v)
	}
	return err
}

// write writes a little, without being asked whether anybody is attached.
func (h *hand) write(ctx context.Context, v string) error {
	info, err := h.s.Connect(ctx, v, connector)
	if err != nil {
		return err
	}
	c, err := nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	p := make([]byte, 64<<10)
	rand.NewChaCha8([32]byte{byte(h.rnd.Int())}).Read(p)
	if _, err := c.WriteAt(p, h.rnd.Int64N(1000)<<16); err != nil {
		return err
	}
	return c.Flush()
}

// settle waits until nothing is under way, and checks that nothing failed.
func (h *hand) settle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var seen []string
	err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		var err error
		seen, err = h.statuses(ctx)
		for _, s := range seen {
			if strings.HasSuffix(s, "ing") || strings.HasSuffix(s, "READY") || strings.HasSuffix(s, "RUNNING") {
				return false, err
			}
		}
		return true, err
	})
	if err != nil {
		t.Errorf("zone %s does not settle: %v: %v", h.own.name, err, seen)
	}
	for _, s := range seen {
		if strings.Contains(s, "error") {
			t.Errorf("zone %s: %s", h.own.name, s)
		}
	}
	t.Logf("zone %s: %d things settled", h.own.name, len(seen))
}

// statuses lists what there is in the zone, each with its status at its end.
func (h *hand) statuses(ctx context.Context) (seen []string, err error) {
	volumes, err := h.s.Volumes(ctx, false)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		seen = append(seen, fmt.Sprintf("volume %s: %s", v.ID, v.Status))
	}
	snapshots, err := h.s.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range snapshots {
		seen = append(seen, fmt.Sprintf("snapshot %s: %s", s.ID, s.Status))
	}
	for _, kind := range []string{"create", "recovery"} {
		jobs, err := h.k.Jobs(ctx, kind, 0, 100)
		if err != nil && !errors.Is(err, client.ErrNoData) {
			return nil, err
		}
		for _, j := range jobs {
			seen = append(seen, fmt.Sprintf("%s of %s%s: %s", kind, j.OrgVolumeID, j.OrgSnapshotID, j.Status))
		}
	}
	return seen, nil
}

// clear deletes everything: what can be deleted is in no state between.
func (h *hand) clear(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		volumes, err := h.s.Volumes(ctx, false)
		if err != nil {
			return false, err
		}
		snapshots, err := h.s.Snapshots(ctx)
		for _, s := range snapshots {
			_ = h.s.DeleteSnapshot(ctx, s.ID) // asked again until it is gone
		}
		for _, v := range volumes {
			_ = h.s.Disconnect(ctx, v.ID, nil)
			_ = h.s.DeleteVolume(ctx, v.ID) // the same
		}
		return len(volumes)+len(snapshots) == 0, err
	})
	if err != nil {
		seen, _ := h.statuses(t.Context())
		t.Errorf("zone %s: not everything could be deleted: %v: %v", h.own.name, err, seen)
	}
}
