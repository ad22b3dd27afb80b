package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/backups"

	"kvol/internal/backup/storetest"
	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/test/port"
)

// keeperConfig is a zone's configuration: name, index, two addresses, a volume
// type, a project, and where backups are kept.
const keeperConfig = `
zone: %[1]s
index: %[2]d
listen: %[3]s
exports: {nbd: "%[4]s"}
availability_zones: [a]
default_volume_type: ssd
stores: [{name: main, driver: logstore}]
backends: [{name: fast, store: main}]
volume_types: [{id: %[5]s, name: ssd, extra_specs: {volume_backend_name: fast}}]
identity:
  projects: [{id: %[6]s, name: blue}]
  users: [{name: alice, password: a long password, roles: [{project: blue, role: admin}]}]
backup: %[7]s
`

// keeper is a zone that makes backups.
type keeper struct {
	*victim
	*testing.T
	s   *client.Session
	api *gophercloud.ServiceClient
}

// keepers starts two zones that know nothing of each other and keep backups in
// the same place.
func keepers(t *testing.T, section string, files map[string]string) (left, right *keeper) {
	t.Helper()
	ports := port.Addresses(t, 4)
	var all []*keeper
	for i, name := range []string{"left", "right"} {
		v := &victim{name: name, typeID: block.NewID(), dir: filepath.Join(t.TempDir(), name), url: "http://" + ports[2*i]}
		if err := os.MkdirAll(v.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		all = append(all, &keeper{victim: v, T: t})
		config := fmt.Sprintf(keeperConfig, name, i+1, ports[2*i], ports[2*i+1], v.typeID, blue, section)
		if err := os.WriteFile(filepath.Join(v.dir, "kvol.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(v.dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { v.kill(t) })
		all[i].run()
	}
	return all[0], all[1]
}

// run starts the zone, and logs in.
func (k *keeper) run() {
	k.Helper()
	k.start(k.T)
	k.s = k.session(k.T)
	provider, err := openstack.NewClient(k.url + "/identity/v3")
	k.must(err)
	k.must(openstack.AuthenticateV3(k.Context(), provider, &gophercloud.AuthOptions{Username: "alice",
		Password: "a long password", DomainName: "Default", TenantID: blue}, gophercloud.EndpointOpts{}))
	k.api, err = openstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{})
	k.must(err)
}

func (k *keeper) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// volume makes an empty volume of 1 GiB.
func (k *keeper) volume() string {
	k.Helper()
	v, err := k.s.CreateVolume(k.Context(), client.NewVolume{Size: 1})
	k.must(err)
	_, err = k.s.WaitVolume(k.Context(), v.ID, nil, "available")
	k.must(err)
	return v.ID
}

// on runs something on a volume through NBD.
func (k *keeper) on(volume string, fn func(*nbd.Conn) error) {
	k.Helper()
	info, err := k.s.Connect(k.Context(), volume, connector)
	k.must(err)
	c, err := nbd.Dial(k.Context(), info.NBDURL(), nbd.Options{})
	k.must(err)
	k.must(errors.Join(fn(c), c.Close(), k.s.Disconnect(k.Context(), volume, connector)))
}

// fill writes noise of its own at offsets.
func (k *keeper) fill(volume string, seed byte, offsets ...int64) {
	k.Helper()
	noise := rand.NewChaCha8([32]byte{seed})
	k.on(volume, func(c *nbd.Conn) error {
		p := make([]byte, 100_000&^511)
		for _, off := range offsets {
			_, _ = noise.Read(p) // never fails
			if _, err := c.WriteAt(p, off); err != nil {
				return err
			}
		}
		return c.Flush()
	})
}

// content reads the first bytes of a volume and its end.
func (k *keeper) content(volume string) []byte {
	k.Helper()
	const begin, end = 8 << 20, 1 << 20
	p := make([]byte, begin+end)
	k.on(volume, func(c *nbd.Conn) error {
		_, err := c.ReadAt(p[:begin], 0)
		_, endErr := c.ReadAt(p[begin:], 1<<30-end)
		return errors.Join(err, endErr)
	})
	return p
}

// backUp makes a backup and waits until it is available.
func (k *keeper) backUp(o backups.CreateOpts) *backups.Backup {
	k.Helper()
	b, err := backups.Create(k.Context(), k.api, o).Extract()
	k.must(err)
	return k.await(b.ID, "available")
}

func (k *keeper) await(id, status string) (b *backups.Backup) {
	k.Helper()
	k.must(client.Poll(k.Context(), 10*time.Millisecond, func() (bool, error) {
		got, err := backups.Get(k.Context(), k.api, id).Extract()
		if err != nil {
			return false, err
		}
		if b = got; strings.HasPrefix(b.Status, "error") && b.Status != status {
			k.Fatalf("backup %s is in %s: %s", id, b.Status, b.FailReason)
		}
		return b.Status == status, nil
	}))
	return b
}

// restore writes a backup to a volume, a new one for "", and returns its id.
func (k *keeper) restore(backup, volume string) string {
	k.Helper()
	r, err := backups.RestoreFromBackup(k.Context(), k.api, backup, backups.RestoreOpts{VolumeID: volume}).Extract()
	k.must(err)
	_, err = k.s.WaitVolume(k.Context(), r.VolumeID, nil, "available")
	k.must(err)
	k.await(backup, "available")
	return r.VolumeID
}

// wantContent restores a backup and compares.
func (k *keeper) wantContent(what, backup, volume string, want []byte) {
	k.Helper()
	if got := k.content(k.restore(backup, volume)); !bytes.Equal(got, want) {
		k.Errorf("%s: the volume reads otherwise", what)
	}
}

// TestBackups goes through a zone from outside, with a repository in a bucket
// and in a directory.
func TestBackups(t *testing.T) {
	t.Run("s3", func(t *testing.T) {
		c := storetest.S3(t)
		left, right := keepers(t, fmt.Sprintf("{s3: {endpoint: %q, bucket: %s, prefix: %s, credentials: keys}}", c.Endpoint,
			c.Bucket, c.Prefix), map[string]string{"keys": fmt.Sprintf("access_key: %s\nsecret_key: %s\n",
			c.Credentials.AccessKey, c.Credentials.SecretKey)})
		chain(left, right)
		for _, k := range []*keeper{left, right} {
			log, err := os.ReadFile(filepath.Join(k.dir, "log"))
			k.must(err)
			if bytes.Contains(log, []byte(c.Credentials.SecretKey)) {
				t.Errorf("the log of %s has the secret", k.name)
			}
		}
	})
	t.Run("directory", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "backups")
		left, right := keepers(t, fmt.Sprintf("{directory: %q}", dir), nil)
		chain(left, right)
		killed(left, dir)
		damaged(left, dir)
	})
}

