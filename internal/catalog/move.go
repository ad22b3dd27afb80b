package catalog

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"kvol/internal/block"
)

// Moved tells of one table that Move copied.
type Moved struct {
	Table string
	Rows  int64
}

// movedTo names the setting of a catalog that was moved away.
const movedTo = "catalog_moved_to"

// Move copies all of a catalog in SQLite into one in PostgreSQL that nobody has used
// yet, reads both and compares them row by row, and then marks the first as moved, so that no
// zone is served from it any more. told hears of each table when it is copied.
// Both have to be open alone. A first one in which no zone has been is Invalid: opening
// one makes it, wherever it is. When it fails, the second catalog is as it was
// before and the first one as it was; it may be tried again.
func Move(ctx context.Context, from, to *Catalog, told func(Moved)) error {
	if _, ok := from.dialect.(*sqlite); !ok {
		return block.Errorf(block.Invalid, "a catalog is moved from SQLite")
	}
	server, ok := to.dialect.(*postgres)
	if !ok {
		return block.Errorf(block.Invalid, "a catalog is moved to PostgreSQL")
	}
	err := to.Update(ctx, func(into *Tx) error {
		return from.View(ctx, func(tx *Tx) error { return moveAll(tx, into, told) })
	})
	if err != nil {
		return err
	}
	return from.Update(ctx, func(tx *Tx) error {
		return tx.SetSetting(movedTo, []byte(Options{URL: server.url}.where()))
	})
}

// notMoved refuses a catalog that lives on elsewhere.
func (tx *Tx) notMoved() error {
	where, moved, err := tx.Setting(movedTo)
	if err == nil && moved {
		return block.Errorf(block.Conflict, "it was moved to %s; name that as catalog.url", where)
	}
	return err
}

// table is what is copied of a table: its columns but those that the database
// computes itself.
type table struct {
	name    string
	columns []string
	key     []string        // of the primary key, in order
	flags   map[string]bool // columns that hold BOOLEANs
	needs   []string        // tables that its foreign keys point to
}

// ownTable is not copied: it says which migrations the new catalog has.
const ownTable = "schema_migrations"

func moveAll(from, into *Tx, told func(Moved)) error {
	tables, err := tablesOf(from)
	if err != nil {
		return err
	}
	// One table of the old catalog is read, and hashed, while the new one's transaction
	// is idle: the server would end it.
	if _, err := into.exec("SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
		return err
	}
	if err := begun(from, into, tables); err != nil {
		return err
	}
	for _, t := range slices.Backward(tables) { // what migrations put there is in the old catalog too
		// Triggers count and guard what is written for the first time.
		if _, err := into.exec("ALTER TABLE " + t.name + " DISABLE TRIGGER USER; DELETE FROM " + t.name); err != nil {
			return err
		}
	}
	for _, t := range tables {
		n, err := t.copy(from, into)
		if err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
		told(Moved{t.name, n})
	}
	if err := goOnCounting(into); err != nil {
		return err
	}
	for _, t := range tables {
		if err := t.compare(from, into); err != nil {
			return err
		}
		if _, err := into.exec("ALTER TABLE " + t.name + " ENABLE TRIGGER USER"); err != nil {
			return err
		}
	}
	return nil
}

// begun refuses a catalog to move in which no zone has been, and one to move into that
// holds anything but what a new one begins with: a zone without volumes may still have
// replicas of others', and jobs, and rights.
func begun(from, into *Tx, tables []table) error {
	fresh, err := Open(into.ctx, Options{})
	if err != nil {
		return err
	}
	err = fresh.View(into.ctx, func(begins *Tx) error {
		used, err := firstUsed(begins, into, tables)
		if err != nil {
			return err
		}
		if used != "" {
			return block.Errorf(block.Conflict, "table %s of the PostgreSQL catalog is in use already; "+
				"a catalog is moved into a database in which no zone has been", used)
		}
		if used, err = firstUsed(begins, from, tables); err == nil && used == "" {
			err = block.Errorf(block.Invalid, "the catalog to move holds nothing: no zone has been in it; is this its path?")
		}
		return err
	})
	return errors.Join(err, fresh.Close())
}

// firstUsed names a table that is not as in a new catalog; "" if there is none.
func firstUsed(begins, tx *Tx, tables []table) (string, error) {
	for _, t := range tables {
		same, err := t.same(begins, tx)
		if err != nil {
			return "", err
		}
		if !same {
			return t.name, nil
		}
	}
	return "", nil
}

// goOnCounting lets columns that are filled with the next number go on after the
// greatest that was copied.
func goOnCounting(into *Tx) error {
	names, err := collect(into, func(row scanner) (s string, err error) { return s, row.Scan(&s) },
		`SELECT table_name FROM information_schema.columns
			WHERE table_schema = current_schema() AND column_name = 'id' AND is_identity = 'YES'`)
	for _, name := range names {
		if err == nil {
			_, err = into.exec("SELECT setval(pg_get_serial_sequence('" + name + "', 'id'), MAX(id)) FROM " + name)
		}
	}
	return err
}

