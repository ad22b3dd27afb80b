package nfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"kvol/internal/block"
	"kvol/internal/driver"
)

var _ driver.Lender = (*Driver)(nil)

// lending is what hosts may do with a volume's file.
type lending string

// The states are what is written into the file beside the volume's entries, so
// that they are known after a crash as well.
const (
	kept     lending = ""         // nothing
	lent     lending = "lent"     // open it, read and write
	withheld lending = "withheld" // nothing, though they could
)

// Lending implements driver.Lender. A file has to be mounted by export and name,
// as cinder/volume/drivers/nfs.py says it (initialize_connection).
func (d *Driver) Lending(id block.VolumeID) (how driver.Lending, ok bool) {
	live, err := liveName(id)
	if err != nil || d.o.Export == "" || d.format == QCOW2 && !d.o.LendLayered {
		return driver.Lending{}, false
	}
	data := map[string]any{"export": d.o.Export, "name": string(live), "format": string(d.format)}
	if d.o.MountOptions != "" {
		data["options"] = d.o.MountOptions
	}
	return driver.Lending{Protocol: "nfs", Data: data, MountPointBase: d.o.MountPointBase}, true
}

// Lend implements driver.Lender.
func (d *Driver) Lend(ctx context.Context, id block.VolumeID) error {
	v := d.volume(id)
	defer d.hold(v)()
	live, err := d.there(id)
	if err != nil {
		return err
	}
	was := d.lendingOf(v)
	if was == lent {
		return nil
	}
	if d.format == QCOW2 && d.isOpen(v) {
		return block.Errorf(block.Conflict, "Volume %s is open here, and one qcow2 file is for one program.", id)
	}
	if err := d.setLending(v, lent); err != nil || was == kept {
		return err
	}
	f, err := d.openFile(live, os.O_RDWR)
	if err != nil {
		return err
	}
	return failed(errors.Join(d.forHosts(f, live), f.Sync(), f.Close()))
}

// Borrowers implements driver.Lender. Who mounted a share is not known to those
// who write to its files: there is one borrower, who stands for all.
func (d *Driver) Borrowers(_ context.Context, id block.VolumeID) ([]driver.Borrower, error) {
	if d.lendingOf(d.volume(id)) != lent {
		return nil, nil
	}
	return []driver.Borrower{{Address: d.o.Export}}, nil
}

// Cut implements driver.Lender. The volume gets another file with the same
// content under its name. Whoever still has the old one open reaches nothing of
// the volume any more; what he writes goes nowhere.
func (d *Driver) Cut(ctx context.Context, id block.VolumeID, who []driver.Borrower) error {
	v := d.volume(id)
	defer d.hold(v)()
	if len(who) == 0 || d.lendingOf(v) != lent {
		return nil
	}
	live, err := d.there(id)
	if err != nil {
		return err
	}
	return d.replace(ctx, v, live)
}

// Withhold implements driver.Lender. Hosts whose users count as root on the file
// server can open the new file all the same: the share has to be exported with
// root_squash.
func (d *Driver) Withhold(ctx context.Context, id block.VolumeID) error {
	v := d.volume(id)
	defer d.hold(v)()
	live, err := d.there(id)
	if err != nil {
		return err
	}
	// What interrupts it comes again; the file that has the mode is a new one.
	if err := d.setLending(v, withheld); err != nil {
		return err
	}
	return d.replace(ctx, v, live)
}

// Reclaim implements driver.Lender.
func (d *Driver) Reclaim(ctx context.Context, id block.VolumeID) error {
	v := d.volume(id)
	defer d.hold(v)()
	if _, err := d.there(id); err != nil {
		return err
	}
	if err := d.setLending(v, kept); err != nil {
		return err
	}
	return d.files.sweep(ctx)
}

