package nfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/program"
)

// Format is how the files of a share are made.
type Format string

// The formats.
const (
	Raw   Format = "raw"   // needs a file system that shares blocks between files
	QCOW2 Format = "qcow2" // works on any
)

// Options say where a share is, for us and for hosts.
type Options struct {
	Dir     string // the share's directory here
	Mounted bool   // Dir has to be a mount point, so that an unmounted share is noticed
	// Format is found out at the first opening if "", and kept from then on.
	Format       Format
	Export       string // how hosts mount it, "192.0.2.1:/vol01"; "" if they don't
	MountOptions string // what hosts pass to mount, "-o vers=4.2"
	// MountPointBase is the directory below which os-brick mounts shares; default
	// /var/lib/cinder/mnt, as Cinder's.
	MountPointBase string
	// LendLayered lets hosts open qcow2 files as well. While one may do so, the
	// volume can't be changed or snapshotted here.
	LendLayered bool
	UID, GID    int         // of the files that hosts open; 0 is root
	Mode        fs.FileMode // of these files; default 0660
	// Overcommit is how often the share's size its volumes may have together;
	// 0 for no limit.
	Overcommit float64
	Timeout    time.Duration    // of opening an image and of small changes to it; default 1 min
	LockWait   time.Duration    // for programs of a killed process to end; default 10 s
	Log        *slog.Logger     // default: none
	Now        func() time.Time // default: time.Now. Its readings should be monotonic
}

