package control_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/logstore"
	"kvol/internal/export/exporttest"
	"kvol/internal/keystore"
	"kvol/internal/luks"
)

// encryptedOn makes a type on a backend, all of whose volumes are encrypted with
// keys of so many bits.
func (z *zone) encryptedOn(backend, name, provider, where string, bits int64) block.VolumeType {
	z.t.Helper()
	vt, err := z.CreateType(z.ctx, operator, block.VolumeType{Name: name, Public: true,
		ExtraSpecs: map[string]string{"volume_backend_name": backend}})
	must(z.t, err)
	_, err = z.CreateTypeEncryption(z.ctx, operator, block.TypeEncryption{TypeID: vt.ID, Provider: provider,
		ControlLocation: where, Cipher: ptr("aes-xts-plain64"), KeySize: &bits})
	must(z.t, err)
	return vt
}

// scattered are places of a volume of 1 GiB, of which some are not whole sectors.
var scattered = []int64{0, 5000, 1 << 20, 64<<20 - 7, 1<<30 - 3<<20}

// scatter writes text to a volume, as a host does, with zeros in between.
func (z *zone) scatter(v block.Volume) {
	z.t.Helper()
	z.exported(v, func(x device) {
		for i, off := range scattered {
			_, err := x.WriteAt(fmt.Appendf(nil, "%d %s", i, hushed), off)
			must(z.t, err)
		}
	})
}

type device interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
}

// exported opens a volume as a host does.
func (z *zone) exported(v block.Volume, fn func(device)) {
	z.t.Helper()
	name, _ := z.connect(v.ID, map[string]any{"host": "h"})
	x, err := z.Exports().Open(z.ctx, name)
	must(z.t, err)
	defer x.Release()
	fn(x.Device)
}

// wantScattered wants a host to read what scatter wrote, and zeros around it.
func (z *zone) wantScattered(v block.Volume) {
	z.t.Helper()
	z.exported(v, func(x device) {
		for i, off := range scattered {
			want := fmt.Sprintf("%d %s\x00\x00\x00", i, hushed)
			p := make([]byte, len(want))
			if _, err := x.ReadAt(p, off); err != nil || string(p) != want {
				z.t.Errorf("at %d a host reads %q, %v", off, p, err)
			}
		}
	})
}

// reencryptions are volumes that are encrypted in another way, or not any more.
var reencryptions = map[string]scenario{
	"encrypt":                    {func(z *zone) func(bool) { return z.prepareReencrypt(0, 256, "fast") }},
	"encrypt on another store":   {func(z *zone) func(bool) { return z.prepareReencrypt(0, 512, "slow") }},
	"decrypt":                    {func(z *zone) func(bool) { return z.prepareReencrypt(256, 0, "twin") }},
	"another key":                {func(z *zone) func(bool) { return z.prepareReencrypt(256, 512, "fast") }},
	"another key, another store": {func(z *zone) func(bool) { return z.prepareReencrypt(512, 256, "slow") }},
}

