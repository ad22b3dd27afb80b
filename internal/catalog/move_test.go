package catalog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/block"
	pgserver "kvol/test/postgres"
)

// fillAll puts rows into every table, by the kinds of its columns: texts and
// numbers of a row are all the same, so that what points to another table finds
// the row there.
func fillAll(t *testing.T, c *Catalog, rows int) (tables int) {
	t.Helper()
	commit(t, c, func(tx *Tx) error {
		all, err := tablesOf(tx)
		if err != nil {
			return err
		}
		for _, table := range all {
			tables++
			if strings.HasPrefix(table.name, "audit_") {
				continue // a chain, see below
			}
			for i := range rows {
				if err := fillRow(tx, tx, table.name, i+1); err != nil {
					return fmt.Errorf("table %s: %w", table.name, err)
				}
			}
		}
		for range rows {
			if err := tx.InsertAudit(block.Audit{User: "erin", Call: "recover"}); err != nil {
				return err
			}
		}
		return nil
	})
	return tables
}

// fillRow puts a row into a table, of which from, in SQLite, tells the columns.
func fillRow(from, into *Tx, table string, i int) error {
	var names []string
	var args []any
	_, err := collect(from, func(row scanner) (struct{}, error) {
		var name, kind string
		var notNull, key bool
		if err := row.Scan(&name, &kind, &notNull, &key); err != nil {
			return struct{}{}, err
		}
		names = append(names, name)
		switch {
		case i%3 == 0 && !notNull && !key:
			args = append(args, nil)
		case kind == "BOOLEAN":
			args = append(args, i%2 == 0)
		case kind == "BLOB":
			args = append(args, []byte{0, byte(i), 0xff})
		case kind == "TEXT":
			args = append(args, fmt.Sprintf(`{"a": "%c\u00e4 %d"}`, 'a'+i%26, i))
		default:
			args = append(args, i)
		}
		return struct{}{}, nil
	}, `SELECT name, type, "notnull", pk > 0 FROM pragma_table_xinfo($1) WHERE hidden = 0`, table)
	if err != nil {
		return err
	}
	_, err = into.exec("INSERT INTO "+table+" ("+strings.Join(names, ", ")+") VALUES ("+places(len(names))+")", args...)
	return err
}