// setLending writes down what hosts may do.
func (d *Driver) setLending(v *volume, to lending) error {
	if d.lendingOf(v) == to {
		return nil
	}
	dir, err := entriesDir(v.id)
	if err != nil {
		return err
	}
	if to == kept {
		err = d.remove(place(path.Join(dir, lendingFile)))
	} else if err = d.makeDir(dir); err == nil {
		err = d.writeFile(path.Join(dir, lendingFile), []byte(to))
	}
	if err != nil {
		return err
	}
	d.touch(v)
	d.mu.Lock()
	defer d.mu.Unlock()
	v.lending, v.seen = to, seen{}
	return nil
}

// readLending reads what hosts might do before this process.
func (d *Driver) readLending(dir string) (lending, error) {
	text, err := d.root.ReadFile(path.Join(dir, lendingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return kept, nil
	}
	if err == nil && lending(text) != lent { // what can't be read lets nobody in
		return withheld, nil
	}
	return lent, failed(err)
}

// replace puts another file with the same content in the place of one that hosts
// may have open.
func (d *Driver) replace(ctx context.Context, v *volume, live place) error {
	v.gate.Lock()
	defer v.gate.Unlock()
	if err := d.files.replace(ctx, v, live); err != nil {
		return err
	}
	d.touch(v)
	d.mu.Lock()
	dev, open := v.device.(*rawDevice)
	d.mu.Unlock()
	if !open {
		return nil
	}
	return dev.reopen(live)
}

// reopen goes on with the file that has the name now.
func (r *rawDevice) reopen(live place) error {
	f, err := r.d.openFile(live, os.O_RDWR)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return failed(f.Close())
	}
	old := r.f
	r.f = f
	return failed(old.Close())
}

func (d *Driver) lendingOf(v *volume) lending {
	d.mu.Lock()
	defer d.mu.Unlock()
	return v.lending
}

func (d *Driver) isLent(v *volume) bool { return d.lendingOf(v) == lent }

func (d *Driver) isOpen(v *volume) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return v.device != nil || v.opening
}

// touch notes that a volume's content may have changed.
func (d *Driver) touch(v *volume) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
	v.changed = d.changes
}

// seen is what a file that hosts may write to looked like, since when, and
// whether that counts as unchanged by now.
type seen struct {
	mark    mark
	since   time.Time
	settled bool
}

// mark is what of a file changes when somebody writes to it.
type mark struct {
	inode        uint64
	size         int64
	wrote, moved int64 // its times, in nanoseconds of the server
}

// settleTime is for how long a file has to look the same until it counts as
// unchanged. Clocks of file systems tick: a second write within a tick leaves no
// mark of its own. No known one ticks slower than once in two seconds.
const settleTime = 3 * time.Second

// Changes implements driver.ChangeCounter. Of what goes through this process it
// knows itself; of files that hosts have open, the file system tells. What was
// written a moment ago may count twice.
func (d *Driver) Changes(ctx context.Context, id block.VolumeID) (uint64, error) {
	live, err := d.there(id)
	if err != nil {
		return 0, err
	}
	v := d.volume(id)
	if !d.isLent(v) {
		d.mu.Lock()
		defer d.mu.Unlock()
		return v.changed, nil
	}
	m, err := d.mark(live)
	if err != nil {
		return 0, err
	}
	now := d.o.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if v.seen.mark != m {
		v.seen = seen{mark: m, since: now}
	}
	if !v.seen.settled { // once more when it is: the last write may have come after the last question
		d.changes++
		v.changed = d.changes
		v.seen.settled = now.Sub(v.seen.since) >= settleTime
	}
	return v.changed, nil
}

// mark asks the file server how a file looks; opening it asks anew, whatever an
// NFS client remembers.
func (d *Driver) mark(live place) (m mark, err error) {
	f, err := d.openFile(live, os.O_RDONLY)
	if err != nil {
		return mark{}, err
	}
	m, err = markOf(f)
	return m, failed(errors.Join(err, f.Close()))
}
func markOf(f *os.File) (mark, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return mark{}, os.NewSyscallError("fstat", err)
	}
	return mark{inode: s.Ino, size: s.Size, wrote: s.Mtim.Nano(), moved: s.Ctim.Nano()}, nil
}
