package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"kvol/internal/block"
)

// memory opens a catalog in memory, which is checked when the test ends.
func memory(t testing.TB) *Catalog { return open(t, "") }

func open(t testing.TB, path string) *Catalog {
	t.Helper()
	c, err := Open(t.Context(), options(t, path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		check(t, c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// check asks SQLite whether the file is sound.
func check(t testing.TB, c *Catalog) {
	t.Helper()
	if onPostgres() {
		return
	}
	err := c.View(context.Background(), func(tx *Tx) error {
		text := func(row scanner) (s string, err error) { return s, row.Scan(&s) }
		found, err := collect(tx, text, "PRAGMA integrity_check")
		if len(found) != 1 || found[0] != "ok" {
			t.Errorf("integrity: %q", found)
		}
		if err != nil {
			return err
		}
		rows, err := tx.query("PRAGMA foreign_key_check")
		if err != nil {
			return err
		}
		defer rows.Close()
		if rows.Next() {
			t.Error("a foreign key points nowhere")
		}
		return rows.Err()
	})
	if err != nil {
		t.Errorf("check: %v", err)
	}
}

func commit(t testing.TB, c *Catalog, fn func(*Tx) error) {
	t.Helper()
	if err := c.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func look(t testing.TB, c *Catalog, fn func(*Tx) error) {
	t.Helper()
	if err := c.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, kind block.Kind, message string) {
	t.Helper()
	got, _ := block.UserMessage(err)
	if !block.Is(err, kind) || got != message {
		t.Errorf("error %v (%v), want %v %q", err, block.KindOf(err), kind, message)
	}
}

func TestUpdateThatFailsLeavesNothing(t *testing.T) {
	c := memory(t)
	boom := errors.New("boom")
	err := c.Update(t.Context(), func(tx *Tx) error {
		return errors.Join(tx.SetSetting("a", []byte("1")), boom)
	})
	if !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = c.Update(t.Context(), func(tx *Tx) error {
			if err := tx.SetSetting("b", []byte("1")); err != nil {
				t.Error(err)
			}
			panic("boom")
		})
	}()
	look(t, c, func(tx *Tx) error {
		for _, name := range []string{"a", "b"} {
			if _, ok, err := tx.Setting(name); ok || err != nil {
				t.Errorf("setting %s: %v %v", name, ok, err)
			}
		}
		return nil
	})
}

func TestViewCannotWriteAndSeesOneMoment(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "catalog.db"))
	err := c.View(t.Context(), func(tx *Tx) error { return tx.SetSetting("a", []byte("1")) })
	if err == nil {
		t.Error("a view wrote")
	}
	look(t, c, func(tx *Tx) error {
		for range 2 {
			if _, ok, err := tx.Setting("a"); ok || err != nil {
				t.Errorf("the view sees a later commit: %v %v", ok, err)
			}
			commit(t, c, func(tx *Tx) error { return tx.SetSetting("a", []byte("1")) })
		}
		return nil
	})
}

func TestPragmas(t *testing.T) {
	sqliteOnly(t)
	path := filepath.Join(t.TempDir(), "a catalog?#%20.db")
	c := open(t, path)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", suffix, info, err)
		}
	}
	reader, _, err := c.readers.take(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.readers.give(reader, true) }()
	for _, db := range []*conn{c.writer.conn, reader} {
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
		} {
			var got string
			found, err := db.query(t.Context(), "PRAGMA "+pragma)
			if err := (&row{found, err}).Scan(column(func(v any) error { got = fmt.Sprint(v); return nil })); err != nil ||
				got != want {
				t.Errorf("%s = %q, %v; want %q", pragma, got, err, want)
			}
		}
	}
}

func TestCommittedSurvivesWithoutClose(t *testing.T) {
	sqliteOnly(t)
	dir := t.TempDir()
	c := open(t, filepath.Join(dir, "catalog.db"))
	commit(t, c, func(tx *Tx) error { return tx.SetSetting("a", []byte("kept")) })
	copied := filepath.Join(t.TempDir(), "catalog.db")
	commit(t, c, func(tx *Tx) error {
		if err := tx.SetSetting("a", []byte("never committed in the copy")); err != nil {
			return err
		}
		return copyCatalog(filepath.Join(dir, "catalog.db"), copied)
	})
	look(t, open(t, copied), func(tx *Tx) error {
		if got, _, err := tx.Setting("a"); err != nil || string(got) != "kept" {
			t.Errorf("setting %q, %v", got, err)
		}
		return nil
	})
}