// prepareReencrypt retypes a volume from keys of so many bits to others; 0 is
// not encrypted.
func (z *zone) prepareReencrypt(from, to int64, backend string) func(bool) {
	name := func(bits int64, where string) string {
		if bits == 0 {
			return where
		}
		return z.encryptedOn(where, fmt.Sprint(where, bits), "luks", block.BackEnd, bits).Name
	}
	was, is := name(from, "fast"), name(to, backend)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &was})
	z.scatter(v)
	must(z.t, z.RetypeVolume(z.ctx, alice, v.ID, is, control.MigrateOnDemand))
	return func(failed bool) {
		z.t.Helper()
		z.keysAreThere()
		got := z.volume(v.ID)
		if failed {
			if got.TypeName != was || got.Status != block.VolumeAvailable || got.Encrypted != (from > 0) ||
				got.MigrationStatus != block.MigrationError {
				z.t.Errorf("the volume is %+v", got)
			}
			z.wantScattered(got)
			must(z.t, z.RetypeVolume(z.ctx, alice, v.ID, is, control.MigrateOnDemand)) // which takes away what is left
			z.work(z.ctx)
			got = z.volume(v.ID)
		}
		if got.TypeName != is || got.Backend != backend || got.Status != block.VolumeAvailable ||
			got.Encrypted != (to > 0) || got.MigrationStatus != block.MigrationSuccess {
			z.t.Errorf("the volume is %+v", got)
		}
		z.wantScattered(got)
		z.wantStored(string(v.ID))
		if to == 0 {
			z.wantSecrets("a clear volume", 0)
			return
		}
		z.wantSecrets("an encrypted volume", 1)
		z.wantUnreadable(got)
		if _, key, err := keystore.NewService(z.catalog, z.Sealer()).Payload(z.ctx, alice, got.Encryption.Key); err != nil ||
			int64(len(key))*8 != to || v.Encryption != nil && got.Encryption.Key == v.Encryption.Key {
			z.t.Errorf("the key has %d bytes, %v", len(key), err)
		}
	}
}

// TestReencryptKilled kills the zone at each kind of call that a retype makes
// to another encryption, the first time and the last, before and after it is
// carried out. The volume has its content at each time that hosts may see it.
func TestReencryptKilled(t *testing.T) {
	for _, name := range []string{"another key", "encrypt on another store"} {
		s := reencryptions[name]
		var steps []string
		watch := func(z *zone, hit func(n int) error) {
			var mu sync.Mutex
			n := 0
			rule := func(store string) func(drivertest.Call) error {
				return func(c drivertest.Call) error {
					mu.Lock()
					defer mu.Unlock()
					if n++; n > len(steps) {
						steps = append(steps, fmt.Sprint(store, " ", c.Op, " ", c.After))
					}
					return hit(n)
				}
			}
			z.fast.SetRule(rule("fast"))
			z.slow.SetRule(rule("slow"))
		}
		synctest.Test(t, func(t *testing.T) {
			z := newZone(t)
			check := s.prepare(z)
			watch(z, func(int) error { return nil })
			z.work(z.ctx)
			z.leaveAlone()
			check(false)
		})
		all := slices.Clone(steps)
		for i, step := range all {
			if slices.Contains(all[:i], step) && slices.Contains(all[i+1:], step) {
				continue
			}
			t.Run(fmt.Sprint(name, " ", i, " ", step), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					z := newZone(t)
					check := s.prepare(z)
					ctx, dies := context.WithCancel(z.ctx)
					defer dies()
					watch(z, func(n int) error {
						if n <= i {
							return nil
						}
						dies()
						return context.Canceled
					})
					z.work(ctx)
					z.leaveAlone()
					z.restart()
					z.work(z.ctx)
					check(false)
					z.settled()
				})
			})
		}
		if len(all) < 10 {
			t.Errorf("%s: steps %v", name, all)
		}
	}
}

