package nfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"kvol/internal/block"
)

// openFile opens a file and wants it to be one: what its name stands for now, no
// link to anything else, and nothing that blocks.
func (d *Driver) openFile(at place, flag int) (*os.File, error) {
	f, err := d.root.OpenFile(string(at), flag|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fromNothing(err)
	}
	is, err := f.Stat()
	if err == nil {
		var named os.FileInfo
		if named, err = d.root.Lstat(string(at)); err == nil && (!is.Mode().IsRegular() || !os.SameFile(is, named)) {
			err = block.Errorf(block.Corrupt, "A file of the share was replaced by somebody.")
		}
	}
	if err != nil {
		return nil, errors.Join(fromNothing(err), f.Close())
	}
	return f, nil
}

// fromNothing is failed for a file that may be missing.
func fromNothing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return block.Wrap(block.NotFound, err, "It is not in the share.")
	}
	return failed(err)
}

// create makes a file that is not there for anybody yet.
func (d *Driver) create() (*os.File, place, error) {
	at := newAt()
	f, err := d.root.OpenFile(string(at), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	return f, at, failed(err)
}

// forHosts gives a live file to those who may open it.
func (d *Driver) forHosts(f *os.File, live place) error {
	uid, gid, mode := d.o.UID, d.o.GID, d.o.Mode
	if id, ok := liveID(string(live)); ok && d.lendingOf(d.volume(id)) == withheld {
		uid, gid, mode = os.Geteuid(), os.Getegid(), 0o400
	}
	if os.Geteuid() == 0 {
		if err := f.Chown(uid, gid); err != nil {
			return failed(err)
		}
	}
	return failed(f.Chmod(mode))
}

// publish makes a prepared file durable and gives it its name, in the place of
// what has it already. It closes the file; one that did not get its name is gone.
func (d *Driver) publish(f *os.File, from, to place) error {
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = d.root.Rename(string(from), string(to))
	}
	if err != nil {
		_ = d.root.Remove(string(from)) // or the next opening does it
		return failed(err)
	}
	return d.syncDir(path.Dir(string(to)))
}

// discard puts a prepared file away.
func (d *Driver) discard(f *os.File, at place) {
	_ = f.Close()
	_ = d.root.Remove(string(at)) // or the next opening does it
}

// writeFile makes a small file, whole or not at all.
func (d *Driver) writeFile(to string, text []byte) error {
	f, at, err := d.create()
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		d.discard(f, at)
		return failed(err)
	}
	return d.publish(f, at, place(to))
}

// remove takes a file's name away for good; it may be gone.
func (d *Driver) remove(at place) error {
	if err := d.root.Remove(string(at)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(err)
	}
	return d.syncDir(path.Dir(string(at)))
}

// syncDir makes the names in a directory durable. Some file servers have no
// such call and do it at once.
func (d *Driver) syncDir(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return failed(err)
	}
	err = f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return failed(errors.Join(err, f.Close()))
}

// list returns the names in a directory; none if it is not there.
func (d *Driver) list(dir string) ([]string, error) {
	f, err := d.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(err)
	}
	names, err := f.Readdirnames(-1)
	return names, failed(errors.Join(err, f.Close()))
}

// makeDir makes the directory of a volume's entries.
func (d *Driver) makeDir(dir string) error {
	err := d.root.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return failed(err)
	}
	return d.syncDir(path.Dir(dir))
}

// recover removes what interrupted changes left, and reads which volumes hosts
// may have open.
func (d *Driver) recover(ctx context.Context) error {
	names, err := d.list(ownDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, newPrefix) {
			if err := d.root.RemoveAll(path.Join(ownDir, name)); err != nil {
				return failed(err)
			}
		}
	}
	dirs, err := d.list(volumesDir)
	if err != nil {
		return err
	}
	for _, name := range dirs {
		id, ok := decode(name)
		if !ok {
			continue
		}
		v := d.volume(block.VolumeID(id))
		if _, err := d.there(v.id); block.Is(err, block.NotFound) {
			d.o.Log.Warn("the share has snapshots of a volume that it does not have", "volume", v.id)
			continue
		}
		if v.lending, err = d.readLending(path.Join(volumesDir, name)); err != nil {
			return err
		}
	}
	return d.files.sweep(ctx)
}
