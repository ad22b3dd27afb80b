package catalog

import (
	"context"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"kvol/internal/block"
)

// postgres is a catalog in a PostgreSQL database, version 13 or newer, whose
// texts are sorted by their bytes. Several processes may have it open: their
// Updates come one after another, as in one process, since each takes a lock of
// the whole catalog.
type postgres struct {
	url    string
	alone  bool
	shared bool

	observe func(string)  // see Options
	answer  time.Duration // how long one may take; set by connect
}

// updating begins a transaction that writes: alone, and with all in sight that
// was committed before.
const updating = "BEGIN ISOLATION LEVEL READ COMMITTED; " +
	"SELECT pg_advisory_xact_lock(7309169, hashtext(current_schema()))"

func (p *postgres) patience() time.Duration { return p.answer }

func (*postgres) viewing() string { return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" }

func (*postgres) explain() string { return "EXPLAIN " }

func (p *postgres) connect(ctx context.Context) (*writer, *readers, error) {
	c, answer, err := p.config()
	if err != nil {
		return nil, nil, err
	}
	p.answer = answer
	open := func(ctx context.Context) (*conn, error) {
		d, err := stdlib.GetConnector(*c).Connect(ctx)
		if err != nil {
			return nil, err
		}
		opened := newConn(d, p.observe)
		opened.direct, opened.limit = true, answer
		return opened, nil
	}
	opening := open
	if p.alone || p.shared {
		opening = func(ctx context.Context) (*conn, error) { return p.lockedConn(ctx, open) }
	}
	write, err := opening(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := byteOrder(ctx, write); err != nil {
		return nil, nil, errors.Join(err, write.close())
	}
	reopen := func(ctx context.Context) (*conn, error) {
		c, err := opening(ctx)
		if block.Is(err, block.Conflict) { // the server may not have noticed yet that the connection before is gone
			err = block.Wrap(block.Unavailable, err, unreachable)
		}
		return c, err
	}
	return newWriter(write, updating, reopen), newReaders(maxReaders, open), nil
}

// lockedConn opens a connection that holds the lock of the one process that may
// write, or of those that share the catalog. The server keeps it for as long as the connection lives; when that
// breaks, another process may have it before this one is back, and this one
// writes no more.
func (p *postgres) lockedConn(ctx context.Context, open func(context.Context) (*conn, error)) (*conn, error) {
	c, err := open(ctx)
	if err != nil {
		return nil, err
	}
	held, try := false, "SELECT pg_try_advisory_lock(7309170, hashtext(current_schema()))"
	if p.shared {
		try = "SELECT pg_try_advisory_lock_shared(7309170, hashtext(current_schema()))"
	}
	found, err := c.query(ctx, try)
	if err == nil {
		err = (&row{rows: found}).Scan(&held)
	}
	if err == nil && !held {
		err = block.Errorf(block.Conflict, alreadyOpen)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (*postgres) release() error { return nil }

// byteOrder refuses a database that sorts texts by a language: pages would be
// cut elsewhere than in SQLite, and ids would not be found by their beginnings.
func byteOrder(ctx context.Context, c *conn) error {
	found, err := c.query(ctx, "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database "+
		"WHERE datname = current_database()")
	if err != nil {
		return err
	}
	var collation, encoding string
	if err := (&row{rows: found}).Scan(&collation, &encoding); err != nil {
		return err
	}
	if encoding != "UTF8" || collation != "POSIX" && collation != "C" && !strings.HasPrefix(collation, "C.") {
		return block.Errorf(block.Invalid, "the database has collation %s and encoding %s; make one for kvol with "+
			"CREATE DATABASE kvol TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING 'UTF8'", collation, encoding)
	}
	return nil
}

//go:embed migrations/postgres/*.sql
var postgresMigrations embed.FS

// types are the words of SQLite that PostgreSQL does not know.
var types = strings.NewReplacer(" BLOB", " BYTEA", " INTEGER", " BIGINT", " WITHOUT ROWID", "",
	" AS (COALESCE", " GENERATED ALWAYS AS (COALESCE", ") VIRTUAL", ") STORED")

// firstMigration is the one before which the operators are made that statements of
// all others may use.
const firstMigration = "0001_core.sql"

// numbered is a column that SQLite fills with the next number by itself.
var numbered = regexp.MustCompile(`\bid +INTEGER NOT NULL PRIMARY KEY`)

// migration takes a file of the same name that is written for PostgreSQL, where
// there is one.
func (*postgres) migration(file, text string) (string, error) {
	if file == firstMigration {
		operators, err := postgresMigrations.ReadFile("migrations/postgres/operators.sql")
		return string(operators) + types.Replace(text), err
	}
	own, err := postgresMigrations.ReadFile("migrations/postgres/" + file)
	if errors.Is(err, fs.ErrNotExist) {
		text = numbered.ReplaceAllString(text, "id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
		return types.Replace(text), nil
	}
	return string(own), err
}

// Codes of errors, from PostgreSQL's manual, appendix A.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	uniqueViolation      = "23505"
)

func (*postgres) refused(err error) bool {
	switch pgCode(err) {
	case serializationFailure, deadlockDetected, lockNotAvailable:
		return true
	}
	return false
}

func (*postgres) duplicate(err error) bool { return pgCode(err) == uniqueViolation }

func (*postgres) lost(err error) bool {
	var dial *pgconn.ConnectError
	var network *net.OpError
	if errors.Is(err, errSilent) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &dial) || errors.As(err, &network) || pgconn.SafeToRetry(err) {
		return true
	}
	code := pgCode(err)
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "25P03")
}

func pgCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func (*postgres) hasPair(column, key, value string) string {
	return fmt.Sprintf("jsonb_extract_path_text(%s::jsonb, %s::text) = %s::text", column, key, value)
}

func (*postgres) hasLike(column, key, text string) string {
	return fmt.Sprintf(`jsonb_extract_path_text(%s::jsonb, %s::text) ILIKE '%%' || %s::text || '%%' ESCAPE '\'`,
		column, key, text)
}

func (*postgres) like(column, text string) string {
	return column + ` ILIKE '%' || ` + text + `::text || '%' ESCAPE '\'`
}

func (*postgres) oneOf(column, param string) string {
	return fmt.Sprintf("%s IN (SELECT jsonb_array_elements_text(COALESCE(NULLIF(%s::text::jsonb, 'null'), '[]')))",
		column, param)
}