func (o *Options) defaults() {
	if o.Mode == 0 {
		o.Mode = 0o660
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.MountPointBase == "" {
		o.MountPointBase = "/var/lib/cinder/mnt"
	}
	if o.LockWait == 0 {
		o.LockWait = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Driver is a share as a store. It implements driver.Driver, Differ, Reverter,
// GroupSnapshotter, ChangeCounter and Lender.
type Driver struct {
	o       Options
	format  Format
	root    *os.Root // the share
	lock    *os.File
	files   form
	sockets program.Sockets // for the moment in which a socket has a name

	structure sync.Mutex // held by changes of qcow2 files, which hang together

	mu      sync.Mutex // guards below
	volumes map[block.VolumeID]*volume
	changes uint64 // of all volumes together; begins anywhere, so that no number comes twice
}

// form is how volumes and snapshots lie in files. The caller holds the lock of
// the volume that is changed; see Driver.hold.
type form interface {
	// create makes a live file of size bytes.
	create(ctx context.Context, live place, size int64) error
	// size of a live file or a snapshot.
	size(ctx context.Context, at place) (int64, error)
	// extend grows a live file that nobody has open but us.
	extend(ctx context.Context, v *volume, live place, size int64) error
	// clone makes a live file of a snapshot.
	clone(ctx context.Context, from, live place, size int64) error
	// replace puts a copy in the place of a live file.
	replace(ctx context.Context, v *volume, live place) error
	// prepare does what takes time of a snapshot. Writers are held up while cut
	// makes it; drop puts away what was not needed.
	prepare(ctx context.Context, v *volume, live place) (do cut, drop func(), err error)
	// revert makes a live file what a snapshot is.
	revert(ctx context.Context, to, live place) error
	// dropped is told of entries that are gone, and of a live file ("" for none).
	dropped(live place, entries ...entry)
	// sweep frees what nothing needs any more.
	sweep(ctx context.Context) error
	open(ctx context.Context, v *volume, live place) (device, error)
	openSnapshot(ctx context.Context, at place, release func()) (driver.Reader, error)
	// diff yields what may differ between two snapshots, the first of which may be
	// nowhere.
	diff(ctx context.Context, from, to place, yield func(driver.Extent) bool) error
}

// cut makes a snapshot's bytes, as the entry's if it names no layer.
type cut func(ctx context.Context, dir string, e entry) (entry, error)

// device is an open volume.
type device interface {
	driver.Device
	driver.ExtentReader
}

// volume is what this process does with a volume.
type volume struct {
	id     block.VolumeID
	change sync.Mutex // held by changes of raw files
	// gate is held for reading by each change of bytes, and for writing while a
	// moment is named.
	gate sync.RWMutex

	// Below is guarded by the driver's mu.
	device  device // nil while nobody has it open
	opening bool
	readers map[block.PointID]int
	changed uint64
	lending lending
	seen    seen
}

// Open opens the share in a directory, and removes what interrupted changes left
// there. It makes a share of an empty directory. Conflict means that another
// process has it open, Invalid that it can't be what it is asked to be.
func Open(ctx context.Context, o Options) (*Driver, error) {
	o.defaults()
	if o.Mounted {
		if err := mountPoint(o.Dir); err != nil {
			return nil, err
		}
	}
	d := &Driver{o: o, volumes: map[block.VolumeID]*volume{}, changes: rand.Uint64() >> 1}
	if err := d.enter(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Driver) enter(ctx context.Context) (err error) {
	if d.root, err = os.OpenRoot(d.o.Dir); err != nil {
		return block.Wrap(block.Unavailable, err, "The directory of the share can't be opened.")
	}
	if err := d.root.Mkdir(ownDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return failed(err)
	}
	if err := d.takeLock(ctx); err != nil {
		return err
	}
	if err := d.root.Mkdir(volumesDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return failed(err)
	}
	if d.format, err = d.chooseFormat(); err != nil {
		return err
	}
	if d.sockets, err = program.NewSockets("kvol-nfs-", d.o.Now()); err != nil {
		return err
	}
	d.files = raw{d}
	if d.format == QCOW2 {
		d.files = &layered{d: d}
	}
	return d.recover(ctx)
}

// mountPoint wants a directory to be on another file system than its parent.
func mountPoint(dir string) error {
	var here, above unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &here), unix.Stat(filepath.Join(dir, ".."), &above)); err != nil {
		return block.Wrap(block.Unavailable, err, "The directory of the share can't be looked at.")
	}
	if here.Dev == above.Dev {
		return block.Errorf(block.Unavailable, "Nothing is mounted on %s.", dir)
	}
	return nil
}

// takeLock keeps other processes away. A process that was killed leaves programs
// that still write to images; they have its lock too, and end by themselves.
func (d *Driver) takeLock(ctx context.Context) (err error) {
	if d.lock, err = d.root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return failed(err)
	}
	for waited := time.Duration(0); ; waited += lockPause {
		err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return failed(err)
		}
		if waited >= d.o.LockWait {
			return block.Wrap(block.Conflict, err, "The share is in use by another process.")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

const lockPause = 50 * time.Millisecond

// chooseFormat reads the share's format, and writes it down the first time.
func (d *Driver) chooseFormat() (Format, error) {
	text, err := d.root.ReadFile(formatFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", failed(err)
	}
	f := Format(strings.TrimSpace(string(text)))
	shares := d.sharesBlocks()
	switch {
	case err == nil && f != Raw && f != QCOW2:
		return "", block.Errorf(block.Invalid, "The share was made by another version: its format is %.20q.", f)
	case err == nil && d.o.Format != "" && f != d.o.Format:
		return "", block.Errorf(block.Invalid, "The share's volumes are %s files, and can't be made %s.", f, d.o.Format)
	case err == nil && f == Raw && shares != nil, err != nil && d.o.Format == Raw && shares != nil:
		return "", block.Wrap(block.Invalid, shares,
			"The share's file system does not share blocks between files (FICLONE), which raw volumes need.")
	case err == nil:
		return f, nil
	}
	if f = d.o.Format; f == "" {
		f = QCOW2
		if shares == nil {
			f = Raw
		}
	}
	return f, d.writeFile(formatFile, []byte(f+"\n"))
}

// Format tells how the share's files are made.
func (d *Driver) Format() Format { return d.format }

// Close implements driver.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	for id, v := range d.volumes {
		if v.device != nil {
			d.o.Log.Warn("a volume is open while its store is closed", "volume", id)
		}
	}
	d.mu.Unlock()
	var errs []error
	errs = append(errs, d.sockets.Remove())
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	if d.root != nil {
		errs = append(errs, d.root.Close())
	}
	return errors.Join(errs...)
}

// of returns what this process does with a volume; mu must be held.
func (d *Driver) of(id block.VolumeID) *volume {
	v := d.volumes[id]
	if v == nil {
		v = &volume{id: id, readers: map[block.PointID]int{}}
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

// hold keeps others from changing a volume: that one, or all where they hang
// together.
func (d *Driver) hold(v *volume) (release func()) {
	if d.format == QCOW2 {
		d.structure.Lock()
		return d.structure.Unlock
	}
	v.change.Lock()
	return v.change.Unlock
}

// there returns the name of a volume's file; NotFound if it has none.
func (d *Driver) there(id block.VolumeID) (live place, err error) {
	if live, err = liveName(id); err != nil {
		return "", block.Errorf(block.NotFound, "There is no volume %s in the store.", id)
	}
	info, err := d.root.Lstat(string(live))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", block.Errorf(block.NotFound, "There is no volume %s in the store.", id)
	case err != nil:
		return "", failed(err)
	case !info.Mode().IsRegular():
		return "", block.Errorf(block.Corrupt, "The file of volume %s is none: somebody replaced it.", id)
	}
	return live, nil
}

// Volumes implements driver.Driver.
func (d *Driver) Volumes(ctx context.Context) iter.Seq2[driver.VolumeInfo, error] {
	return func(yield func(driver.VolumeInfo, error) bool) {
		names, err := d.list(".")
		if err != nil {
			yield(driver.VolumeInfo{}, err)
			return
		}
		for _, name := range names {
			id, ours := liveID(name)
			if !ours {
				continue
			}
			size, err := d.files.size(ctx, place(name))
			if block.Is(err, block.NotFound) {
				continue // it was deleted meanwhile
			}
			if !yield(driver.VolumeInfo{ID: id, Size: size}, err) || err != nil {
				return
			}
		}
	}
}

// Capacity implements driver.Driver: what the file system says.
func (d *Driver) Capacity(context.Context) (driver.Capacity, error) {
	dir, err := d.root.Open(".")
	if err != nil {
		return driver.Capacity{}, failed(err)
	}
	defer dir.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &s); err != nil {
		return driver.Capacity{}, failed(err)
	}
	unit := s.Bsize
	if s.Frsize > 0 {
		unit = s.Frsize
	}
	total, free := int64(s.Blocks)*unit, int64(s.Bavail)*unit
	return driver.Capacity{Total: total, Free: min(free, total)}, nil
}

// room refuses more bytes of volumes than the share may promise.
func (d *Driver) room(ctx context.Context, more int64) error {
	if d.o.Overcommit == 0 || more <= 0 {
		return nil
	}
	c, err := d.Capacity(ctx)
	if err != nil {
		return err
	}
	var promised int64
	for v, err := range d.Volumes(ctx) {
		if err != nil {
			return err
		}
		promised += v.Size
	}
	if limit := d.o.Overcommit * float64(c.Total); float64(promised+more) > limit {
		return block.Errorf(block.NoSpace, "The share may promise %.0f bytes; its volumes have %d.", limit, promised)
	}
	return nil
}

// failed gives an error of the file system its kind.
func failed(err error) error {
	var known *block.Error
	switch {
	case err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return block.Wrap(block.NoSpace, err, "The share is full.")
	}
	return block.Wrap(block.Unavailable, err, "The share does not answer as it should.")
}

func checkSize(size int64) error {
	if size <= 0 || size%driver.BlockSize != 0 {
		return block.Errorf(block.Invalid, "%d bytes are no size of a volume", size)
	}
	return nil
}

func sameSize(id block.VolumeID, is, want int64) error {
	if is != want {
		return block.Errorf(block.Conflict, "volume %s exists with %d bytes, not %d", id, is, want)
	}
	return nil
}

var errClosed = fmt.Errorf("it is closed: %w", os.ErrClosed)