// chain makes a full backup, an incremental one, one of a snapshot, and one
// while a writer writes; restores them; and takes one to another zone.
func chain(left, right *keeper) {
	left.Helper()
	v := left.volume()
	left.fill(v, 1, 0, 6<<20, 1<<30-1<<20)
	first := left.content(v)
	full := left.backUp(backups.CreateOpts{VolumeID: v, Name: "full"})
	left.fill(v, 2, 3<<20, 6<<20)
	second := left.content(v)
	sn, err := left.s.CreateSnapshot(left.Context(), client.NewSnapshot{VolumeID: v})
	left.must(err)
	_, err = left.s.WaitSnapshot(left.Context(), sn.ID, "available")
	left.must(err)
	left.fill(v, 3, 0)
	third := left.content(v)
	of := left.backUp(backups.CreateOpts{VolumeID: v, SnapshotID: sn.ID, Incremental: true})
	last := left.backUp(backups.CreateOpts{VolumeID: v, Incremental: true})
	if full.IsIncremental || !of.IsIncremental || !last.IsIncremental || last.ObjectCount >= full.ObjectCount {
		left.Errorf("full %+v\nof a snapshot %+v\nlast %+v", full, of, last)
	}
	writing(left, v)

	err = backups.Delete(left.Context(), left.api, full.ID).ExtractErr()
	if !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) ||
		!strings.Contains(err.Error(), "Incremental backups exist") {
		left.Errorf("the middle of a chain is deleted: %v", err)
	}
	left.wantContent("full, to a new volume", full.ID, "", first)
	left.wantContent("of a snapshot, to the volume itself", of.ID, v, second)

	record, err := backups.Export(left.Context(), left.api, last.ID).Extract()
	left.must(err)
	imported, err := backups.Import(right.Context(), right.api, backups.ImportOpts(*record)).Extract()
	right.must(err)
	right.await(imported.ID, "available")
	right.wantContent("in another zone", imported.ID, "", third)
	right.must(backups.Delete(right.Context(), right.api, imported.ID).ExtractErr())
	right.gone(imported.ID)
	left.wantContent("after the other zone deleted it", last.ID, "", third)
}