// TestNoWayBack: while the copy takes the place of a volume on its own store,
// nobody gets at what lies there, nor says that it is something else. The volume
// may be deleted by force.
func TestNoWayBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		check := z.prepareReencrypt(0, 256, "fast")
		v := z.only()
		name, _ := z.connect(v.ID, map[string]any{"host": "h"})
		calls := 0
		z.fast.SetRule(func(c drivertest.Call) error {
			if c.Op != drivertest.OpCloneSnapshot || c.After {
				return nil
			}
			if calls++; calls > 20 {
				return nil
			}
			if err := z.ResetVolumeStatus(z.ctx, operator, v.ID, control.VolumeReset{Status: ptr("available")}); !block.Is(err,
				block.Invalid) {
				t.Errorf("its status is reset: %v", err)
			}
			if _, err := z.Exports().Open(z.ctx, name); !block.Is(err, block.Unavailable) {
				t.Errorf("a host opens it: %v", err)
			}
			return block.Errorf(block.NoSpace, "The store is full.")
		})
		z.work(z.ctx) // which waits for the store as long as that takes
		z.leaveAlone()
		check(false)

		clear := z.make(control.NewVolume{Size: ptr(int64(1))})
		must(t, z.RetypeVolume(z.ctx, alice, clear.ID, z.volume(v.ID).TypeName, control.MigrateOnDemand))
		z.fast.SetRule(func(c drivertest.Call) error {
			if c.Op == drivertest.OpCloneSnapshot && !c.After {
				must(t, ignoreConflict(z.ForceDeleteVolume(z.ctx, operator, clear.ID)))
			}
			return nil
		})
		z.work(z.ctx)
		z.leaveAlone()
		if _, err := z.Volume(z.ctx, operator, clear.ID); !block.Is(err, block.NotFound) {
			t.Errorf("a volume that was deleted by force: %v", err)
		}
		z.wantStored(string(v.ID))
		z.wantSecrets("the first volume", 1)
	})
}

func ignoreConflict(err error) error {
	if block.Is(err, block.Invalid) { // it is being deleted already
		return nil
	}
	return err
}

// only is the zone's one volume.
func (z *zone) only() block.Volume {
	z.t.Helper()
	all, err := z.Volumes(z.ctx, operator, block.ListQuery{Limit: -1})
	must(z.t, err)
	if len(all) != 1 {
		z.t.Fatalf("volumes: %v", all)
	}
	return all[0]
}

// TestReencryptStopped: an administrator who says that the volume does not move
// stops it, and nothing stays behind.
func TestReencryptStopped(t *testing.T) {
	for what, reset := range map[string]control.VolumeReset{
		"migration status": {MigrationStatus: ptr("none")}, "status": {Status: ptr("available")},
	} {
		t.Run(what, func(t *testing.T) {
			z := newZone(t)
			vt := z.encryptedOn("fast", "hushed", "luks", block.BackEnd, 256)
			v := z.make(control.NewVolume{Size: ptr(int64(1))})
			z.scatter(v)
			must(t, z.RetypeVolume(z.ctx, alice, v.ID, vt.Name, control.MigrateOnDemand))
			var once sync.Once
			z.fast.SetRule(func(drivertest.Call) error {
				once.Do(func() { must(t, z.ResetVolumeStatus(z.ctx, operator, v.ID, reset)) })
				return nil
			})
			z.work(z.ctx)
			z.leaveAlone()
			got := z.volume(v.ID)
			if got.Status != block.VolumeAvailable || got.TypeName != "fast" || got.Encrypted || got.Migrating() {
				t.Errorf("the volume is %+v", got)
			}
			z.wantScattered(got)
			z.wantStored(string(v.ID))
			z.wantSecrets("a clear volume", 0)
		})
	}
}

