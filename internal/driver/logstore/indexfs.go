package logstore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"kvol/internal/vfs"
)

// indexFS lets Pebble use a vfs.FS.
type indexFS struct {
	fs          vfs.FS
	beforeTable func() error
	fatal       func(error)
	// broken is set once a directory could not be synced. Pebble panics on
	// that; so it is told that all is well, and is not let change anything
	// after.
	broken atomic.Pointer[error]
	writes *patience
	opened atomic.Bool
}

func (f *indexFS) state() error {
	if err := f.broken.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *indexFS) breakOff(err error) {
	f.broken.CompareAndSwap(nil, &err)
	f.fatal(err)
}

var _ pvfs.FS = (*indexFS)(nil)

// Create makes a file. Before a table is made, everything that it can hold
// reaches the disk in the log: a memtable is closed before its table begins.
func (f *indexFS) Create(name string, _ pvfs.DiskWriteCategory) (pvfs.File, error) {
	if err := f.state(); err != nil {
		return nil, err
	}
	if strings.HasSuffix(name, ".sst") {
		f.writes.pause()
		if err := f.beforeTable(); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(path.Base(name), "marker.") {
		return f.createMarker(name)
	}
	return f.file(name)(f.create(name))
}

func (f *indexFS) create(name string) (file vfs.File, err error) {
	err = f.insist(name, func() error {
		file, err = f.fs.Create(name)
		return err
	})
	return file, err
}

// insist does again what fails to be done to a manifest or its marker. A table
// is written anew by Pebble; after a manifest that it can't write it can't go
// on. What opening lacks is told at once.
func (f *indexFS) insist(name string, do func() error) error {
	base, failed := path.Base(name), false
	for {
		err := do()
		if err == nil && failed {
			f.writes.well()
		}
		if err == nil || !f.opened.Load() || !strings.HasPrefix(base, "MANIFEST-") && !strings.HasPrefix(base, "marker.") {
			return err
		}
		if failed = true; f.writes.failed(err) || f.writes.over() || f.state() != nil {
			return err
		}
		f.writes.pause()
	}
}

// createMarker makes an (empty) marker, which says what manifest counts. The
// manifest was synced, but its name may not be on the disk yet; and the old
// marker is removed next, which must not get there before the new one. Pebble
// takes it that directories keep the order of what is done to them.
func (f *indexFS) createMarker(name string) (pvfs.File, error) {
	if err := f.fs.SyncDir(path.Dir(name)); err != nil {
		return nil, err
	}
	file, err := f.create(name)
	if err != nil {
		return nil, err
	}
	if err := f.fs.SyncDir(path.Dir(name)); err != nil {
		file.Close()
		return nil, err
	}
	return f.file(name)(file, nil)
}

func (f *indexFS) Open(name string, _ ...pvfs.OpenOption) (pvfs.File, error) {
	return f.file(name)(f.fs.Open(name))
}

func (f *indexFS) OpenReadWrite(name string, _ pvfs.DiskWriteCategory, _ ...pvfs.OpenOption) (pvfs.File, error) {
	return f.file(name)(f.fs.Open(name))
}

func (f *indexFS) OpenDir(name string) (pvfs.File, error) { return indexDir{f, name}, nil }

func (f *indexFS) Remove(name string) error {
	if err := f.state(); err != nil {
		return err
	}
	return f.fs.Remove(name)
}

func (f *indexFS) Rename(from, to string) error {
	if err := f.state(); err != nil {
		return err
	}
	return f.fs.Rename(from, to)
}

func (f *indexFS) MkdirAll(dir string, _ os.FileMode) error {
	return f.fs.MkdirAll(dir)
}
func (f *indexFS) List(dir string) ([]string, error) { return f.fs.List(dir) }
func (f *indexFS) PathBase(p string) string          { return path.Base(p) }
func (f *indexFS) PathJoin(elem ...string) string    { return path.Join(elem...) }
func (f *indexFS) PathDir(p string) string           { return path.Dir(p) }
func (f *indexFS) Unwrap() pvfs.FS                   { return nil }

// Link is not used: the index takes no tables from elsewhere.
func (f *indexFS) Link(string, string) error { return fs.ErrInvalid }

// RemoveAll is not used either.

func (f *indexFS) RemoveAll(string) error { return fs.ErrInvalid }

func (f *indexFS) ReuseForWrite(from, to string, c pvfs.DiskWriteCategory) (pvfs.File, error) {
	if err := f.Rename(from, to); err != nil {
		return nil, err
	}
	return f.OpenReadWrite(to, c)
}

// Lock does nothing: the store has its own.
func (f *indexFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (f *indexFS) Stat(name string) (pvfs.FileInfo, error) {
	file, err := f.fs.Open(name)
	if errors.Is(err, syscall.EISDIR) {
		return fileInfo{name: path.Base(name)}, nil // asked whether it is there
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	return stat(name, file)
}

func (f *indexFS) GetDiskUsage(dir string) (pvfs.DiskUsage, error) {
	s, err := f.fs.Space(dir)
	return pvfs.DiskUsage{AvailBytes: uint64(s.Free), TotalBytes: uint64(s.Total),
		UsedBytes: uint64(s.Total - s.Free)}, err
}

// indexFile adds a place for Read and for Write to a file.
type indexFile struct {
	vfs.File
	fs      *indexFS
	name    string
	read    atomic.Int64
	written atomic.Int64
}

func (f *indexFS) file(name string) func(vfs.File, error) (pvfs.File, error) { // curried, for calls with two results
	return func(file vfs.File, err error) (pvfs.File, error) {
		if err != nil {
			return nil, err
		}
		return &indexFile{File: file, fs: f, name: name}, nil
	}
}

func (f *indexFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.read.Load())
	f.read.Add(int64(n))
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *indexFile) Write(p []byte) (int, error) {
	if err := f.fs.state(); err != nil {
		return 0, err
	}
	var n int
	err := f.fs.insist(f.name, func() (err error) {
		n, err = f.WriteAt(p, f.written.Load())
		return err
	})
	f.written.Add(int64(n))
	return n, err
}

func (f *indexFile) Sync() error {
	if err := f.fs.state(); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *indexFile) Preallocate(int64, int64) error      { return nil }
func (f *indexFile) Prefetch(int64, int64) error         { return nil }
func (f *indexFile) SyncTo(int64) (bool, error)          { return false, nil }
func (f *indexFile) SyncData() error                     { return f.Sync() }
func (f *indexFile) Fd() uintptr                         { return pvfs.InvalidFd }
func (f *indexFile) Stat() (info pvfs.FileInfo, e error) { return stat(f.name, f.File) }

// fileInfo is as much of a file's state as Pebble asks for.
type fileInfo struct {
	name string
	size int64
}

func stat(name string, f vfs.File) (pvfs.FileInfo, error) {
	size, err := f.Size()
	return fileInfo{path.Base(name), size}, err
}

func (i fileInfo) Name() string            { return i.name }
func (i fileInfo) Size() int64             { return i.size }
func (i fileInfo) Mode() os.FileMode       { return 0o600 }
func (i fileInfo) ModTime() time.Time      { return time.Time{} }
func (i fileInfo) IsDir() bool             { return false }
func (i fileInfo) Sys() any                { return nil }
func (i fileInfo) DeviceID() pvfs.DeviceID { return pvfs.DeviceID{} }

// indexDir is a directory that is open to be synced.
type indexDir struct {
	fs   *indexFS
	name string
}

func (d indexDir) Sync() error {
	if d.fs.state() == nil {
		if err := d.fs.fs.SyncDir(d.name); err != nil {
			d.fs.breakOff(err)
		}
	}
	return nil
}

func (d indexDir) SyncData() error                    { return d.Sync() }
func (d indexDir) SyncTo(int64) (bool, error)         { return true, d.Sync() }
func (d indexDir) Close() error                       { return nil }
func (d indexDir) Fd() uintptr                        { return pvfs.InvalidFd }
func (d indexDir) Preallocate(int64, int64) error     { return nil }
func (d indexDir) Prefetch(int64, int64) error        { return nil }
func (d indexDir) Read([]byte) (int, error)           { return 0, fs.ErrInvalid }
func (d indexDir) Write([]byte) (int, error)          { return 0, fs.ErrInvalid }
func (d indexDir) ReadAt([]byte, int64) (int, error)  { return 0, fs.ErrInvalid }
func (d indexDir) WriteAt([]byte, int64) (int, error) { return 0, fs.ErrInvalid }
func (d indexDir) Stat() (pvfs.FileInfo, error)       { return fileInfo{name: path.Base(d.name)}, nil }
