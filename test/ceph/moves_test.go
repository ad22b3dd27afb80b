package ceph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/nfs"
	"kvol/internal/zone"
	"kvol/test/ceph"
)

// movesSettings are the configuration of a zone with three stores, a type for each;
// %s are the cluster's configuration and the ids of the types.
const movesSettings = `
zone: mitaka1
listen: 127.0.0.1:0
exports: {nbd: "127.0.0.1:0"}
availability_zones: [a]
default_volume_type: ceph
stores:
  - {name: ceph, driver: rbd, rbd: {conf: %s}}
  - {name: embedded, driver: logstore}
  - {name: share, driver: nfs}
backends: [{name: ceph, store: ceph}, {name: embedded, store: embedded}, {name: share, store: share}]
volume_types:
  - {id: %s, name: ceph, extra_specs: {volume_backend_name: ceph}}
  - {id: %s, name: embedded, extra_specs: {volume_backend_name: embedded}}
  - {id: %s, name: share, extra_specs: {volume_backend_name: share}}
identity:
  projects: [{name: blue}]
  users:
    - {name: alice, password: a long password, roles: [{project: blue, role: member}]}
    - {name: root, password: a long password, roles: [{project: blue, role: admin}]}
backup: {directory: backups}
`

// kept is a store that outlives the zone on it.
type kept struct {
	driver.Driver
	// meanwhile is called once, when the next snapshot was made: by a move, after it
	// cut the moment that it copies first.
	meanwhile atomic.Pointer[func()]
}

func (k *kept) Unwrap() driver.Driver { return k.Driver }

func (k *kept) Close() error { return nil }

func (k *kept) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	err := k.Driver.CreateSnapshot(ctx, ref)
	if do := k.meanwhile.Swap(nil); do != nil {
		(*do)()
	}
	return err
}

// mixed is a zone that keeps volumes on Ceph, in an embedded store and in files of
// a directory.
type mixed struct {
	*testing.T
	stores      map[string]*kept // by the name of store, backend and type
	alice, root *client.Session
}

func newMixed(t *testing.T, c *ceph.Cluster) *mixed {
	t.Helper()
	share, err := nfs.Open(t.Context(), nfs.Options{Dir: t.TempDir(), Format: nfs.QCOW2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := share.Close(); err != nil {
			t.Error(err)
		}
	})
	m := &mixed{T: t, stores: map[string]*kept{"ceph": {Driver: lendingStore(t, c)}, "embedded": {Driver: embedded(t)},
		"share": {Driver: share}}}
	path := filepath.Join(t.TempDir(), "kvol.yaml")
	text := fmt.Sprintf(movesSettings, c.Conf(), block.NewID(), block.NewID(), block.NewID())
	m.must(os.WriteFile(path, []byte(text), 0o600))
	cfg, err := zone.LoadConfig(path)
	m.must(err)
	open := map[string]driver.Driver{}
	for name, k := range m.stores {
		open[name] = k
	}
	s, err := zone.Open(t.Context(), cfg, zone.Environment{Stores: open})
	m.must(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for user, session := range map[string]**client.Session{"alice": &m.alice, "root": &m.root} {
		*session, err = client.Login(t.Context(), client.Auth{URL: s.URL() + "/identity", User: user,
			Password: "a long password", Project: "blue"})
		m.must(err)
	}
	return m
}

func (m *mixed) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// await asks until it is so, or can't be.
func (m *mixed) await(what string, so func(context.Context) (bool, error)) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	if err := client.Poll(ctx, pollPause, func() (bool, error) { return so(ctx) }); err != nil {
		m.Fatalf("%s: %v", what, err)
	}
}