// tablesOf lists SQLite's tables so that each comes after those it points to.
func tablesOf(tx *Tx) ([]table, error) {
	names, err := collect(tx, func(row scanner) (s string, err error) { return s, row.Scan(&s) },
		"SELECT name FROM sqlite_master WHERE type = 'table' AND name <> $1 "+
			"AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name", ownTable)
	if err != nil {
		return nil, err
	}
	all := map[string]table{}
	for _, name := range names {
		if all[name], err = tableOf(tx, name); err != nil {
			return nil, err
		}
	}
	var ordered []table
	done := map[string]bool{}
	for len(ordered) < len(all) {
		before := len(ordered)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			t := all[name]
			ready := !slices.ContainsFunc(t.needs, func(n string) bool { return n != name && !done[n] })
			if !done[name] && ready {
				ordered, done[name] = append(ordered, t), true
			}
		}
		if len(ordered) == before {
			return nil, errors.New("tables point at each other in a circle")
		}
	}
	return ordered, nil
}

func tableOf(tx *Tx, name string) (table, error) {
	t := table{name: name, flags: map[string]bool{}}
	type column struct {
		name, kind string
		key        int64
	}
	columns, err := collect(tx, func(row scanner) (c column, err error) { return c, row.Scan(&c.name, &c.kind, &c.key) },
		"SELECT name, type, pk FROM pragma_table_xinfo($1) WHERE hidden = 0 ORDER BY cid", name)
	if err != nil {
		return t, err
	}
	for _, c := range columns {
		t.columns = append(t.columns, c.name)
		t.flags[c.name] = strings.EqualFold(c.kind, "BOOLEAN")
	}
	slices.SortStableFunc(columns, func(a, b column) int { return int(a.key - b.key) })
	for _, c := range columns {
		if c.key > 0 {
			t.key = append(t.key, c.name)
		}
	}
	if len(t.key) == 0 {
		return t, fmt.Errorf("table %s has no primary key", name)
	}
	t.needs, err = collect(tx, func(row scanner) (s string, err error) { return s, row.Scan(&s) },
		`SELECT DISTINCT "table" FROM pragma_foreign_key_list($1)`, name)
	return t, err
}

// pageRows are how many rows are read at once.
const pageRows = 2000

// read goes over all rows in the order of the key.
func (t table) read(tx *Tx, row func([]driver.Value) error) error {
	query := "SELECT " + strings.Join(t.columns, ", ") + " FROM " + t.name
	order := " ORDER BY " + strings.Join(t.key, ", ") + fmt.Sprintf(" LIMIT %d", pageRows)
	var after []any
	for {
		page := query + order
		if after != nil {
			page = query + " WHERE (" + strings.Join(t.key, ", ") + ") > (" + places(len(t.key)) + ")" + order
		}
		found, err := tx.query(page, after...)
		if err != nil {
			return err
		}
		n := 0
		for found.Next() && err == nil {
			n++
			after = t.keyOf(found.at)
			err = row(found.at)
		}
		if err = errors.Join(err, found.Err(), found.Close()); err != nil || n < pageRows {
			return err
		}
	}
}

// keyOf is a row's key.
func (t table) keyOf(row []driver.Value) []any {
	var key []any
	for _, name := range t.key {
		key = append(key, row[slices.Index(t.columns, name)])
	}
	return key
}

// places are n parameters.
func places(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("$%d", i+1))
	}
	return strings.Join(all, ", ")
}

func (t table) copy(from, into *Tx) (n int64, err error) {
	insert := "INSERT INTO " + t.name + " (" + strings.Join(t.columns, ", ") + ") VALUES (" + places(len(t.columns)) + ")"
	return n, t.read(from, func(row []driver.Value) error {
		args := make([]any, len(row))
		for i, v := range row {
			if k, ok := v.(int64); ok && t.flags[t.columns[i]] {
				v = k != 0
			}
			args[i] = v
		}
		n++
		_, err := into.db.exec(into.run, insert, args...)
		return err
	})
}

// compare wants the same rows on both sides.
func (t table) compare(from, into *Tx) error {
	same, err := t.same(from, into)
	if err == nil && !same {
		return block.Errorf(block.Corrupt, "table %s does not hold in PostgreSQL what it holds in SQLite", t.name)
	}
	return err
}

// same reports whether both sides hold the same rows.
func (t table) same(from, into *Tx) (bool, error) {
	var a, b int64
	count := "SELECT COUNT(*) FROM " + t.name
	err := errors.Join(from.queryRow(count).Scan(&a), into.queryRow(count).Scan(&b))
	if err != nil || a != b {
		return false, err
	}
	hashA, errA := t.digest(from)
	hashB, errB := t.digest(into)
	return hashA == hashB, errors.Join(errA, errB)
}

// digest is a hash of all rows.
func (t table) digest(tx *Tx) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	err = t.read(tx, func(row []driver.Value) error {
		for i, v := range row {
			if k, ok := v.(int64); ok && t.flags[t.columns[i]] {
				v = k != 0
			}
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			text := fmt.Sprintf("%T %v", v, v)
			fmt.Fprintf(h, "%d:%s,", len(text), text)
		}
		_, err := h.Write([]byte{'\n'})
		return err
	})
	return [sha256.Size]byte(h.Sum(nil)), err
}