// TestReencryptRefused: which volumes may not get a type that encrypts in
// another way, and what their project is told.
func TestReencryptRefused(t *testing.T) {
	z := newZone(t)
	zoned := z.encryptedOn("fast", "zoned", "luks", block.BackEnd, 256)
	plain := z.encryptedOn("fast", "plain", "plain", block.FrontEnd, 256)
	hosted := z.encryptedOn("fast", "hosted", "luks", block.FrontEnd, 256)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	id := string(v.ID)
	retype := func(to block.VolumeType, policy string) error {
		return z.RetypeVolume(z.ctx, alice, v.ID, to.Name, policy)
	}
	wantError(t, "plain", retype(plain, control.MigrateOnDemand), block.Invalid, "Invalid input received: Only hosts "+
		"know volumes that are encrypted as volume "+id+" is, or as those of type plain are.")
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
	wantError(t, "in use", retype(zoned, control.MigrateOnDemand), block.Invalid, "Invalid volume: Volume "+id+
		" must be available to get a type that encrypts in another way, but is in-use.")
	wantError(t, "sharing in use", z.RetypeVolume(z.ctx, alice, v.ID, "shared", control.MigrateNever), block.Invalid,
		"Invalid input received: Invalid volume_type passed, retypes affecting multiattach are only allowed on available "+
			"volumes, the specified volume however currently has a status of: in-use.")
	must(t, z.Detach(z.ctx, alice, v.ID, nil))
	both, err := z.CreateType(z.ctx, operator, block.VolumeType{Name: "both", Public: true,
		ExtraSpecs: map[string]string{"volume_backend_name": "fast", "multiattach": "<is> True"}})
	must(t, err)
	_, err = z.CreateTypeEncryption(z.ctx, operator, block.TypeEncryption{TypeID: both.ID, Provider: "luks",
		ControlLocation: block.BackEnd})
	must(t, err)
	wantError(t, "both", retype(both, control.MigrateOnDemand), block.Invalid, "Invalid input received: Retype requested "+
		"both encryption and multi-attach, which is not supported.")
	fails := func(what string, to block.VolumeType, policy, told string) {
		t.Helper()
		was := z.volume(v.ID)
		must(t, retype(to, policy))
		z.work(z.ctx)
		if got := z.volume(v.ID); got.Status != block.VolumeAvailable || got.TypeName != was.TypeName ||
			got.Encrypted != was.Encrypted {
			t.Errorf("%s: the volume is %+v", what, got)
		}
		z.wantMessage(told)
	}
	fails("never", zoned, control.MigrateNever, "retype volume:Retype requires migration but is not allowed.")
	sn := z.snap(v.ID)
	fails("snapshots", zoned, control.MigrateOnDemand, "retype volume:The volume has snapshots")
	must(t, z.DeleteSnapshot(z.ctx, alice, sn.ID))
	z.work(z.ctx)
	z.write(v, []byte("end"), block.GiB-3)
	fails("to its end", hosted, control.MigrateOnDemand, "retype volume:The volume is in use up to its end")
	z.wantSecrets("a clear volume", 0)
	z.wantStored(id)

	v = z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &hosted.Name})
	z.hostWrites(v, []byte("LUKS\xba\xbe\x00\x02 the second version is not read"))
	fails("second version", zoned, control.MigrateOnDemand, "retype volume:What lies on the volume is no LUKS container")
	z.hostWrites(v, []byte("no header at all, nor nothing"))
	v = z.volume(v.ID)
	fails("no container", zoned, control.MigrateOnDemand, "retype volume:What lies on the volume is no LUKS container")
	z.wantSecrets("an encrypted volume", 1)
}