// TestMove moves a catalog with rows in every table, more than are read at once,
// and wants the same rows there, and the old one refused.
func TestMove(t *testing.T) {
	if onPostgres() {
		t.Skip("it is about both")
	}
	server := pgserver.Start(t)
	path := filepath.Join(t.TempDir(), "catalog.db")
	from, err := Open(t.Context(), Options{Path: path, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	tables := fillAll(t, from, 5)
	commit(t, from, func(tx *Tx) error {
		for i := range 2*pageRows + 1 {
			if _, err := tx.exec("INSERT INTO quotas (project_id, resource, max) VALUES ($1, 'volumes', $2)",
				fmt.Sprintf("p%d", i), i); err != nil {
				return err
			}
		}
		return nil
	})
	url := server.Database(t)
	to, err := Open(t.Context(), Options{URL: url, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := Open(t.Context(), Options{URL: url, Alone: true}); !block.Is(err, block.Conflict) {
		t.Errorf("a second process opens the database alone: %v", err)
	}
	if _, err := Open(t.Context(), Options{Path: path, Alone: true}); !block.Is(err, block.Conflict) {
		t.Errorf("a second process opens the file alone: %v", err)
	}
	var moved []Moved
	if err := Move(t.Context(), from, to, func(m Moved) { moved = append(moved, m) }); err != nil {
		t.Fatal(err)
	}
	if len(moved) != tables {
		t.Errorf("%d tables of %d moved", len(moved), tables)
	}
	for _, c := range []*Catalog{from, to} {
		look(t, c, func(tx *Tx) error {
			for _, m := range moved {
				var n int64
				if err := tx.queryRow("SELECT COUNT(*) FROM " + m.Table).Scan(&n); err != nil {
					return err
				}
				if c == from && m.Table == "settings" {
					n-- // the mark of the move
				}
				if n != m.Rows || n < 5 && !strings.HasPrefix(m.Table, "audit_") {
					t.Errorf("%d rows of %s, of which %d were told", n, m.Table, m.Rows)
				}
			}
			return nil
		})
	}
	if err := Move(t.Context(), from, to, func(Moved) {}); !block.Is(err, block.Conflict) {
		t.Errorf("moved again: %v", err)
	}
	if p := whole(t, to); len(p) != 0 {
		t.Errorf("the audit log: %v", p)
	}
	commit(t, to, func(tx *Tx) error { // numbers go on, and so does the log
		return errors.Join(tx.InsertAudit(block.Audit{User: "erin", Call: "recover"}),
			tx.InsertDREvents([]block.DREvent{{}}))
	})
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Path: path, Alone: true}); !block.Is(err, block.Conflict) ||
		!strings.Contains(err.Error(), "it was moved to postgres://") {
		t.Errorf("the old catalog is served: %v", err)
	}
}

// TestMoveIntoUsed moves into catalogs that are in use: of zones without volumes, too.
// They are refused and left as they are.
func TestMoveIntoUsed(t *testing.T) {
	if onPostgres() {
		t.Skip("it is about both")
	}
	from := memory(t)
	commit(t, from, set("moved"))
	to, err := Open(t.Context(), Options{URL: pgserver.Start(t).Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	used := func(table string, use func(from, into *Tx) error, undo string) {
		t.Helper()
		commit(t, to, func(into *Tx) error {
			if _, err := into.exec("SET LOCAL session_replication_role = replica"); err != nil { // it points nowhere
				return err
			}
			return from.View(t.Context(), func(tx *Tx) error { return use(tx, into) })
		})
		err := Move(t.Context(), from, to, func(Moved) {})
		if !block.Is(err, block.Conflict) || !strings.Contains(err.Error(), "table "+table+" ") {
			t.Errorf("moved into a catalog that has %s: %v", table, err)
		}
		commit(t, to, func(into *Tx) error {
			res, err := into.exec(undo)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil || n != 1 {
				t.Errorf("%d rows of %s are left, %v", n, table, err)
			}
			return nil
		})
	}
	for _, table := range []string{"replicas", "connections", "jobs", "fences", "users", "settings", "duties"} {
		used(table, func(from, into *Tx) error { return fillRow(from, into, table, 1) }, "DELETE FROM "+table)
	}
	const name = "UPDATE group_types SET name = '"
	used("group_types", func(_, into *Tx) error {
		_, err := into.exec(name + "another'")
		return err
	}, name+"default_cgsnapshot_type'")
	look(t, to, func(tx *Tx) error {
		if _, ok, err := tx.Setting("moved"); ok || err != nil {
			t.Errorf("the setting was moved: %v, %v", ok, err)
		}
		return nil
	})
	if err := Move(t.Context(), from, to, func(Moved) {}); err != nil {
		t.Errorf("moved into a catalog as it was in the beginning: %v", err)
	}
}

// TestMoveTakesItsTime: the transaction into which a catalog is moved has no end in
// time, however long a table is read from the other one.
func TestMoveTakesItsTime(t *testing.T) {
	if onPostgres() {
		t.Skip("it is about both")
	}
	from := memory(t)
	commit(t, from, set("moved"))
	to, err := Open(t.Context(), Options{URL: pgserver.Start(t).Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	limit := func() (limit string) {
		found, err := to.writer.conn.query(t.Context(), "SHOW idle_in_transaction_session_timeout")
		if err := (&row{found, err}).Scan(&limit); err != nil {
			t.Fatal(err)
		}
		return limit
	}
	tables := 0
	if err := Move(t.Context(), from, to, func(Moved) {
		if tables++; limit() != "0" {
			t.Errorf("it may be idle for %s", limit())
		}
	}); err != nil {
		t.Fatal(err)
	}
	if limit() == "0" || tables == 0 {
		t.Errorf("after %d tables, transactions may be idle for %s", tables, limit())
	}
}

// TestMoveOfNothing moves a catalog that nobody has used, as one is whose path was
// mistyped: it is refused, and neither is changed.
func TestMoveOfNothing(t *testing.T) {
	if onPostgres() {
		t.Skip("it is about both")
	}
	from := memory(t)
	to, err := Open(t.Context(), Options{URL: pgserver.Start(t).Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	err = Move(t.Context(), from, to, func(m Moved) { t.Errorf("%s was moved", m.Table) })
	if !block.Is(err, block.Invalid) || !strings.Contains(err.Error(), "no zone has been in it") {
		t.Errorf("moved nothing: %v", err)
	}
	look(t, from, func(tx *Tx) error { return tx.notMoved() })
	commit(t, from, set("begun"))
	if err := Move(t.Context(), from, to, func(Moved) {}); err != nil {
		t.Errorf("moved after that: %v", err)
	}
}

// TestPasswordFile: the password need not be in the URL, which is on command lines.
func TestPasswordFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(path, []byte("db.example:5432:kvol:keeper:from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSWORD", "")
	t.Setenv("PGPASSFILE", path)
	p := &postgres{url: "postgres://keeper@db.example/kvol"}
	if c, _, err := p.config(); err != nil || c.Password != "from the file" {
		t.Errorf("%q, %v", c.Password, err)
	}
}

// TestMoveCompares changes a row on its way and wants nothing moved.
func TestMoveCompares(t *testing.T) {
	if onPostgres() {
		t.Skip("it is about both")
	}
	from := memory(t)
	commit(t, from, func(tx *Tx) error { return tx.SetQuota("p", "volumes", 7) })
	to, err := Open(t.Context(), Options{URL: pgserver.Start(t).Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	commit(t, to, func(tx *Tx) error {
		_, err := tx.exec("CREATE RULE spoil AS ON INSERT TO quotas DO ALSO UPDATE quotas SET max = max + 1")
		return err
	})
	if err := Move(t.Context(), from, to, func(Moved) {}); !block.Is(err, block.Corrupt) {
		t.Errorf("a row that changed on its way: %v", err)
	}
	look(t, to, func(tx *Tx) error {
		var n int
		if err := tx.queryRow("SELECT COUNT(*) FROM quotas").Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows are left of a move that failed, %v", n, err)
		}
		return nil
	})
	look(t, from, func(tx *Tx) error { return tx.notMoved() })
}

// TestServerRestarts ends PostgreSQL in a crash and starts it again: what was
// committed is there, and the catalog goes on with new connections.
func TestServerRestarts(t *testing.T) {
	if onPostgres() {
		t.Skip("it has a server of its own")
	}
	server := pgserver.Start(t)
	c, err := Open(t.Context(), Options{URL: server.Database(t), Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	commit(t, c, set("before"))
	server.Kill()
	if err := c.View(t.Context(), func(*Tx) error { return nil }); !block.Is(err, block.Unavailable) {
		t.Errorf("a view without a server: %v", err)
	}
	if err := c.Update(t.Context(), set("without")); !block.Is(err, block.Unavailable) {
		t.Errorf("an update without a server: %v", err)
	}
	server.Resume(t)
	commit(t, c, set("after"))
	wantSet(t, c, map[string]bool{"before": true, "without": false, "after": true})
}
