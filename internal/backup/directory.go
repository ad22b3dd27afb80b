package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"kvol/internal/block"
)

// unfinished is where a Directory writes objects before they get their names;
// staleAfter is when what lies there belongs to nobody any more.
const (
	unfinished = ".unfinished"
	staleAfter = 24 * time.Hour
)

// Directory is a Store in a directory, which may be that of a network file
// system with working fsync and rename.
type Directory struct {
	root string

	mu   sync.Mutex      // guards made
	made map[string]bool // directories that are known to be there
}

// NewDirectory opens a directory, which is made if it is missing. What an
// interrupted process left unfinished there for a day is removed.
func NewDirectory(root string, now time.Time) (*Directory, error) {
	d := &Directory{root: root, made: map[string]bool{}}
	scratch := filepath.Join(root, unfinished)
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return nil, err
	}
	left, err := os.ReadDir(scratch)
	if err != nil {
		return nil, err
	}
	for _, entry := range left {
		info, err := entry.Info()
		if err == nil && now.Sub(info.ModTime()) > staleAfter {
			err = os.Remove(filepath.Join(scratch, entry.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return d, nil
}

// Put implements Store.
func (d *Directory) Put(ctx context.Context, name string, content []byte) error {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return err
	}
	to := filepath.Join(d.root, filepath.FromSlash(name))
	if err := d.makeDir(path.Dir(name)); err != nil {
		return failed(err)
	}
	f, err := os.CreateTemp(filepath.Join(d.root, unfinished), "")
	if err != nil {
		return failed(err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error says why
		return failed(err)
	}
	return failed(syncDir(filepath.Dir(to)))
}

// makeDir makes the directory of a name and those above it, durably.
func (d *Directory) makeDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made[name] {
		return nil
	}
	at := d.root
	for step := range strings.SplitSeq(name, "/") {
		parent := at
		at = filepath.Join(at, step)
		err := os.Mkdir(at, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err = errors.Join(err, syncDir(parent)); err != nil {
			return err
		}
	}
	d.made[name] = true
	return nil
}

// Get implements Store.
func (d *Directory) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(d.root, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(name)
	}
	if err != nil {
		return nil, failed(err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		return nil, errors.Join(missing(name), f.Close())
	}
	content, readErr := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, readErr, f.Close()); err != nil {
		return nil, failed(err)
	}
	if int64(len(content)) > limit {
		return nil, tooLong(name, limit)
	}
	return content, nil
}

// Has implements Store.
func (d *Directory) Has(ctx context.Context, name string) (bool, error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return false, err
	}
	info, err := os.Stat(filepath.Join(d.root, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular(), failed(err)
}

// Delete implements Store.
func (d *Directory) Delete(ctx context.Context, name string) error {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return err
	}
	at := filepath.Join(d.root, filepath.FromSlash(name))
	err := os.Remove(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return failed(errors.Join(err, syncDir(filepath.Dir(at))))
}

// List implements Store.
func (d *Directory) List(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := checkName(dir); err != nil {
			yield("", err)
			return
		}
		f, err := os.Open(filepath.Join(d.root, filepath.FromSlash(dir)))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield("", failed(err))
			return
		}
		defer f.Close()
		for {
			entries, err := f.ReadDir(1024)
			for _, entry := range entries {
				if entry.Type().IsRegular() && !yield(dir+"/"+entry.Name(), nil) {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err = errors.Join(err, ctx.Err()); err != nil {
				yield("", failed(err))
				return
			}
		}
	}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// failed gives what a store answered its kind.
func failed(err error) error {
	var known *block.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return block.Wrap(block.NoSpace, err, "The backup repository is full.")
	}
	return block.Wrap(block.Unavailable, err, "The backup repository can't be reached.")
}

func missing(name string) error {
	return block.Errorf(block.NotFound, "The backup's object %s is missing.", name)
}

// lacking is missing for what a backup needs, which is as bad as if it were damaged.
func lacking(name string) error {
	return block.Errorf(block.Corrupt, "The backup's object %s is missing.", name)
}

func tooLong(name string, limit int64) error {
	return damaged(name, fmt.Errorf("it has more than %d bytes", limit))
}

// damaged says which object is not what it must be. The cause goes to the log.
func damaged(name string, cause error) error {
	return block.Wrap(block.Corrupt, cause, "The backup's object %s is damaged.", name)
}