// TestReencryptForHosts makes of a volume, on the engine that zones have, a
// container that cryptsetup and qemu open. What was zeros reads as zeros there.
func TestReencryptForHosts(t *testing.T) {
	z := newZone(t)
	store, err := logstore.Open(z.ctx, logstore.Options{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() {
		must(t, store.Check(context.WithoutCancel(t.Context())))
		must(t, store.Close())
	})
	z.fast = drivertest.NewFaults(store)
	z.restart()
	hosted := z.encryptedOn("fast", "hosted", "luks", block.FrontEnd, 256)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.scatter(v)
	must(t, z.RetypeVolume(z.ctx, alice, v.ID, hosted.Name, control.MigrateOnDemand))
	z.work(z.ctx)
	v = z.volume(v.ID)
	if !v.Encrypted || v.Encryption == nil || v.Status != block.VolumeAvailable || v.TypeName != hosted.Name {
		t.Fatalf("the volume is %+v", v)
	}
	z.wantUnreadable(v)
	z.wantStored(string(v.ID))
	key := z.passphrase(alice, v)
	must(t, z.opens(v, key))
	if z.opens(v, []byte("nonsense")) == nil {
		t.Error("any passphrase opens it")
	}
	z.qemuReads(v, key)
}

// TestReencryptFromHosts takes a volume, on which a host made a container with
// cryptsetup and wrote to it, to one that the zone encrypts.
func TestReencryptFromHosts(t *testing.T) {
	z := newZone(t)
	hosted := z.encryptedOn("fast", "hosted", "luks", block.FrontEnd, 256)
	zoned := z.encryptedOn("twin", "zoned", "luks", block.BackEnd, 512)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &hosted.Name})
	key, dir := z.passphrase(alice, v), t.TempDir()
	disk, secret := filepath.Join(dir, "disk"), filepath.Join(dir, "secret")
	must(t, os.WriteFile(disk, make([]byte, 8<<20), 0o600))
	must(t, os.WriteFile(secret, key, 0o600))
	must(t, cryptsetup(t, key, "luksFormat", "--batch-mode", "--type", "luks1", "--cipher", "aes-xts-plain64",
		"--key-size", "256", "--pbkdf-force-iterations", "1500", "--key-file", "-", disk))
	out, err := exec.CommandContext(t.Context(), exporttest.Tool(t, "qemu-io"), "--object", "secret,id=s,file="+secret,
		"--image-opts", "driver=luks,key-secret=s,file.driver=file,file.filename="+disk,
		"-c", "write -P 0x3c 0 64k", "-c", "write -P 0 64k 64k", "-c", "write -P 0x5a 1M 512").CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-io: %v %s", err, out)
	}
	container, err := os.ReadFile(disk)
	must(t, err)
	z.hostWrites(v, container)
	must(t, z.RetypeVolume(z.ctx, alice, v.ID, zoned.Name, control.MigrateOnDemand))
	z.work(z.ctx)
	got := z.volume(v.ID)
	if got.TypeName != "zoned" || got.Backend != "twin" || !got.Encryption.ByZone() ||
		got.Encryption.Key == v.Encryption.Key {
		t.Fatalf("the volume is %+v", got)
	}
	z.wantSecrets("one volume", 1)
	z.wantStored(string(v.ID))
	z.exported(got, func(x device) {
		for off, want := range map[int64]byte{0: 0x3c, 65535: 0x3c, 65536: 0, 1 << 20: 0x5a, 1<<20 + 512: 0} {
			p := make([]byte, 1)
			if _, err := x.ReadAt(p, off); err != nil || p[0] != want {
				t.Errorf("at %d it reads %#x, %v, want %#x", off, p[0], err, want)
			}
		}
	})
}

// qemuReads has qemu open the container on a volume, and compare its first MiBs
// with what scatter wrote.
func (z *zone) qemuReads(v block.Volume, passphrase []byte) {
	z.t.Helper()
	dir := z.t.TempDir()
	container, secret, clear := filepath.Join(dir, "container"), filepath.Join(dir, "secret"), filepath.Join(dir, "clear")
	const size = 4 << 20
	must(z.t, os.WriteFile(container, []byte(z.content(v, luks.HeaderSize+size)), 0o600))
	must(z.t, os.WriteFile(secret, passphrase, 0o600))
	out, err := exec.CommandContext(z.t.Context(), exporttest.Tool(z.t, "qemu-img"), "convert", "-O", "raw", "--object",
		"secret,id=s,file="+secret, "--image-opts", "driver=luks,key-secret=s,file.driver=file,file.filename="+container,
		clear).CombinedOutput()
	if err != nil {
		z.t.Fatalf("qemu-img: %v %s", err, out)
	}
	got, err := os.ReadFile(clear)
	must(z.t, err)
	want := make([]byte, size)
	for i, off := range scattered {
		if off < size {
			copy(want[off:], fmt.Sprintf("%d %s", i, hushed))
		}
	}
	if string(got) != string(want) {
		z.t.Errorf("qemu reads %d bytes that begin with %q", len(got), strings.TrimRight(string(got[:80]), "\x00"))
	}
}
