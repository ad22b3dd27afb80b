package catalog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// together lets Updates run while one that came before them holds the turn, so
// that they are members of one batch. It returns the errors of the Updates. It
// must run in a bubble.
func together(t *testing.T, c *Catalog, updates ...func(*Tx) error) []error {
	t.Helper()
	hold, errs := make(chan struct{}), make([]error, len(updates))
	var all sync.WaitGroup
	begun := make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	all.Go(func() {
		if err := c.Update(t.Context(), func(*Tx) error { begin(); <-hold; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-begun
	for i, fn := range updates {
		all.Go(func() { errs[i] = c.Update(t.Context(), fn) })
		synctest.Wait() // it waits for the turn
	}
	close(hold)
	all.Wait()
	return errs
}

func set(name string) func(*Tx) error {
	return func(tx *Tx) error { return tx.SetSetting(name, []byte("set")) }
}

// wantSet asks another connection than the one that wrote.
func wantSet(t *testing.T, c *Catalog, names map[string]bool) {
	t.Helper()
	look(t, c, func(tx *Tx) error {
		for name, want := range names {
			if _, ok, err := tx.Setting(name); err != nil || ok != want {
				t.Errorf("%s: %v, %v; want %v", name, ok, err, want)
			}
		}
		return nil
	})
}

func onDisk(t *testing.T) *Catalog { return open(t, filepath.Join(t.TempDir(), "catalog.db")) }

func TestUpdatesThatWaitCommitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := onDisk(t)
		var batches []*batch
		member := func(name string) func(*Tx) error {
			return func(tx *Tx) error {
				batches = append(batches, c.writer.open)
				return set(name)(tx)
			}
		}
		boom := errors.New("boom")
		errs := together(t, c, member("a"), func(tx *Tx) error { return errors.Join(member("b")(tx), boom) }, member("c"))
		if errs[0] != nil || !errors.Is(errs[1], boom) || errs[2] != nil {
			t.Errorf("errors %v", errs)
		}
		if len(batches) != 3 || batches[0] != batches[1] || batches[1] != batches[2] {
			t.Errorf("they ran in %v", batches)
		}
		wantSet(t, c, map[string]bool{"a": true, "b": false, "c": true})
	})
}

// TestMembersSeeWhatWasBefore: what one Update wrote the next one counts,
// although it is not committed yet.
func TestMembersSeeWhatWasBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := onDisk(t)
		var drawn []int64
		draw := func(tx *Tx) error {
			n, err := tx.Next("n")
			drawn = append(drawn, n)
			return err
		}
		together(t, c, draw, draw, draw)
		if fmt.Sprint(drawn) != "[1 2 3]" {
			t.Error(drawn)
		}
	})
}

// TestUpdateThatNeverReturns: neither a panic nor the end of a goroutine takes
// the others along or keeps them waiting.
func TestUpdateThatNeverReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := onDisk(t)
		ended := make(chan any, 2)
		for _, end := range []func(){runtime.Goexit, func() { panic("oops") }} {
			go func() {
				defer func() { ended <- recover() }()
				_ = c.Update(t.Context(), func(tx *Tx) error {
					if err := set("lost")(tx); err != nil {
						t.Error(err)
					}
					end()
					return nil
				})
			}()
			<-ended
		}
		errs := together(t, c, set("a"), set("b"))
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
		wantSet(t, c, map[string]bool{"lost": false, "a": true, "b": true})
	})
}

// TestTransactionThatIsGivenUp: where the database undoes all, all others try
// again, and the one that was at work hears why.
func TestTransactionThatIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := onDisk(t)
		tried := 0
		first := func(tx *Tx) error { tried++; return set("first")(tx) }
		full := errors.New("disk full")
		breaks := func(tx *Tx) error { // as SQLite does for some errors
			_, err := tx.exec("ROLLBACK")
			return errors.Join(err, full)
		}
		swallows := func(tx *Tx) error { _, _ = tx.exec("ROLLBACK"); return nil }
		errs := together(t, c, first, breaks, set("last"))
		if errs[0] != nil || !errors.Is(errs[1], full) || errs[2] != nil || tried != 2 {
			t.Errorf("errors %v, tried %d times", errs, tried)
		}
		if errs := together(t, c, swallows); errs[0] == nil {
			t.Error("what was undone passed for committed")
		}
		wantSet(t, c, map[string]bool{"first": true, "last": true})
	})
}

func TestWhoGivesUpWaitingHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := onDisk(t)
		ctx, cancel := context.WithCancel(t.Context())
		var late error
		errs := together(t, c, func(tx *Tx) error { cancel(); return set("a")(tx) }, set("b"))
		late = c.Update(ctx, set("late"))
		if errors.Join(errs...) != nil || !errors.Is(late, context.Canceled) {
			t.Errorf("errors %v, %v", errs, late)
		}
		hold, begun := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		waiting, stop := context.WithCancel(t.Context())
		all.Go(func() { _ = c.Update(t.Context(), func(tx *Tx) error { close(begun); <-hold; return set("c")(tx) }) })
		<-begun
		all.Go(func() { late = c.Update(waiting, set("late")) }) // the only one that could commit for "c"
		synctest.Wait()
		stop()
		close(hold)
		all.Wait()
		if !errors.Is(late, context.Canceled) {
			t.Error(late)
		}
		wantSet(t, c, map[string]bool{"a": true, "b": true, "c": true, "late": false})
	})
}

