package program

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// socketsAge is how old a directory is at least that is taken for a killed process's: a
// younger one may be about to get its lock.
const socketsAge = time.Minute

// Sockets are a directory that nobody but us may enter. It has a short path, as names of
// sockets must.
type Sockets struct {
	Dir    string
	remove func() error
}

// NewSockets makes a directory whose name begins with prefix. What killed processes left
// of such ones is removed, as far as this user may and it is old by now: the lock on a
// directory ends with the process that has it.
func NewSockets(prefix string, now time.Time) (Sockets, error) {
	removeLeft(filepath.Join(os.TempDir(), prefix), now)
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return Sockets{}, err
	}
	held, err := lockDir(dir)
	if err != nil {
		return Sockets{}, errors.Join(err, os.Remove(dir))
	}
	remove := sync.OnceValue(func() error { return errors.Join(os.RemoveAll(dir), held.Close()) })
	return Sockets{Dir: dir, remove: remove}, nil
}

// Remove removes it with all that is in it. It may be called again.
func (s Sockets) Remove() error {
	if s.remove == nil {
		return nil
	}
	return s.remove()
}

func removeLeft(begin string, now time.Time) {
	quoted := strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`).Replace(begin)
	all, _ := filepath.Glob(quoted + "*") // which is a pattern
	for _, dir := range all {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || now.Sub(info.ModTime()) < socketsAge {
			continue
		}
		held, err := lockDir(dir)
		if err != nil {
			continue // it is in use, or another user's
		}
		_ = os.RemoveAll(dir) // tried again by the next process
		held.Close()
	}
}

// lockDir takes the lock of a directory, which nobody else has then until the file is
// closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
