package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"kvol/internal/block"
)

// Tx is a transaction. It belongs to the function it was given to and to one
// goroutine.
type Tx struct {
	// Now is the time of everything the transaction writes: UTC, whole
	// microseconds.
	Now time.Time

	ctx  context.Context //nolint:containedctx // a Tx lives no longer than the call it was made for
	run  context.Context //nolint:containedctx // which ends statements
	db   *conn
	jobs bool // a job was enqueued or made due
	// stirs: something was changed that other processes wait for
	stirs bool
	dialect
}

// scanner is a row: *row or *rows.
type scanner interface{ Scan(into ...any) error }

func (tx *Tx) exec(query string, args ...any) (sql.Result, error) {
	if tx.db.direct && strings.HasPrefix(query, "INSERT") {
		return tx.insert(query, args...)
	}
	return tx.db.exec(tx.run, query, args...)
}

// insert runs a statement so that the transaction goes on when it is refused, as
// with SQLite: PostgreSQL would end the transaction.
func (tx *Tx) insert(query string, args ...any) (sql.Result, error) {
	if _, err := tx.db.exec(tx.run, "SAVEPOINT statement"); err != nil {
		return nil, err
	}
	res, err := tx.db.exec(tx.run, query, args...)
	if err != nil {
		_, undone := tx.db.exec(tx.run, "ROLLBACK TO statement")
		return nil, errors.Join(err, undone)
	}
	_, err = tx.db.exec(tx.run, "RELEASE statement")
	return res, err
}

func (tx *Tx) query(query string, args ...any) (*rows, error) {
	return tx.db.query(tx.run, query, args...)
}

func (tx *Tx) queryRow(query string, args ...any) *row {
	r, err := tx.query(query, args...)
	return &row{r, err}
}

// collect runs a query and passes every row through scan.
func collect[T any](tx *Tx, scan func(scanner) (T, error), query string, args ...any) (_ []T, err error) {
	rows, err := tx.query(query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// notFound turns sql.ErrNoRows into a block.NotFound with a sentence for the
// user, and passes every other error on.
func notFound(err error, format string, args ...any) error {
	if errors.Is(err, sql.ErrNoRows) {
		return block.Errorf(block.NotFound, format, args...)
	}
	return err
}

// changed is notFound for the results of exec: no row changed means that the
// thing isn't there.
func changed(res sql.Result, err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return block.Errorf(block.NotFound, format, args...)
	}
	return err
}

// micros is the form of a time in a BIGINT column: NULL for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// jsonText is the form of a document in a TEXT column. It is meant for values
// that always have a JSON form; for others the statement it is an argument of
// fails.
func jsonText(v any) any { return jsonArg{v} }

// column adapts a function to sql.Scanner.
type column func(src any) error

// Scan hands the column's value over.
func (c column) Scan(src any) error { return c(src) }

// asTime reads a column that micros wrote.
func asTime(into *time.Time) sql.Scanner {
	return column(func(src any) error {
		switch v := src.(type) {
		case nil:
			*into = time.Time{}
		case int64:
			*into = time.UnixMicro(v).UTC()
		default:
			return fmt.Errorf("a time is kept as %T", src)
		}
		return nil
	})
}

// asJSON reads a column that jsonText wrote. NULL and "null" leave into as it
// is.
func asJSON(into any) sql.Scanner {
	return column(func(src any) error {
		switch v := src.(type) {
		case nil:
			return nil
		case string:
			return json.Unmarshal([]byte(v), into)
		case []byte:
			return json.Unmarshal(v, into)
		default:
			return fmt.Errorf("a document is kept as %T", src)
		}
	})
}

// nullable reads a column that may be NULL into a value that can't be: NULL is
// the zero value.
func nullable[T any](into *T) sql.Scanner {
	return column(func(src any) error {
		if src == nil {
			*into = *new(T)
			return nil
		}
		return assign(into, src)
	})
}

// orNull is the form of a text for a column in which none is NULL.
func orNull[S ~string](s S) any {
	if s == "" {
		return nil
	}
	return string(s)
}
