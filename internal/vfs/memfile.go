package vfs

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
)

type memFile struct {
	fs   *Mem
	name string
	node *node
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.hook(OpRead, f.name); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.hook(OpWrite, f.name); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, end := f.node, off+int64(len(p))
	if grow := end - int64(len(n.data)); grow > 0 {
		if f.fs.used+grow > f.fs.capacity {
			return 0, &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
		}
		f.fs.used += grow
		n.data = append(n.data, make([]byte, grow)...)
	}
	copy(n.data[off:], p)
	for s := off / sectorSize; s*sectorSize < end; s++ {
		n.dirty[s] = true
	}
	if rng := f.fs.rng; rng != nil && rng.IntN(4) == 0 {
		n.writeBack(rng)
	}
	return len(p), nil
}

// Sync is File.Sync. One that fails does what it does on Linux: the bytes stay
// in memory and count as written, some are not on the disk, and no later Sync
// writes those or tells of them again.
func (f *memFile) Sync() error {
	err := f.fs.hook(OpSync, f.name)
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err != nil {
		if f.fs.rng != nil {
			f.node.writeBack(f.fs.rng)
		}
		clear(f.node.dirty)
		return err
	}
	for s := range f.node.dirty {
		f.node.persist(s)
	}
	clear(f.node.dirty)
	f.node.durable = resize(f.node.durable, len(f.node.data))
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *memFile) Close() error { return nil }

// writeBack lets about half of the dirty sectors reach the disk.
func (n *node) writeBack(rng *rand.Rand) {
	for s := range n.dirty {
		if rng.IntN(2) == 0 {
			n.persist(s)
			delete(n.dirty, s)
		}
	}
}

func (n *node) persist(sector int64) {
	off := sector * sectorSize
	end := min(off+sectorSize, int64(len(n.data)))
	if off >= end {
		return
	}
	if int64(len(n.durable)) < end {
		n.durable = resize(n.durable, int(end))
	}
	copy(n.durable[off:end], n.data[off:end])
}

func resize(b []byte, n int) []byte {
	if n <= len(b) {
		return b[:n]
	}
	return append(b, make([]byte, n-len(b))...)
}

// Crash returns what the disk may hold if the power goes now: all that was
// synced and any subset of the rest, sector by sector and name by name. The
// Mem itself goes on unchanged.
func (m *Mem) Crash(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make(map[string]*node, len(m.durable))
	for name, n := range m.durable {
		names[name] = n
	}
	for _, op := range m.pending {
		if rng.IntN(2) == 0 {
			op.apply(names)
		}
	}
	return m.copyOf(names, rng, func(n *node) []byte {
		c := &node{data: n.data, durable: append([]byte(nil), n.durable...)}
		keep := rng.IntN(4) // 0: nothing, 3: everything, else by the coin
		for s := range n.dirty {
			if keep == 3 || keep != 0 && rng.IntN(2) == 0 {
				c.persist(s)
			}
		}
		return c.durable
	})
}

// Kill returns what is there if the process ends now and the machine goes on:
// everything that was written; what was not synced is not on the disk yet.
func (m *Mem) Kill() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem(m.capacity, nil)
	c.used = m.used
	twins := map[*node]*node{}
	twin := func(n *node) *node {
		if n != nil && twins[n] == nil {
			twins[n] = &node{data: slices.Clone(n.data), durable: slices.Clone(n.durable), dirty: maps.Clone(n.dirty)}
		}
		return twins[n]
	}
	for name, n := range m.names {
		c.names[name] = twin(n)
	}
	for name, n := range m.durable {
		c.durable[name] = twin(n)
	}
	for _, op := range m.pending {
		op.node = twin(op.node)
		c.pending = append(c.pending, op)
	}
	return c
}

func (m *Mem) copyOf(names map[string]*node, rng *rand.Rand, bytes func(*node) []byte) *Mem {
	if rng != nil {
		rng = rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))
	}
	c := NewMem(m.capacity, rng)
	for name, n := range names {
		data := bytes(n)
		f := &node{data: data, durable: append([]byte(nil), data...), dirty: map[int64]bool{}}
		c.names[name], c.durable[name] = f, f
		c.used += int64(len(data))
	}
	return c
}
