package rbd

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/program"
)

// Options say where the images are and how long to wait for the cluster.
type Options struct {
	Conf      string        // path of ceph.conf
	User      string        // the client's id without "client."; default "admin"
	Pool      string        // default "rbd"
	Namespace string        // of the pool; "" for the default one. It has to be there
	Timeout   time.Duration // of one operation of a change; default 10 s
	// IOTimeout is how long a read or write waits for the cluster before it
	// fails with Unavailable; default 30 s. The host behind it sees EIO then.
	IOTimeout time.Duration
	// Stall is for how much longer than IOTimeout a request may be under way, as one
	// is that waits for a dead client's lock, before the client process that does not
	// answer it is killed; default 60 s.
	Stall time.Duration
	// Sweep is how long the sweeper rests at most before it looks again for what can
	// be removed by now; default 10 minutes.
	Sweep time.Duration
	// Hosts says how hosts use the images themselves; nil: they don't, and every
	// byte goes through this process. The namespace is the default one then, since
	// os-brick has no words for others.
	Hosts *Hosts
	// Owner names the store, of whatever zone it is. A namespace is of the one that
	// opened it first; "" doesn't look.
	Owner string
	// Several says that other processes may have had the store before this one, and
	// believe that they still have: they are cut off, volume by volume, before one is
	// opened here.
	Several bool
	// InTurn carries out a change that nobody asked for, while it is this process's
	// turn to change the store; by default it just does.
	InTurn func(ctx context.Context, do func() error) error
	Log    *slog.Logger     // default: none
	Now    func() time.Time // default: time.Now
}