// ask makes a request for which the client has no call, as the administrator, in a
// microversion that shows where volumes are.
func (m *mixed) ask(method, path string, in, out any) {
	m.Helper()
	base, err := m.root.URL("volumev3")
	m.must(err)
	body, err := json.Marshal(in)
	m.must(err)
	r, err := http.NewRequestWithContext(m.Context(), method, base+"/"+path, bytes.NewReader(body))
	m.must(err)
	r.Header.Set("X-Auth-Token", m.root.Token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	m.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 == 2 {
		err = json.Unmarshal(text, out)
	}
	if err != nil || resp.StatusCode/100 != 2 {
		m.Fatalf("%s %s: %s, %v: %s", method, path, resp.Status, err, text)
	}
}

// retype and migrate ask for a move, as who has a volume and as the administrator.
func (m *mixed) retype(volume, to string) error {
	return m.alice.VolumeAction(m.Context(), volume, "os-retype",
		map[string]any{"new_type": to, "migration_policy": "on-demand"}, nil)
}

func (m *mixed) migrate(volume, to string) error {
	return m.root.VolumeAction(m.Context(), volume, "os-migrate_volume",
		map[string]any{"host": "kvol@" + to + "#" + to}, nil)
}

// moveable is what the administrator sees of a volume that can move.
type moveable struct {
	Status    string `json:"status"`
	Type      string `json:"volume_type"`
	Host      string `json:"os-vol-host-attr:host"`
	Migration string `json:"os-vol-mig-status-attr:migstat"`
}

// moved waits until a volume is in another store, whole, and nowhere else, and
// nobody but its hosts has to do with it.
func (m *mixed) moved(volume, to, status string) {
	m.Helper()
	m.await("a move to "+to, func(ctx context.Context) (bool, error) {
		var answer struct{ Volume moveable }
		m.ask(http.MethodGet, "volumes/"+volume, nil, &answer)
		v := answer.Volume
		if v.Migration == "error" {
			return false, fmt.Errorf("the volume is %+v", v)
		}
		if v.Status != status || v.Host != "kvol@"+to+"#"+to || v.Migration != "success" {
			return false, nil
		}
		for name, k := range m.stores {
			there, err := stored(ctx, k, block.VolumeID(volume))
			if err != nil || there != (name == to) {
				return false, err
			}
		}
		snapshots, err := m.stores[to].Snapshots(ctx, block.VolumeID(volume))
		if len(snapshots) > 0 {
			err = fmt.Errorf("the volume has snapshots: %+v", snapshots)
		}
		return true, err
	})
}

// stored reports whether a store has anything of a volume.
func stored(ctx context.Context, d driver.Driver, id block.VolumeID) (there bool, err error) {
	for v, err := range d.Volumes(ctx) {
		if err != nil {
			return false, err
		}
		there = there || v.ID == id
	}
	return there, nil
}

// movesAttached takes a volume to another store while a host writes to it: from the
// first moment that is copied until after the end, by one connection.
func (m *mixed) movesAttached(h *nbdWriter, volume, from, to string, ask func(volume, to string) error) {
	m.Helper()
	before := h.wrote.Load()
	meanwhile := h.goesOn
	m.stores[from].meanwhile.Store(&meanwhile)
	m.must(ask(volume, to))
	m.moved(volume, to, "in-use")
	if m.stores[from].meanwhile.Load() != nil {
		m.Errorf("the move from %s to %s made no snapshot", from, to)
	}
	h.goesOn()
	if h.failed() || h.wrote.Load() < before+2*hostWrites {
		m.Fatalf("the host wrote %d times while the volume moved to %s: %v", h.wrote.Load()-before, to, h.err)
	}
	h.mu.Lock() // nothing is written meanwhile
	defer h.mu.Unlock()
	h.compare(m.T, to, h.conn, false)
}

// holds compares a volume that nobody uses with what was written to it, as it lies
// in a store.
func (m *mixed) holds(h *nbdWriter, volume, in string) {
	m.Helper()
	var d driver.Device
	m.await("open the volume in "+in, func(ctx context.Context) (bool, error) {
		var err error
		d, err = m.stores[in].OpenVolume(ctx, block.VolumeID(volume))
		if block.Is(err, block.Conflict) { // the last export is about to close it
			return false, nil
		}
		return true, err
	})
	h.compare(m.T, in, d, true)
	m.must(d.Close())
}

// moves takes a volume from Ceph to the embedded store, into files and back to Ceph,
// while a host writes to it by its export, and again when nobody uses it. No host
// sees an error, no byte differs, and the store that it left has nothing of it. Then
// a backup of it is restored in another store.
func moves(t *testing.T, c *ceph.Cluster) {
	m := newMixed(t, c)
	v, err := m.alice.CreateVolume(t.Context(), client.NewVolume{Name: "moves", Size: 1, VolumeType: "ceph"})
	m.must(err)
	_, err = m.alice.WaitVolume(t.Context(), v.ID, nil, "available")
	m.must(err)
	attach := map[string]any{"host_name": "h", "mountpoint": "/dev/vdb"}
	m.must(m.alice.VolumeAction(t.Context(), v.ID, "os-attach", attach, nil))
	info, err := m.alice.Connect(t.Context(), v.ID, nbdHost)
	m.must(err)
	conn, err := nbd.Dial(t.Context(), info.NBDURL(), nbd.Options{})
	m.must(err)
	h := newNBDWriter(t, conn)
	go h.run()
	m.movesAttached(h, v.ID, "ceph", "embedded", m.retype)
	m.movesAttached(h, v.ID, "embedded", "share", m.migrate)
	m.movesAttached(h, v.ID, "share", "ceph", m.retype)
	m.must(h.end())
	m.must(m.alice.Disconnect(t.Context(), v.ID, nbdHost))
	m.must(m.alice.VolumeAction(t.Context(), v.ID, "os-detach", map[string]any{}, nil))
	m.holds(h, v.ID, "ceph")
	m.stays(v.ID)
	for _, x := range []struct {
		to  string
		ask func(volume, to string) error
	}{{"share", m.migrateFreed}, {"embedded", m.retype}, {"ceph", m.retype}} {
		m.must(x.ask(v.ID, x.to))
		m.moved(v.ID, x.to, "available")
		m.holds(h, v.ID, x.to)
	}
	m.restores(h, v.ID, "embedded")
}

// stays has a volume on Ceph stay there while it has a snapshot, and while a host uses
// its image by itself.
func (m *mixed) stays(volume string) {
	m.Helper()
	refused := func(why string) {
		m.Helper()
		if err := m.migrate(volume, "embedded"); !client.IsStatus(err, http.StatusBadRequest) {
			m.Fatalf("a move of a volume %s: %v", why, err)
		}
	}
	sn, err := m.alice.CreateSnapshot(m.Context(), client.NewSnapshot{VolumeID: volume, Name: "s"})
	m.must(err)
	_, err = m.alice.WaitSnapshot(m.Context(), sn.ID, "available")
	m.must(err)
	refused("with a snapshot")
	m.must(m.alice.DeleteSnapshot(m.Context(), sn.ID))
	_, err = m.alice.WaitSnapshot(m.Context(), sn.ID, "deleted")
	m.must(err)
	native := map[string]any{"host": "h", "ip": "127.0.0.1"}
	info, err := m.alice.Connect(m.Context(), volume, native)
	if err != nil || info.DriverVolumeType != "rbd" {
		m.Fatalf("the connection is %+v, %v", info, err)
	}
	refused("whose image is a host's")
	m.must(m.alice.Disconnect(m.Context(), volume, native))
}

// migrateFreed is migrate as soon as the image that a host used is the zone's again.
func (m *mixed) migrateFreed(volume, to string) error {
	m.await("a move of a volume that no host uses any more", func(context.Context) (bool, error) {
		err := m.migrate(volume, to)
		if client.IsStatus(err, http.StatusBadRequest) {
			return false, nil
		}
		return true, err
	})
	return nil
}

// restores backs a volume up and restores it to a volume in another store.
func (m *mixed) restores(h *nbdWriter, volume, in string) {
	m.Helper()
	type status struct{ ID, Status string }
	var b struct{ Backup status }
	m.ask(http.MethodPost, "backups", map[string]any{"backup": map[string]any{"volume_id": volume, "name": "b"}}, &b)
	whole := func(context.Context) (bool, error) {
		m.ask(http.MethodGet, "backups/"+b.Backup.ID, nil, &b)
		if strings.HasPrefix(b.Backup.Status, "error") {
			return false, fmt.Errorf("it is %s", b.Backup.Status)
		}
		return b.Backup.Status == "available", nil
	}
	m.await("a backup", whole)
	v, err := m.alice.CreateVolume(m.Context(), client.NewVolume{Name: "restored", Size: 1, VolumeType: in})
	m.must(err)
	_, err = m.alice.WaitVolume(m.Context(), v.ID, nil, "available")
	m.must(err)
	var r struct{ Restore any }
	m.ask(http.MethodPost, "backups/"+b.Backup.ID+"/restore",
		map[string]any{"restore": map[string]any{"volume_id": v.ID}}, &r)
	m.await("a restore", whole)
	_, err = m.alice.WaitVolume(m.Context(), v.ID, nil, "available")
	m.must(err)
	if there, err := stored(m.Context(), m.stores[in], block.VolumeID(v.ID)); err != nil || !there {
		m.Errorf("the restored volume is not in %s: %v", in, err)
	}
	m.holds(h, v.ID, in)
}
