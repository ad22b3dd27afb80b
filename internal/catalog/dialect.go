package catalog

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// dialect is all that the SQL in this package does not say portably: how to
// connect, what an error means, and the one function whose name differs. The
// statements themselves are read alike by SQLite and PostgreSQL.
type dialect struct{}

// busyTimeout is how long SQLite itself waits for another process, in
// milliseconds.
const busyTimeout = 5000

// connect returns the connection that writes and those that read; the latter are
// nil for a catalog in memory. One writer gives the same throughput as many, and
// the worst wait is milliseconds, not seconds, since nobody polls for the lock.
func (dialect) connect(path string) (*writer, *readers, error) {
	pragmas := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout), "foreign_keys(1)", "journal_mode(WAL)", "synchronous(FULL)",
	}}
	name := "file:" + (&url.URL{Path: path}).EscapedPath()
	if path == "" {
		name = "file::memory:"
	} else if err := private(path); err != nil {
		return nil, nil, err
	}
	open := func(pragmas url.Values) (*conn, error) {
		d, err := (&sqlite.Driver{}).Open(name + "?" + pragmas.Encode())
		if err != nil {
			return nil, err
		}
		return newConn(d), nil
	}
	write, err := open(pragmas)
	if err != nil || path == "" {
		return newWriter(write), nil, err
	}
	reading := url.Values{"_pragma": append(slices.Clone(pragmas["_pragma"]), "query_only(1)")}
	return newWriter(write), newReaders(maxReaders, func() (*conn, error) { return open(reading) }), nil
}

// private makes the file where it is missing, for its owner alone: it holds
// password hashes. SQLite gives the files beside it the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// refused reports whether a transaction failed only because of others that ran
// at the same time, so that it may be tried again.
func (dialect) refused(err error) bool {
	code := sqliteCode(err) & 0xff
	return code == sqlitelib.SQLITE_BUSY || code == sqlitelib.SQLITE_LOCKED
}

// duplicate reports whether a unique index or a primary key refused a row.
func (dialect) duplicate(err error) bool {
	code := sqliteCode(err)
	return code == sqlitelib.SQLITE_CONSTRAINT_UNIQUE || code == sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY
}

func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// hasPair is a condition: the JSON object of texts in a column has this pair.
// key and value are parameters, "$1".
func (dialect) hasPair(column, key, value string) string {
	return fmt.Sprintf("EXISTS (SELECT 1 FROM json_each(%s) AS pair WHERE pair.key = %s AND pair.value = %s)",
		column, key, value)
}

// hasLike is hasPair for a value that contains a text; the parameter is the
// text with its wildcards escaped.
func (dialect) hasLike(column, key, text string) string {
	return fmt.Sprintf("EXISTS (SELECT 1 FROM json_each(%s) AS pair WHERE pair.key = %s "+
		"AND pair.value LIKE '%%' || %s || '%%' ESCAPE '\\')", column, key, text)
}

// oneOf is a condition: the column's text is one of those in a parameter,
// which is given as jsonText of a []string.
func (dialect) oneOf(column, param string) string {
	return fmt.Sprintf("%s IN (SELECT value FROM json_each(%s))", column, param)
}

// claimLock goes at the end of the query that picks a row to claim.
// PostgreSQL says FOR UPDATE SKIP LOCKED here; SQLite has one writer.
const claimLock = ""

// jsonArg is an argument of a statement that is written as JSON.
type jsonArg struct{ v any }

// Value gives the JSON text.
func (a jsonArg) Value() (driver.Value, error) {
	text, err := json.Marshal(a.v)
	return string(text), err
}
