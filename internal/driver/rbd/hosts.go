package rbd

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Hosts says how hosts of the cluster reach the images of a store by
// themselves. What it holds is no secret.
type Hosts struct {
	User    string // the hosts' client id without "client."; "" where the cluster asks for no keys
	Secret  string // the UUID by which libvirt knows that client's key; "" if it doesn't
	Cluster string // the cluster's name, from which hosts find the key; "ceph" if ""
}

const (
	protocolRBD = "rbd"

	// lockName is the id of our lock on an image that is kept from hosts. While it
	// is there, no client gets the lock that librbd takes before it writes.
	lockName = "kvol"
	// lockTries is how often a client that takes an image anew is cut before our
	// lock is on it.
	lockTries = 20
	// blockedFor is how long the cluster refuses a client that was cut off. A
	// client that was stopped, and goes on later, has writes under way still.
	blockedFor = 365 * 24 * time.Hour
)

// Lending implements driver.Lender: what connection_info of type rbd has
// (cinder/volume/drivers/rbd.py, initialize_connection).
func (d *Driver) Lending(id block.VolumeID) (how driver.Lending, ok bool) {
	if d.o.Hosts == nil {
		return driver.Lending{}, false
	}
	d.mu.Lock()
	m := d.monitors
	d.mu.Unlock()
	data := map[string]any{
		"name": d.spec(id), "hosts": m.hosts, "ports": m.ports, "cluster_name": d.o.Hosts.Cluster,
		"auth_enabled": d.o.Hosts.User != "", "auth_username": orNil(d.o.Hosts.User), "secret_type": "ceph",
		"secret_uuid": orNil(d.o.Hosts.Secret), "discard": true,
	}
	return driver.Lending{Protocol: protocolRBD, Data: data}, true
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Lend implements driver.Lender. It is in the register before hosts can write.
func (d *Driver) Lend(ctx context.Context, id block.VolumeID) error {
	d.refreshMonitors(ctx)
	state, err := d.hostsOf(ctx, id)
	if err != nil || state == hostsLent {
		return err
	}
	v := d.volume(id)
	v.commands.Lock()
	defer v.commands.Unlock()
	if err := d.unlock(ctx, id); err != nil {
		return err
	}
	if err := d.enter(ctx, id, hostsLent); err != nil {
		return err
	}
	d.touch(v)
	return nil
}

// Reclaim implements driver.Lender.
func (d *Driver) Reclaim(ctx context.Context, id block.VolumeID) error {
	state, err := d.hostsOf(ctx, id)
	if err != nil || state == hostsNone {
		return err
	}
	v := d.volume(id)
	v.commands.Lock()
	defer v.commands.Unlock()
	if err := d.unlock(ctx, id); err != nil {
		return err
	}
	d.touch(v)
	return d.enter(ctx, id, hostsNone)
}

// Borrowers implements driver.Lender. A client that may write to an image
// watches it; one that had its lock and does not answer any more still has it.
func (d *Driver) Borrowers(ctx context.Context, id block.VolumeID) (who []driver.Borrower, err error) {
	v := d.volume(id)
	v.commands.Lock()
	defer v.commands.Unlock()
	err = d.alone(ctx, v, func() error {
		who, _, err = d.clients(ctx, id)
		return err
	})
	return who, err
}

// alone runs do while this process is no client of a volume's image: who reads a
// snapshot is one, too. The volume's commands have to be locked.
func (d *Driver) alone(ctx context.Context, v *volume, do func() error) error {
	d.mu.Lock()
	devices := slices.Clone(v.readers)
	if v.device != nil {
		devices = append(devices, v.device)
	}
	d.mu.Unlock()
	for _, dev := range devices {
		inner := do
		do = func() error { return dev.away(ctx, inner) }
	}
	return do()
}

// locker is who has a lock on an image.
type locker struct {
	ID      string `json:"id"`
	Locker  string `json:"locker"`
	Address string `json:"address"`
	mirror  bool   // it is an rbd-mirror
}

// clients lists who can write to an image, and who has a lock on it. An rbd-mirror
// watches what it copies, and writes nothing to it: it is not among the first.
func (d *Driver) clients(ctx context.Context, id block.VolumeID) (who []driver.Borrower, lockers []locker, err error) {
	var status struct {
		Watchers []struct {
			Address string `json:"address"`
		} `json:"watchers"`
	}
	if err := d.runJSON(ctx, &status, "status", d.spec(id)); err != nil {
		return nil, nil, err
	}
	if err := d.runJSON(ctx, &lockers, "lock", "ls", d.spec(id)); err != nil {
		return nil, nil, err
	}
	all := map[string]bool{}
	for _, w := range status.Watchers {
		all[w.Address] = true
	}
	for _, l := range lockers {
		if l.ID != lockName {
			all[l.Address] = true
		}
	}
	if len(all) == 0 {
		return nil, lockers, nil
	}
	mirrors, err := d.mirrors(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i, l := range lockers {
		lockers[i].mirror = mirrors[l.Address]
	}
	for _, address := range slices.Sorted(maps.Keys(all)) {
		if mirrors[address] {
			continue
		}
		who = append(who, driver.Borrower{Address: address, Host: hostOf(address)})
	}
	return who, lockers, nil
}

// hostOf is the IP address in an address of Ceph's, "192.0.2.7:0/123".
func hostOf(address string) string {
	host, _, err := splitAddress(address)
	if err != nil {
		return ""
	}
	return host
}

func splitAddress(address string) (host, port string, err error) {
	if i := strings.LastIndexByte(address, '/'); i >= 0 {
		address = address[:i]
	}
	return net.SplitHostPort(address)
}

// Cut implements driver.Lender. The cluster's monitors refuse a client from then
// on, and each OSD as soon as it has heard of it, which it has before it serves
// any request that was made after this returned.
func (d *Driver) Cut(ctx context.Context, id block.VolumeID, who []driver.Borrower) error {
	for _, b := range who {
		if d.wasCut(b.Address) {
			continue
		}
		_, err := d.run(ctx, command{"ceph", []string{"--conf", d.o.Conf, "--id", d.o.User, "--connect-timeout",
			seconds(d.o.Timeout), "osd", "blocklist", "add", b.Address, seconds(blockedFor)}})
		if err != nil {
			return err
		}
		d.noteCut(b.Address)
		d.o.Log.Warn("a client of the storage cluster was cut off", "volume", id, "client", b.Address)
	}
	return nil
}

const (
	// maxCut bounds the clients of which it is remembered that they were cut off.
	maxCut = 10_000
	// cutAge is for how long it is: an operator may take one off the blocklist, and
	// the kernel's client then goes on under the same address.
	cutAge = time.Minute
)

// wasCut reports whether this process cut a client off just now. A client's address
// is its own: it has a random number in it.
func (d *Driver) wasCut(address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.cut[address]
	return ok && d.o.Now().Sub(at).Abs() < cutAge
}

func (d *Driver) noteCut(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.cut) >= maxCut {
		clear(d.cut)
	}
	d.cut[address] = d.o.Now()
}

// Withhold implements driver.Lender.
func (d *Driver) Withhold(ctx context.Context, id block.VolumeID) error {
	if err := d.enter(ctx, id, hostsWithheld); err != nil {
		return err
	}
	v := d.volume(id)
	v.commands.Lock()
	defer v.commands.Unlock()
	err := d.alone(ctx, v, func() error { return d.lock(ctx, id) })
	d.touch(v)
	return err
}

// lock puts our lock on an image, and then cuts off whoever waits for it. Who has
// it is cut off first, and nothing else is done in between: others come meanwhile.
// An rbd-mirror only loses its lock, which it takes to remove its own snapshots.
func (d *Driver) lock(ctx context.Context, id block.VolumeID) error {
	for range lockTries {
		who, lockers, err := d.clients(ctx, id)
		if err != nil {
			return err
		}
		ours := slices.ContainsFunc(lockers, func(l locker) bool { return l.ID == lockName })
		if ours {
			return d.Cut(ctx, id, who)
		}
		for _, l := range lockers {
			holder := []driver.Borrower{{Address: l.Address, Host: hostOf(l.Address)}}
			if l.mirror {
				holder = nil
			}
			if err := d.Cut(ctx, id, holder); err != nil {
				return err
			}
			if err := d.dropLock(ctx, id, l); err != nil {
				return err
			}
		}
		_, err = d.run(ctx, d.rbd("lock", "add", d.spec(id), lockName))
		if err != nil && !block.Is(err, block.Conflict) {
			return err
		}
	}
	return block.Errorf(block.Unavailable, "Clients of the storage cluster take volume %s again and again.", id)
}

// dropLock removes a lock whose holder was cut off, or is ours.
func (d *Driver) dropLock(ctx context.Context, id block.VolumeID, l locker) error {
	_, err := d.run(ctx, d.rbd("--rbd_blocklist_on_break_lock=false", "lock", "rm", d.spec(id), l.ID, l.Locker))
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// unlock takes our lock off an image.
func (d *Driver) unlock(ctx context.Context, id block.VolumeID) error {
	var lockers []locker
	if err := d.runJSON(ctx, &lockers, "lock", "ls", d.spec(id)); err != nil {
		return err
	}
	for _, l := range lockers {
		if l.ID == lockName {
			if err := d.dropLock(ctx, id, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// changing runs commands that need the lock which our own keeps from others. Who
// waits for that lock is cut off before, or would have it the moment it is free. A
// host that opens the image between the two is cut off when ours is taken again.
func (d *Driver) changing(ctx context.Context, id block.VolumeID, do func() error) error {
	v := d.volume(id)
	state, err := d.hostsOf(ctx, id)
	if err != nil {
		return err
	}
	if state != hostsWithheld {
		v.commands.RLock()
		defer v.commands.RUnlock()
		return do()
	}
	v.commands.Lock()
	defer v.commands.Unlock()
	return d.alone(ctx, v, func() error {
		who, _, err := d.clients(ctx, id)
		if err != nil {
			return err
		}
		if err := d.Cut(ctx, id, who); err != nil {
			return err
		}
		err = d.unlock(ctx, id)
		if err == nil {
			err = do()
		}
		// Whatever became of the request, or of the unlocking, the lock comes back.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTries*d.o.Timeout)
		defer cancel()
		if again := d.lock(ctx, id); again != nil {
			return again
		}
		return err
	})
}

// relocks is how many images at once get their lock back.
const relocks = 8

// relock puts our lock on images that are withheld and lack it, since the process
// before this one ended between two commands. It is for who may change the store
// only: another process may have lent one meanwhile. Once it succeeded, it does
// nothing.
func (d *Driver) relock(ctx context.Context) {
	d.mu.Lock()
	done := d.relocked
	d.mu.Unlock()
	if done {
		return
	}
	if _, err := d.hostsOf(ctx, ""); err != nil {
		d.o.Log.Error("which volumes are withheld from hosts could not be read", "err", err)
		return
	}
	d.register.mu.Lock()
	state := maps.Clone(d.register.state)
	d.register.mu.Unlock()
	var wg sync.WaitGroup
	var failed atomic.Bool
	room := make(chan struct{}, relocks)
	for name, s := range state {
		if s != hostsWithheld {
			continue
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			id := block.VolumeID(name)
			err := d.o.InTurn(ctx, func() error { return d.withholdAgain(ctx, id) })
			if err != nil && !block.Is(err, block.NotFound) { // its removal was cut short
				failed.Store(true)
				d.o.Log.Error("a volume could not be withheld from hosts again", "volume", id, "err", err)
			}
		})
	}
	wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.relocked = !failed.Load()
}

// withholdAgain puts our lock on an image that is withheld, if it isn't there.
func (d *Driver) withholdAgain(ctx context.Context, id block.VolumeID) error {
	v := d.volume(id)
	v.commands.Lock()
	defer v.commands.Unlock()
	state, err := d.hostsOf(ctx, id)
	if err != nil || state != hostsWithheld {
		return err // it was lent meanwhile
	}
	var lockers []locker
	if err := d.runJSON(ctx, &lockers, "lock", "ls", d.spec(id)); err != nil {
		return err
	}
	if slices.ContainsFunc(lockers, func(l locker) bool { return l.ID == lockName }) {
		return nil // who waits goes on waiting
	}
	return d.alone(ctx, v, func() error { return d.lock(ctx, id) })
}
