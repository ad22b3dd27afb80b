package logstore

import (
	"errors"
	"io"
	"path"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// maxHolder bounds what is said of who has a store open, in bytes.
const maxHolder = 1024

// takeLock takes the lock that one process has at a time; Conflict names who
// has it.
func takeLock(fsys vfs.FS, dir string) (io.Closer, error) {
	lock, err := fsys.Lock(path.Join(dir, "lock"))
	if errors.Is(err, vfs.ErrLocked) {
		who := readHolder(fsys, dir)
		if who == "" {
			who = "another process"
		}
		return nil, block.Errorf(block.Conflict, "the store in %s is open in %s", dir, who)
	}
	return lock, block.Wrap(ioKind(err), err, "the store can't be locked")
}

// writeHolder says who has the store open, for people who find it locked. It
// means something only while the lock is held, so it need not last.
func writeHolder(fsys vfs.FS, dir, who string) error {
	if who == "" {
		return nil
	}
	f, err := fsys.Create(path.Join(dir, "holder"))
	if err != nil {
		return block.Wrap(ioKind(err), err, "who has the store open can't be written")
	}
	_, err = f.WriteAt([]byte(who[:min(len(who), maxHolder)]), 0)
	return block.Wrap(ioKind(err), errors.Join(err, f.Close()), "who has the store open can't be written")
}

func readHolder(fsys vfs.FS, dir string) string {
	f, err := fsys.Open(path.Join(dir, "holder"))
	if err != nil {
		return ""
	}
	defer f.Close()
	p := make([]byte, maxHolder)
	n, err := f.ReadAt(p, 0)
	if isIOError(err) {
		return ""
	}
	return string(p[:n])
}
