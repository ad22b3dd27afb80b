package backup

import "context"

// inTurn is a Store that is changed in this process's turn only.
type inTurn struct {
	Store
	do func(ctx context.Context, change func() error) error
}

// InTurn lets a store be changed only within do, which carries a change out while it
// is this process's turn, and is an error, without having done it, when it is
// another's. A process that has stood still neither puts a manifest after another one
// collected what it names, nor collects what another one's backup relies on. Reading
// asks nobody.
func InTurn(s Store, do func(ctx context.Context, change func() error) error) Store {
	return inTurn{s, do}
}

// Put implements Store.
func (s inTurn) Put(ctx context.Context, name string, content []byte) error {
	return s.do(ctx, func() error { return s.Store.Put(ctx, name, content) })
}

// Delete implements Store.
func (s inTurn) Delete(ctx context.Context, name string) error {
	return s.do(ctx, func() error { return s.Store.Delete(ctx, name) })
}
