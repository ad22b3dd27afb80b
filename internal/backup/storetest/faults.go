package storetest

import (
	"context"
	"iter"
	"sync"

	"kvol/internal/backup"
)

// Faults is a store of which calls can be made to fail, before they are
// carried out or with their answer lost.
type Faults struct {
	backup.Store

	mu   sync.Mutex // guards rule
	rule func(op, name string) error
}

// NewFaults wraps a store; all calls pass until a rule is set.
func NewFaults(s backup.Store) *Faults { return &Faults{Store: s} }

// SetRule makes calls fail with what rule returns; nil lets all pass. It is
// asked before each call, as "put", and after it, as "put!".
func (f *Faults) SetRule(rule func(op, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = rule
}

func (f *Faults) ask(op, name string) error {
	f.mu.Lock()
	rule := f.rule
	f.mu.Unlock()
	if rule == nil {
		return nil
	}
	return rule(op, name)
}

func (f *Faults) do(op, name string, call func() error) error {
	if err := f.ask(op, name); err != nil {
		return err
	}
	if err := call(); err != nil {
		return err
	}
	return f.ask(op+"!", name)
}

// Put implements backup.Store.
func (f *Faults) Put(ctx context.Context, name string, content []byte) error {
	return f.do("put", name, func() error { return f.Store.Put(ctx, name, content) })
}

// Get implements backup.Store.
func (f *Faults) Get(ctx context.Context, name string, limit int64) (content []byte, err error) {
	err = f.do("get", name, func() error { content, err = f.Store.Get(ctx, name, limit); return err })
	return content, err
}

// Has implements backup.Store.
func (f *Faults) Has(ctx context.Context, name string) (has bool, err error) {
	err = f.do("has", name, func() error { has, err = f.Store.Has(ctx, name); return err })
	return has, err
}

// Delete implements backup.Store.
func (f *Faults) Delete(ctx context.Context, name string) error {
	return f.do("delete", name, func() error { return f.Store.Delete(ctx, name) })
}

// List implements backup.Store.
func (f *Faults) List(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := f.ask("list", dir); err != nil {
			yield("", err)
			return
		}
		f.Store.List(ctx, dir)(yield)
	}
}
