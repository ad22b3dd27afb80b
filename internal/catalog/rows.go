package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// rows are what a query found, one at a time.
type rows struct {
	ctx    context.Context //nolint:containedctx // rows live no longer than their transaction
	conn   *conn
	of     *prepared
	found  driver.Rows
	at     []driver.Value
	err    error
	closed bool
}

// Next goes to the next row; false after the last one and after an error.
func (r *rows) Next() bool {
	if r.closed || r.err != nil {
		return false
	}
	if r.err = r.ctx.Err(); r.err == nil {
		r.err = r.found.Next(r.at)
	}
	return r.err == nil
}

// Err is what ended the rows, if it was not their end.
func (r *rows) Err() error {
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}

// Close gives the statement back. It may be called twice.
func (r *rows) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	return errors.Join(r.found.Close(), r.conn.give(r.of))
}

// Scan reads the row's columns, as database/sql does, but for what it converts
// that no column here needs.
func (r *rows) Scan(into ...any) error {
	if f, ok := into[0].(*fields); ok && len(into) == 1 {
		f.at = r.at
		return nil
	}
	if len(into) != len(r.at) {
		return fmt.Errorf("%d columns are read into %d places", len(r.at), len(into))
	}
	for i, value := range r.at {
		if err := assign(into[i], value); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

// row is the only row of a query that wants no more.
type row struct {
	rows *rows
	err  error
}

// Scan reads it and ends the query; sql.ErrNoRows where there is none.
func (r *row) Scan(into ...any) (err error) {
	if r.err != nil {
		return r.err
	}
	defer func() { err = errors.Join(err, r.rows.Close()) }()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	return r.rows.Scan(into...)
}

// assign puts a column's value where it belongs.
func assign(into any, value driver.Value) error {
	switch into := into.(type) {
	case *string:
		if s, ok := value.(string); ok {
			*into = s
			return nil
		}
	case *int64:
		if n, ok := value.(int64); ok {
			*into = n
			return nil
		}
	case *bool:
		switch v := value.(type) {
		case int64:
			*into = v != 0
			return nil
		case bool:
			*into = v
			return nil
		}
	case **string:
		switch s := value.(type) {
		case nil:
			*into = nil
			return nil
		case string:
			*into = &s
			return nil
		}
	case *[]byte:
		switch v := value.(type) {
		case nil:
			*into = nil
			return nil
		case string:
			*into = []byte(v)
			return nil
		case []byte:
			*into = v
			return nil
		}
	case *any:
		*into = value
		return nil
	case sql.Scanner:
		return into.Scan(value)
	}
	return assignNamed(reflect.ValueOf(into), value)
}

// assignNamed is assign for types that are texts, numbers or pointers by another
// name.
func assignNamed(into reflect.Value, value driver.Value) error {
	if into.Kind() != reflect.Pointer || into.IsNil() {
		return errors.New("it is read into no pointer")
	}
	to := into.Elem()
	if to.Kind() == reflect.Pointer {
		if value == nil {
			to.SetZero()
			return nil
		}
		to.Set(reflect.New(to.Type().Elem()))
		return assign(to.Interface(), value)
	}
	switch v := value.(type) {
	case string:
		if to.Kind() == reflect.String {
			to.SetString(v)
			return nil
		}
	case []byte:
		if to.Kind() == reflect.String {
			to.SetString(string(v))
			return nil
		}
	case int64:
		switch {
		case to.CanInt() && !to.OverflowInt(v):
			to.SetInt(v)
			return nil
		case to.CanUint() && v >= 0 && !to.OverflowUint(uint64(v)):
			to.SetUint(uint64(v))
			return nil
		case to.Kind() == reflect.Bool:
			to.SetBool(v != 0)
			return nil
		}
	}
	return fmt.Errorf("a value of type %T is no %s", value, to.Type())
}