func (k *keeper) gone(id string) {
	k.Helper()
	k.must(client.Poll(k.Context(), 10*time.Millisecond, func() (bool, error) {
		_, err := backups.Get(k.Context(), k.api, id).Extract()
		if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return true, nil
		}
		return false, err
	}))
}

// most is how many numbers a writer has on its volume, each in a block of its
// own.
const most = 500

func number(c *nbd.Conn, i int64, n uint64) error {
	p := make([]byte, 512)
	binary.LittleEndian.PutUint64(p, n)
	_, err := c.WriteAt(p, 1<<20+i<<16)
	return err
}

// writing makes a backup of a volume in use while a writer counts on, round by
// round through its blocks: what is restored is one moment of that.
func writing(k *keeper, v string) {
	k.Helper()
	info, err := k.s.Connect(k.Context(), v, connector)
	k.must(err)
	k.must(k.s.VolumeAction(k.Context(), v, "os-attach", map[string]any{"host_name": "e2e-host", "mountpoint": "/dev/vdb"},
		nil))
	c, err := nbd.Dial(k.Context(), info.NBDURL(), nbd.Options{})
	k.must(err)
	for i := range int64(most) {
		k.must(number(c, i, uint64(i)))
	}
	ctx, stop := context.WithCancel(k.Context())
	ended, atWork := make(chan error, 1), make(chan struct{})
	go func() {
		var err error
		for n := int64(most); ctx.Err() == nil && err == nil; n++ {
			if n == 2*most+1 {
				close(atWork)
			}
			err = number(c, n%most, uint64(n))
		}
		ended <- err
	}()
	select {
	case <-atWork:
	case err := <-ended:
		k.Fatalf("the writer ended: %v", err)
	}
	_, err = backups.Create(k.Context(), k.api, backups.CreateOpts{VolumeID: v}).Extract()
	if !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) ||
		!strings.Contains(err.Error(), "must use the force flag") {
		k.Errorf("a backup of a volume in use, without force: %v", err)
	}
	b := k.backUp(backups.CreateOpts{VolumeID: v, Incremental: true, Force: true})
	stop()
	k.must(<-ended)
	k.must(errors.Join(c.Close(), k.s.VolumeAction(k.Context(), v, "os-detach", map[string]any{}, nil),
		k.s.Disconnect(k.Context(), v, connector)))
	k.on(k.restore(b.ID, ""), func(c *nbd.Conn) error { return oneMoment(k, c) })
	k.must(backups.Delete(k.Context(), k.api, b.ID).ExtractErr())
	k.gone(b.ID)
}

// oneMoment looks for the block that was written last: those before it are of
// the same round, those after it of the round before.
func oneMoment(k *keeper, c *nbd.Conn) error {
	k.Helper()
	var all []uint64
	p := make([]byte, 512)
	for i := range int64(most) {
		if _, err := c.ReadAt(p, 1<<20+i<<16); err != nil {
			return err
		}
		all = append(all, binary.LittleEndian.Uint64(p))
	}
	newest := slices.Max(all)
	for i, n := range all {
		want := newest - newest%most + uint64(i)
		if want > newest {
			want -= most
		}
		if n != want {
			k.Errorf("block %d has %d, want %d; the newest is %d", i, n, want, newest)
		}
	}
	if newest < 2*most {
		k.Errorf("the writer was not at work: it came to %d", newest)
	}
	return nil
}

