package backup_test

import (
	"context"
	"maps"
	"strings"
	"testing"

	"kvol/internal/backup"
	"kvol/internal/backup/storetest"
	"kvol/internal/block"
)

// turns let one of several processes change a store at a time.
type turns struct{ whose int }

func (t *turns) of(process int) func(context.Context, func() error) error {
	return func(_ context.Context, change func() error) error {
		if t.whose != process {
			return block.Errorf(block.Unavailable, "it is another's turn")
		}
		return change()
	}
}

func TestInTurnIsAStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) backup.Store {
		return backup.InTurn(backup.NewMemory(), new(turns).of(0))
	})
}

// TestLateProcess: a process that stood still while its turn went to another one
// changes nothing any more, at whatever step of a backup or a collection it was. What
// the other one finished is whole.
func TestLateProcess(t *testing.T) {
	for _, what := range []string{"manifest", "collection"} {
		shared, whose := backup.NewMemory(), &turns{}
		slow := &stalls{backup.InTurn(shared, whose.of(0)), func(string, string) {}}
		late := newRig(t, slow)
		next := *late
		next.store = backup.InTurn(shared, whose.of(1))
		next.restart()

		late.write(20_000, spread...)
		first := late.backUp(mine, nil)
		must(t, late.repo.Remove(t.Context(), mine, first.Backup))
		id := late.begin(first)
		must(t, shared.Delete(t.Context(), string(mine)+"/unfinished/"+string(id)))
		var after map[string]bool
		slow.before = func(op, name string) {
			if whose.whose == 0 && (op == "put" && strings.Contains(name, "/manifests/") || op == "delete") {
				whose.whose = 1 // late stands still here, and its time is over
				if op == "put" {
					next.collect(mine)
				} else {
					_, err := next.again(t.Context(), mine, id, nil)
					must(t, err)
				}
				after = objectsOf(&next, mine)
			}
		}
		var err error
		if what == "manifest" {
			_, err = late.again(t.Context(), mine, id, nil)
		} else {
			_, err = late.repo.Collect(t.Context(), mine)
		}
		if whose.whose != 1 || !block.Is(err, block.Unavailable) || !maps.Equal(after, objectsOf(&next, mine)) {
			t.Errorf("%s: %v; %d objects, then %d", what, err, len(after), len(objectsOf(&next, mine)))
		}
		_, err = next.again(t.Context(), mine, id, nil)
		must(t, err)
		next.wantRestored(mine, id)
	}
}

// stalls is a store that waits before each change, which is not yet in its turn.
type stalls struct {
	backup.Store
	before func(op, name string)
}

func (s *stalls) Put(ctx context.Context, name string, content []byte) error {
	s.before("put", name)
	return s.Store.Put(ctx, name, content)
}

func (s *stalls) Delete(ctx context.Context, name string) error {
	s.before("delete", name)
	return s.Store.Delete(ctx, name)
}
