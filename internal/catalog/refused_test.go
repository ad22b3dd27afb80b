package catalog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	pgserver "kvol/test/postgres"
)

// another is a session of somebody else in a catalog's database. It belongs to one
// goroutine.
type another struct {
	t *testing.T
	*pgx.Conn
}

func newAnother(t *testing.T, url string) *another {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // what it did is committed
	return &another{t, conn}
}

func (a *another) does(statements string) {
	a.t.Helper()
	if _, err := a.Exec(a.t.Context(), statements); err != nil {
		a.t.Error(err)
	}
}

// edit writes a setting that is there.
func edit(name, by string) string {
	return "UPDATE settings SET value = value || '" + by + "' WHERE name = '" + name + "'; "
}

// refusals runs an Update, of which each try is told its number, and wants it to be
// refused with the given codes, one after another, before it is committed.
func refusals(t *testing.T, c *Catalog, codes []string, fn func(tx *Tx, try int) error) {
	t.Helper()
	var got []string
	try := 0
	err := c.Update(t.Context(), func(tx *Tx) error {
		try++
		err := fn(tx, try)
		if err != nil {
			got = append(got, pgCode(err))
		}
		return err
	})
	if err != nil || !slices.Equal(got, codes) {
		t.Errorf("refused with %q, want %q; then %v", got, codes, err)
	}
}

// TestRefusedByOthers: what real transactions of others make PostgreSQL refuse, as a
// deadlock, a lock that is not given or a change that came between, is tried again,
// and done once.
func TestRefusedByOthers(t *testing.T) {
	if onPostgres() {
		t.Skip("it has a server of its own")
	}
	url := pgserver.Start(t).Database(t)
	c, err := Open(t.Context(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	commit(t, c, func(tx *Tx) error { return errors.Join(set("a")(tx), set("b")(tx)) })
	other, watcher := newAnother(t, url), newAnother(t, url)
	other.does("SET deadlock_timeout = '1h'") // ours finds it
	ours := func(tx *Tx, name string) error {
		_, err := tx.exec(edit(name, " us"))
		return err
	}

	done := make(chan struct{})
	refusals(t, c, []string{deadlockDetected}, func(tx *Tx, try int) error {
		if try > 1 {
			return errors.Join(ours(tx, "a"), ours(tx, "b"))
		}
		if err := ours(tx, "a"); err != nil {
			return err
		}
		other.does("BEGIN; " + edit("b", " other"))
		pid := other.PgConn().PID()
		go func() {
			defer close(done)
			other.does(edit("a", " other") + "COMMIT")
		}()
		for waits := false; !waits && !t.Failed(); {
			if err := watcher.QueryRow(t.Context(), "SELECT wait_event_type IS NOT DISTINCT FROM 'Lock' "+
				"FROM pg_stat_activity WHERE pid = $1", pid).Scan(&waits); err != nil {
				return err
			}
		}
		return ours(tx, "b")
	})
	<-done

	commit(t, c, func(tx *Tx) error { // from now on
		_, err := tx.exec("SET lock_timeout = '10ms'")
		return err
	})
	refusals(t, c, []string{lockNotAvailable}, func(tx *Tx, try int) error {
		if other.does("COMMIT"); try == 1 {
			other.does("BEGIN; " + edit("a", " other"))
		}
		return ours(tx, "a")
	})

	c.writer.begin = strings.Replace(updating, "READ COMMITTED", "REPEATABLE READ", 1)
	refusals(t, c, []string{serializationFailure}, func(tx *Tx, try int) error {
		if try == 1 {
			other.does(edit("b", " other"))
		}
		return ours(tx, "b")
	})
	look(t, c, func(tx *Tx) error {
		for name, want := range map[string]string{"a": "set other us other us", "b": "set other us other us"} {
			if got, _, err := tx.Setting(name); err != nil || string(got) != want {
				t.Errorf("%s is %q, want %q, %v", name, got, want, err)
			}
		}
		return nil
	})
}