// copyCatalog copies the files of a catalog while nobody commits: what a power
// cut would leave.
func copyCatalog(from, to string) error {
	for _, suffix := range []string{"", "-wal"} {
		text, err := os.ReadFile(from + suffix)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to+suffix, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func TestTwoProcessesOnOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	const each = 50
	var all sync.WaitGroup
	for _, c := range []*Catalog{open(t, path), open(t, path)} {
		for range 2 {
			all.Go(func() {
				for range each {
					if err := c.Update(t.Context(), func(tx *Tx) error { _, err := tx.Next("n"); return err }); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	commit(t, open(t, path), func(tx *Tx) error {
		if n, err := tx.Next("n"); n != 4*each+1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		return nil
	})
}

// TestUpdateTriesAgain holds the write lock from another connection, for a
// while and for ever.
func TestUpdateTriesAgain(t *testing.T) {
	sqliteOnly(t)
	path := filepath.Join(t.TempDir(), "catalog.db")
	for name, hold := range map[string]time.Duration{"a while": 300 * time.Millisecond, "for ever": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				holder, c := open(t, path), open(t, path)
				if _, err := c.writer.conn.exec(t.Context(), "PRAGMA busy_timeout = 0"); err != nil {
					t.Fatal(err)
				}
				held := make(chan struct{})
				go func() {
					_ = holder.Update(t.Context(), func(*Tx) error { close(held); time.Sleep(hold); return nil })
				}()
				<-held
				err := c.Update(t.Context(), func(*Tx) error { return nil })
				if hold < time.Minute && err != nil {
					t.Error(err)
				}
				if hold > time.Minute {
					wantError(t, err, block.Unavailable, "The catalog is busy, try again.")
				}
				time.Sleep(hold)
			})
		})
	}
}

func TestNowIsOneInstantInMicroseconds(t *testing.T) {
	c := memory(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6007, time.FixedZone("", 3600))
	c.now = func() time.Time { at = at.Add(time.Second); return at }
	look(t, c, func(tx *Tx) error {
		want := time.Date(2026, 1, 2, 2, 4, 6, 6000, time.UTC)
		if tx.Now != want {
			t.Errorf("%v, want %v", tx.Now, want)
		}
		return nil
	})
}

func TestMigrations(t *testing.T) {
	c := memory(t)
	files := fstest.MapFS{
		"m/9101_b.sql": {Data: []byte("CREATE TABLE b (x BIGINT); INSERT INTO b SELECT x FROM a;")},
		"m/9100_a.sql": {Data: []byte("CREATE TABLE a (x BIGINT); INSERT INTO a VALUES (7);")},
	}
	for range 2 { // the second time, nothing is left to do
		if err := c.migrate(t.Context(), files, "m"); err != nil {
			t.Fatal(err)
		}
	}
	files["m/9099_late.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE late (x BIGINT)")}
	if err := c.migrate(t.Context(), files, "m"); err != nil {
		t.Fatal("a gap that is filled later:", err)
	}
	files["m/9102_bad.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE half (x BIGINT); CREATE NONSENSE")}
	if err := c.migrate(t.Context(), files, "m"); err == nil || !strings.Contains(err.Error(), "9102_bad.sql") {
		t.Errorf("a bad migration: %v", err)
	}
	look(t, c, func(tx *Tx) error {
		text := func(row scanner) (s string, err error) { return s, row.Scan(&s) }
		tables := "SELECT name FROM sqlite_master WHERE name IN ('a', 'b', 'late', 'half')"
		if onPostgres() {
			tables = "SELECT tablename FROM pg_tables WHERE tablename IN ('a', 'b', 'late', 'half')"
		}
		names, err := collect(tx, text, tables)
		if slices.Sort(names); !slices.Equal(names, []string{"a", "b", "late"}) {
			t.Errorf("tables %v", names)
		}
		return err
	})
	for name, files := range map[string]fstest.MapFS{
		"newer":        {"m/9001_old.sql": {}},
		"one number":   {"m/9500_a.sql": {}, "m/9500_b.sql": {}},
		"four digits":  {"m/50_a.sql": {}},
		"no migration": {},
	} {
		if err := c.migrate(t.Context(), files, "m"); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenRefusesWhatIsNoCatalog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Path: path}); err == nil {
		t.Error("opened")
	}
}

func TestSequence(t *testing.T) {
	c := memory(t)
	var got []int64
	draw := func(tx *Tx) error {
		n, err := tx.Next("a")
		got = append(got, n)
		return err
	}
	commit(t, c, draw)
	_ = c.Update(t.Context(), func(tx *Tx) error { return errors.Join(draw(tx), errors.New("no")) })
	commit(t, c, draw)
	if !slices.Equal(got, []int64{1, 2, 2}) {
		t.Error(got)
	}
}

func TestSetting(t *testing.T) {
	c := memory(t)
	for _, want := range []string{"one", "", "two"} {
		commit(t, c, func(tx *Tx) error { return tx.SetSetting("x", []byte(want)) })
		look(t, c, func(tx *Tx) error {
			if got, ok, err := tx.Setting("x"); string(got) != want || !ok || err != nil {
				t.Errorf("%q %v %v, want %q", got, ok, err, want)
			}
			return nil
		})
	}
}

// TestImage opens a catalog on what another one held when its image was taken.
func TestImage(t *testing.T) {
	ctx := t.Context()
	first, err := Open(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := first.Update(ctx, set("before")); err != nil {
		t.Fatal(err)
	}
	image, err := first.Image(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Update(ctx, set("after")); err != nil {
		t.Fatal(err)
	}
	second, err := Open(ctx, Options{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	wantSet(t, second, map[string]bool{"before": true, "after": false})
	if _, err := Open(ctx, Options{Image: []byte("no database")}); err == nil {
		t.Error("an image that is none was opened")
	}
}

// TestCommitHook has a commit not happen, and another one happen of which
// nobody is told.
func TestCommitHook(t *testing.T) {
	ctx, fate := t.Context(), func(commit func() error) error { return commit() }
	dead := errors.New("the process is dead")
	c, err := Open(ctx, Options{Commit: func(commit func() error) error { return fate(commit) }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fate = func(func() error) error { return dead }
	if err := c.Update(ctx, set("never")); !errors.Is(err, dead) {
		t.Errorf("before the commit: %v", err)
	}
	fate = func(commit func() error) error { return errors.Join(commit(), dead) }
	if err := c.Update(ctx, set("untold")); !errors.Is(err, dead) {
		t.Errorf("after the commit: %v", err)
	}
	fate = func(commit func() error) error { return commit() }
	if err := c.Update(ctx, set("told")); err != nil {
		t.Error(err)
	}
	wantSet(t, c, map[string]bool{"never": false, "untold": true, "told": true})
}
