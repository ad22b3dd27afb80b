package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"syscall"
	"time"

	sqlitedb "modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"kvol/internal/block"
)

// sqlite is a catalog in a file, or in memory.
type sqlite struct {
	path  string // "" for one in memory
	alone bool
	lock  *os.File // nil unless alone

	observe func(string) // see Options
}

// busyTimeout is how long SQLite itself waits for another process, in
// milliseconds.
const busyTimeout = 5000

// connect opens the file. One writer gives the same throughput as many, and
// the worst wait is milliseconds, not seconds, since nobody polls for the lock.
func (s *sqlite) connect(context.Context) (*writer, *readers, error) {
	pragmas := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout), "foreign_keys(1)", "journal_mode(WAL)", "synchronous(FULL)",
	}}
	name := "file:" + (&url.URL{Path: s.path}).EscapedPath()
	if s.path == "" {
		name = "file::memory:"
	} else if err := s.private(); err != nil {
		return nil, nil, err
	}
	open := func(pragmas url.Values) (*conn, error) {
		d, err := (&sqlitedb.Driver{}).Open(name + "?" + pragmas.Encode())
		if err != nil {
			return nil, err
		}
		return newConn(d, s.observe), nil
	}
	write, err := open(pragmas)
	if err != nil {
		return nil, nil, errors.Join(err, s.release())
	}
	w := newWriter(write, "BEGIN IMMEDIATE", nil)
	if s.path == "" {
		return w, nil, nil
	}
	reading := url.Values{"_pragma": append(slices.Clone(pragmas["_pragma"]), "query_only(1)")}
	return w, newReaders(maxReaders, func(context.Context) (*conn, error) { return open(reading) }), nil
}

// private makes the file where it is missing, for its owner alone: it holds
// password hashes. SQLite gives the files beside it the same mode.
func (s *sqlite) private() error {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if !s.alone {
		return f.Close()
	}
	s.lock = f // a lock of the file as a whole, which SQLite itself does not use
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(block.Wrap(block.Conflict, err, alreadyOpen), s.release())
	}
	return nil
}

const alreadyOpen = "another process has the catalog open; stop it first"

func (s *sqlite) release() error {
	if s.lock == nil {
		return nil
	}
	defer func() { s.lock = nil }()
	return s.lock.Close()
}

func (*sqlite) patience() time.Duration { return 0 }

func (*sqlite) viewing() string { return "BEGIN" }

func (*sqlite) explain() string { return "EXPLAIN QUERY PLAN " }

func (*sqlite) migration(_, text string) (string, error) { return text, nil }

func (*sqlite) lost(error) bool { return false }

func (*sqlite) refused(err error) bool {
	code := sqliteCode(err) & 0xff
	return code == sqlitelib.SQLITE_BUSY || code == sqlitelib.SQLITE_LOCKED
}

func (*sqlite) duplicate(err error) bool {
	code := sqliteCode(err)
	return code == sqlitelib.SQLITE_CONSTRAINT_UNIQUE || code == sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY
}

func sqliteCode(err error) int {
	var e *sqlitedb.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

func (*sqlite) hasPair(column, key, value string) string {
	return fmt.Sprintf("EXISTS (SELECT 1 FROM json_each(%s) AS pair WHERE pair.key = %s AND pair.value = %s)",
		column, key, value)
}

func (*sqlite) hasLike(column, key, text string) string {
	return fmt.Sprintf("EXISTS (SELECT 1 FROM json_each(%s) AS pair WHERE pair.key = %s "+
		"AND pair.value LIKE '%%' || %s || '%%' ESCAPE '\\')", column, key, text)
}

func (*sqlite) oneOf(column, param string) string {
	return fmt.Sprintf("%s IN (SELECT value FROM json_each(%s))", column, param)
}

func (*sqlite) like(column, text string) string {
	return column + " LIKE '%' || " + text + " || '%' ESCAPE '\\'"
}