func (o *Options) defaults() {
	if o.User == "" {
		o.User = "admin"
	}
	if o.Pool == "" {
		o.Pool = "rbd"
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.IOTimeout == 0 {
		o.IOTimeout = 30 * time.Second
	}
	if o.Stall == 0 {
		o.Stall = time.Minute
	}
	if o.Sweep == 0 {
		o.Sweep = 10 * time.Minute
	}
	if o.Hosts != nil {
		hosts := *o.Hosts
		hosts.Cluster = cmp.Or(hosts.Cluster, "ceph")
		o.Hosts = &hosts
	}
	if o.InTurn == nil {
		o.InTurn = func(_ context.Context, do func() error) error { return do() }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Driver is a namespace of a Ceph pool as a store. It implements driver.Driver,
// Differ, Reverter, GroupSnapshotter, ChangeCounter, Lender, Lister, Finder and
// Mirrorer.
type Driver struct {
	o       Options
	calls   calls
	sockets program.Sockets // for the moment in which a socket has a name
	sweeper sweeper

	// unfinished is held for reading while a clone is made in several steps, and for
	// writing while what others left of theirs is removed.
	unfinished sync.RWMutex

	mu       sync.Mutex // guards below
	volumes  map[block.VolumeID]*volume
	changes  uint64 // of all volumes together; begins anywhere, so that no number comes twice
	capacity known
	monitors monitors
	relocked bool                 // whether each image that is withheld was seen to have its lock
	cut      map[string]time.Time // addresses of clients that were cut off, and when

	register register
}

// volume is what this process does with a volume. Its fields are guarded by
// the driver's mu but for gate, commands and looks.
type volume struct {
	device  *device // nil while nobody has it open
	opening bool
	readers []*device // open snapshots
	reading []string  // names of snapshots whose difference to others is read
	going   []string  // names of snapshots that are being removed; wholly for the volume with all of them
	// disordered says that its differences come in no order: it is striped over objects
	// in another way than kvol's are.
	disordered bool
	scattered  int // so many of its next differences are small changes, by suspicion
	changed    uint64
	// succeeded says that who had it open before this process was cut off.
	succeeded bool
	// gate is held for reading by each change of bytes, and for writing while
	// a moment of several volumes is named.
	gate sync.RWMutex
	// commands is held for reading while a command of ours may be a client of the
	// image, and for writing while its other clients are looked for.
	commands sync.RWMutex
	// looks is held while a lent volume is looked at for changes, or one of its
	// snapshots is made or removed: what was listed is still so when it is compared.
	// It is taken before commands.
	looks  sync.Mutex
	newest string // the snapshot that was the newest when hosts' changes were looked for
}

// Open opens the store, begins to sweep out what deletions and crashes left in it, and
// sees that images which are withheld from hosts have their lock. A
// cluster that doesn't answer now is no error: a zone has other stores. It
// fails with NotFound when the cluster has no such pool or namespace, and with Conflict when
// that is another store's.
func Open(ctx context.Context, o Options) (*Driver, error) {
	o.defaults()
	d := &Driver{o: o, volumes: map[block.VolumeID]*volume{}, cut: map[string]time.Time{}, changes: rand.Uint64() >> 1}
	d.calls = newCalls(d)
	_, err := d.trash(ctx)
	if err == nil && o.Owner != "" {
		if err = d.own(ctx); err != nil && !block.Is(err, block.Conflict) && !block.Is(err, block.Unavailable) {
			o.Log.Warn("whose the namespace is can't be noted", "err", err) // a full cluster's volumes are served
			err = nil
		}
	}
	switch {
	case block.Is(err, block.Unavailable):
		o.Log.Error("the storage cluster does not answer", "err", err)
	case err != nil:
		return nil, err
	}
	if d.sockets, err = program.NewSockets("kvol-rbd-", o.Now()); err != nil {
		return nil, err
	}
	if o.Hosts != nil {
		d.refreshMonitors(ctx)
		d.relock(ctx)
	}
	d.startSweeper(ctx)
	return d, nil
}

// Close implements driver.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	volumes := maps.Clone(d.volumes)
	d.mu.Unlock()
	for id, v := range volumes {
		if v.device != nil {
			d.o.Log.Warn("a volume is open while its store is closed", "volume", id)
		}
	}
	d.sweeper.stop()
	d.calls.close()
	return d.sockets.Remove()
}

const imagePrefix = "kvol-"

func imageName(id block.VolumeID) string { return imagePrefix + string(id) }

// spec is how the rbd command takes an image.
func (d *Driver) spec(id block.VolumeID) string { return d.Pool() + "/" + imageName(id) }

// snapSpec is how the rbd command takes a snapshot.
func (d *Driver) snapSpec(ref driver.SnapshotRef) string {
	return d.spec(ref.Volume) + "@" + string(ref.Name)
}

// Pool is how the rbd command takes the pool with its namespace.
func (d *Driver) Pool() string {
	if d.o.Namespace == "" {
		return d.o.Pool
	}
	return d.o.Pool + "/" + d.o.Namespace
}

// of returns what this process does with a volume; mu must be held.
func (d *Driver) of(id block.VolumeID) *volume {
	v := d.volumes[id]
	if v == nil {
		v = &volume{}
		d.volumes[id] = v
		d.changes++
		v.changed = d.changes
	}
	return v
}

func (d *Driver) volume(id block.VolumeID) *volume {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.of(id)
}

// forget lets go of what is remembered of a volume that is not there, if nobody has it.
func (d *Driver) forget(id block.VolumeID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v := d.volumes[id]; v != nil && v.device == nil && !v.opening && len(v.readers)+len(v.reading)+len(v.going) == 0 {
		delete(d.volumes, id)
	}
}

// touch notes that a volume's content may have changed.
func (d *Driver) touch(v *volume) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
	v.changed = d.changes
}

// Changes implements driver.ChangeCounter. It counts what goes through this
// process, which is all that writes to a volume, and where the volume is lent,
// asks the cluster for what hosts did.
func (d *Driver) Changes(ctx context.Context, id block.VolumeID) (uint64, error) {
	switch state, err := d.hostsOf(ctx, id); {
	case err != nil:
		return 0, err
	case state != hostsNone:
		if err := d.look(ctx, id); err != nil {
			return 0, err
		}
	}
	d.mu.Lock()
	v, ok := d.volumes[id]
	var n uint64
	if ok {
		n = v.changed
	}
	d.mu.Unlock()
	if ok {
		return n, nil
	}
	if _, err := d.info(ctx, id); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.of(id).changed, nil
}

// Volumes implements driver.Driver.
func (d *Driver) Volumes(ctx context.Context) iter.Seq2[driver.VolumeInfo, error] {
	return func(yield func(driver.VolumeInfo, error) bool) {
		images, err := d.calls.images(ctx)
		if err != nil {
			yield(driver.VolumeInfo{}, err)
			return
		}
		for _, i := range images {
			id, ours := strings.CutPrefix(i.Image, imagePrefix)
			if !ours || i.Snapshot != "" {
				continue
			}
			if !yield(driver.VolumeInfo{ID: block.VolumeID(id), Size: i.Size}, nil) {
				return
			}
		}
	}
}

// VolumeIDs implements driver.Lister: names cost nothing but their bytes, sizes an
// image's opening each.
func (d *Driver) VolumeIDs(ctx context.Context) iter.Seq2[block.VolumeID, error] {
	return func(yield func(block.VolumeID, error) bool) {
		names, err := d.calls.names(ctx)
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			if id, ours := strings.CutPrefix(name, imagePrefix); ours && !yield(block.VolumeID(id), nil) {
				return
			}
		}
	}
}

// Find implements driver.Finder. The id may be anything that somebody asks for.
func (d *Driver) Find(ctx context.Context, id block.VolumeID) (driver.VolumeInfo, error) {
	if strings.ContainsAny(string(id), "/@") { // the command would take a part for something else
		return driver.VolumeInfo{}, block.Errorf(block.NotFound, "There is no volume %s in the store.", id)
	}
	there, err := d.info(ctx, id)
	return driver.VolumeInfo{ID: id, Size: there.Size}, err
}