// killed ends the zone with SIGKILL in the middle of a backup: the next process
// goes on with it.
func killed(k *keeper, dir string) {
	k.Helper()
	v := k.volume()
	var offsets []int64
	for page := range int64(16) {
		for i := range int64(32) {
			offsets = append(offsets, page<<26+i<<20)
		}
	}
	place := func(kind, id string) string { return filepath.Join(dir, "left", blue, kind, id) }
	var backup string
	var want []byte
	for seed, midway := byte(40), false; !midway; seed++ {
		k.fill(v, seed, offsets...) // nothing of it is in the repository yet
		want = k.content(v)
		b, err := backups.Create(k.Context(), k.api, backups.CreateOpts{VolumeID: v}).Extract()
		k.must(err)
		backup = b.ID
		k.must(client.Poll(k.Context(), time.Millisecond, func() (bool, error) {
			if _, err := os.Stat(place("unfinished", backup)); err == nil {
				return true, nil // it is there after the first checkpoint
			}
			got, err := backups.Get(k.Context(), k.api, backup).Extract()
			return err == nil && got.Status != "creating", err
		}))
		k.kill(k.T)
		_, err = os.Stat(place("manifests", backup))
		if midway = errors.Is(err, fs.ErrNotExist); !midway {
			k.Logf("the backup was finished when its zone was killed, %v: once more", err)
		}
		k.run()
	}
	done := k.await(backup, "available")
	if done.ObjectCount < len(offsets) {
		k.Errorf("it has %d objects", done.ObjectCount)
	}
	if _, err := os.Stat(place("unfinished", backup)); !errors.Is(err, fs.ErrNotExist) {
		k.Errorf("its beginning is left: %v", err)
	}
	k.wantContent("after a kill", backup, "", want)
}

// damaged changes a bit in a chunk: the restore fails, and says so to whom the backup
// belongs. What is damaged is put away, and the collection that follows finds which
// backups lack it.
func damaged(k *keeper, dir string) {
	k.Helper()
	v := k.volume()
	k.fill(v, 5, 5<<20)
	known := chunkFiles(k, dir)
	b := k.backUp(backups.CreateOpts{VolumeID: v})
	var object string
	for path := range chunkFiles(k, dir) {
		if info, err := os.Stat(path); !known[path] && err == nil && info.Size() > 40_000 { // of data, not a page
			object = path
		}
	}
	p, err := os.ReadFile(object)
	k.must(err)
	p[len(p)/2] ^= 1
	k.must(os.WriteFile(object, p, 0o600))
	_, err = backups.RestoreFromBackup(k.Context(), k.api, b.ID, backups.RestoreOpts{VolumeID: v}).Extract()
	k.must(err)
	_, err = k.s.WaitVolume(k.Context(), v, nil, "error_restoring")
	k.must(err)
	b = k.await(b.ID, "error")
	name, err := filepath.Rel(dir, object)
	k.must(err)
	if b.FailReason != "The backup's object "+name+" is missing." {
		k.Errorf("it says %q", b.FailReason)
	}
	var answer struct {
		Messages []struct {
			EventID     string `json:"event_id"`
			UserMessage string `json:"user_message"`
		} `json:"messages"`
	}
	_, err = k.api.Get(k.Context(), k.api.ServiceURL("messages")+"?resource_uuid="+b.ID, &answer,
		&gophercloud.RequestOpts{MoreHeaders: map[string]string{"OpenStack-API-Version": "volume 3.5"}})
	k.must(err)
	var events []string
	for _, m := range answer.Messages {
		events = append(events, m.EventID)
	}
	slices.Sort(events)
	if !slices.Equal(events, []string{"VOLUME_VOLUME_BACKUP_013_020", "VOLUME_VOLUME_BACKUP_015_026"}) {
		k.Errorf("messages %+v", answer.Messages)
	}
}

func chunkFiles(k *keeper, dir string) map[string]bool {
	k.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "left", blue, "chunks", "*", "*"))
	k.must(err)
	all := map[string]bool{}
	for _, f := range files {
		all[f] = true
	}
	return all
}