// justEnded is a context at the moment when it has ended and nobody was woken yet.
type justEnded struct{ context.Context }

func (justEnded) Done() <-chan struct{} { return nil }
func (justEnded) Err() error            { return context.Canceled }

// TestViewThatEndsAtItsTurn: it got the turn together with what others did, and commits
// that whether it still wants to read or not.
func TestViewThatEndsAtItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, "")
		hold, begun := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			if err := c.Update(t.Context(), func(tx *Tx) error { close(begun); <-hold; return set("a")(tx) }); err != nil {
				t.Error(err)
			}
		})
		<-begun
		all.Go(func() {
			err := c.writer.view(justEnded{t.Context()}, func(*conn) error { t.Error("it read"); return nil })
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait() // it waits for the turn
		close(hold)
		all.Wait()
		wantSet(t, c, map[string]bool{"a": true})
	})
}

// TestStatementsAreKept: a statement is read by SQLite once, however often it
// runs; one that is in use is not used twice; and they are not kept for ever.
func TestStatementsAreKept(t *testing.T) {
	c := memory(t)
	commit(t, c, func(tx *Tx) error {
		const query = "SELECT name FROM settings WHERE name >= $1 ORDER BY name"
		for _, name := range []string{"a", "b", "c"} {
			if err := set(name)(tx); err != nil {
				return err
			}
		}
		text := func(row scanner) (s string, err error) { return s, row.Scan(&s) }
		var seen []string
		_, err := collect(tx, func(row scanner) (s string, err error) {
			if err := row.Scan(&s); err != nil {
				return s, err
			}
			inner, err := collect(tx, text, query, s)
			seen = append(seen, inner...)
			return s, err
		}, query, "a")
		if fmt.Sprint(seen) != "[a b c b c c]" {
			t.Errorf("%v", seen)
		}
		p := tx.db.kept[query]
		if _, again := collect(tx, text, query, "a"); again != nil || p == nil || tx.db.kept[query].Value != p.Value {
			t.Errorf("it was prepared again: %v", again)
		}
		for i := range 3 * statementsKept {
			if _, err := tx.exec(fmt.Sprintf("DELETE FROM settings WHERE name = $1 AND name <> 'x%d'", i), "x"); err != nil {
				return err
			}
		}
		if n := len(tx.db.kept); n != statementsKept || tx.db.order.Len() != n {
			t.Errorf("%d statements kept", n)
		}
		return err
	})
}

// TestScan: what columns are read into.
func TestScan(t *testing.T) {
	c := memory(t)
	look(t, c, func(tx *Tx) error {
		type name string
		var (
			s        string
			n        int64
			b        bool
			raw, nul []byte
			named    name
			pointer  *name
			none     *string
			small    int8
		)
		err := tx.queryRow("SELECT 'a', 7, 1, 'raw', NULL, 'n', 'p', NULL, -3").
			Scan(&s, &n, &b, &raw, &nul, &named, &pointer, &none, &small)
		if err != nil || s != "a" || n != 7 || !b || string(raw) != "raw" || nul != nil || named != "n" ||
			pointer == nil || *pointer != "p" || none != nil || small != -3 {
			t.Errorf("%v %v %v %q %v %v %v %v %v %v", s, n, b, raw, nul, named, pointer, none, small, err)
		}
		for _, tt := range []struct {
			query string
			into  any
		}{{"SELECT NULL", &s}, {"SELECT 'x'", &n}, {"SELECT 1000", &small}, {"SELECT 1", &named}, {"SELECT 1, 2", &n},
			{"SELECT 1", n}} {
			if err := tx.queryRow(tt.query).Scan(tt.into); err == nil {
				t.Errorf("%s was read into %T", tt.query, tt.into)
			}
		}
		return nil
	})
}

// TestViewEndsWithItsContext in the middle of a statement and between rows.
func TestViewEndsWithItsContext(t *testing.T) {
	c := onDisk(t)
	const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "
	for _, query := range []string{endless + "COUNT(*) FROM n", endless + "i FROM n"} {
		ctx, cancel := context.WithCancel(t.Context())
		begun := make(chan struct{})
		go func() { <-begun; cancel() }()
		err := c.View(ctx, func(tx *Tx) error {
			close(begun)
			_, err := collect(tx, func(row scanner) (n int64, err error) { return n, row.Scan(&n) }, query)
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", query, err)
		}
	}
	wantSet(t, c, map[string]bool{"x": false}) // the connection is of use
}
