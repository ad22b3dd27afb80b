package backup

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"path"
	"sync"
)

// Memory is a Store in memory, the reference for others. Tests use it that end
// the process at each call to a store.
type Memory struct {
	mu      sync.Mutex // guards objects
	objects map[string][]byte
}

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{objects: map[string][]byte{}} }

// Put implements Store.
func (m *Memory) Put(ctx context.Context, name string, content []byte) error {
	if err := m.check(ctx, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[name] = bytes.Clone(content)
	return nil
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if err := m.check(ctx, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.objects[name]
	switch {
	case !ok:
		return nil, missing(name)
	case int64(len(content)) > limit:
		return nil, tooLong(name, limit)
	}
	return bytes.Clone(content), nil
}

// Has implements Store.
func (m *Memory) Has(ctx context.Context, name string) (bool, error) {
	if err := m.check(ctx, name); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.objects[name]
	return ok, nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, name string) error {
	if err := m.check(ctx, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := m.check(ctx, dir); err != nil {
			yield("", err)
			return
		}
		for _, name := range m.below(dir) {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (m *Memory) below(dir string) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.objects {
		if path.Dir(name) == dir {
			names = append(names, name)
		}
	}
	return names
}

// check refuses what the other stores refuse.
func (m *Memory) check(ctx context.Context, name string) error {
	return errors.Join(checkName(name), ctx.Err())
}
