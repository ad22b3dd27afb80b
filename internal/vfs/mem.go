package vfs

import (
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
)

// sectorSize is what a disk writes whole or not at all, in bytes.
const sectorSize = 512

// Op names a file operation as a Mem tells it to its hook.
type Op string

// The operations that a hook is told of.
const (
	OpCreate  Op = "create"
	OpOpen    Op = "open"
	OpRemove  Op = "remove"
	OpRename  Op = "rename"
	OpSyncDir Op = "syncdir"
	OpSync    Op = "sync"
	OpWrite   Op = "write"
	OpRead    Op = "read"
)

// Mem is an FS in memory that can lose what was not synced and fail on demand.
type Mem struct {
	// Hook, if not nil, is called before each operation, without a lock of the
	// Mem; an error that it returns is the operation's result, and the
	// operation is then not done, but for what a failed Sync does. It may call
	// Crash. Set it before use.
	Hook func(op Op, name string) error

	mu       sync.Mutex // guards all below
	rng      *rand.Rand // decides what reaches the disk early; nil for nothing
	capacity int64
	names    map[string]*node // now
	durable  map[string]*node // after a power cut, before pending is applied
	pending  []dirOp          // since the directories' last SyncDir, in order
	locks    map[string]bool
	used     int64
}

type dirOp struct {
	op       Op
	dir      string
	name, to string
	node     *node
}

type node struct {
	data    []byte // now
	durable []byte // as of the last Sync, and what was written back early
	dirty   map[int64]bool
}

// NewMem makes an empty Mem of a capacity in bytes. rng, if not nil, decides
// which unsynced sectors reach the disk before a Sync, as a kernel does.
func NewMem(capacity int64, rng *rand.Rand) *Mem {
	return &Mem{rng: rng, capacity: capacity, names: map[string]*node{}, durable: map[string]*node{},
		locks: map[string]bool{}}
}

func (m *Mem) hook(op Op, name string) error {
	if m.Hook == nil {
		return nil
	}
	return m.Hook(op, name)
}

func notExist(op Op, name string) error {
	return &fs.PathError{Op: string(op), Path: name, Err: fs.ErrNotExist}
}

// Create is FS.Create. Emptying a file that exists is a new file here: the old
// bytes are found after a power cut until the directory is synced.
func (m *Mem) Create(name string) (File, error) {
	if err := m.hook(OpCreate, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.names[name]; old != nil {
		m.used -= int64(len(old.data))
	}
	n := &node{dirty: map[int64]bool{}}
	m.names[name] = n
	m.pending = append(m.pending, dirOp{op: OpCreate, dir: path.Dir(name), name: name, node: n})
	return &memFile{fs: m, name: name, node: n}, nil
}

// Open is FS.Open.
func (m *Mem) Open(name string) (File, error) {
	if err := m.hook(OpOpen, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[name]
	if n == nil {
		return nil, notExist(OpOpen, name)
	}
	return &memFile{fs: m, name: name, node: n}, nil
}

// Remove is FS.Remove.
func (m *Mem) Remove(name string) error {
	if err := m.hook(OpRemove, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[name]
	if n == nil {
		return notExist(OpRemove, name)
	}
	m.used -= int64(len(n.data))
	delete(m.names, name)
	m.pending = append(m.pending, dirOp{op: OpRemove, dir: path.Dir(name), name: name})
	return nil
}

// Rename is FS.Rename; both names lie in one directory.
func (m *Mem) Rename(from, to string) error {
	if err := m.hook(OpRename, from); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[from]
	if n == nil {
		return notExist(OpRename, from)
	}
	if old := m.names[to]; old != nil {
		m.used -= int64(len(old.data))
	}
	delete(m.names, from)
	m.names[to] = n
	m.pending = append(m.pending, dirOp{op: OpRename, dir: path.Dir(from), name: from, to: to, node: n})
	return nil
}

// MkdirAll is FS.MkdirAll; directories are not kept, only names with slashes.
func (m *Mem) MkdirAll(string) error { return nil }

// List is FS.List.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for name := range m.names {
		if path.Dir(name) == path.Clean(dir) {
			out = append(out, path.Base(name))
		}
	}
	return out, nil
}

// SyncDir is FS.SyncDir.
func (m *Mem) SyncDir(dir string) error {
	if err := m.hook(OpSyncDir, dir); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var rest []dirOp
	for _, op := range m.pending {
		if op.dir == path.Clean(dir) {
			op.apply(m.durable)
		} else {
			rest = append(rest, op)
		}
	}
	m.pending = rest
	return nil
}

func (o dirOp) apply(names map[string]*node) {
	switch o.op {
	case OpCreate:
		names[o.name] = o.node
	case OpRemove:
		delete(names, o.name)
	case OpRename:
		if names[o.name] == o.node {
			delete(names, o.name)
			names[o.to] = o.node
		}
	}
}

type memLock struct {
	fs   *Mem
	name string
}

func (l memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.name)
	return nil
}

// Lock is FS.Lock among the users of this Mem.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, ErrLocked
	}
	m.locks[name] = true
	return memLock{m, name}, nil
}

// Space is FS.Space.
func (m *Mem) Space(string) (Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Space{Total: m.capacity, Free: max(0, m.capacity-m.used)}, nil
}
