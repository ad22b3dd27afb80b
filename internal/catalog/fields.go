package catalog

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// fields are a row's columns, read one after another: what Scan does, for rows
// that are read by the thousand. The only place of a Scan takes them. The first
// column that is not what it should be ends the reading.
type fields struct {
	at  []driver.Value
	err error
}

// next is the next column.
func (f *fields) next() driver.Value {
	if len(f.at) == 0 {
		f.err = errors.Join(f.err, errors.New("a row has too few columns"))
		return nil
	}
	v := f.at[0]
	f.at = f.at[1:]
	return v
}

func (f *fields) bad(v driver.Value, want string) {
	f.err = errors.Join(f.err, fmt.Errorf("a column holds %T in the place of %s", v, want))
}

// end is the error of the whole row.
func (f *fields) end() error {
	if len(f.at) > 0 && f.err == nil {
		return fmt.Errorf("a row has %d columns too many", len(f.at))
	}
	return f.err
}

// text reads a text; "" for NULL.
func (f *fields) text() string {
	switch v := f.next().(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		f.bad(v, "a text")
		return ""
	}
}

// textOrNil reads a text that may be NULL.
func textOrNil[T ~string](f *fields) *T {
	switch v := f.next().(type) {
	case nil:
		return nil
	case string:
		t := T(v)
		return &t
	default:
		f.bad(v, "a text")
		return nil
	}
}

// whole reads a number; 0 for NULL.
func (f *fields) whole() int64 {
	switch v := f.next().(type) {
	case nil:
		return 0
	case int64:
		return v
	default:
		f.bad(v, "a number")
		return 0
	}
}

func (f *fields) flag() bool {
	if len(f.at) > 0 {
		if v, ok := f.at[0].(bool); ok { // as PostgreSQL keeps it
			f.at = f.at[1:]
			return v
		}
	}
	return f.whole() != 0
}

// time reads what micros wrote.
func (f *fields) time() time.Time {
	switch v := f.next().(type) {
	case nil:
		return time.Time{}
	case int64:
		return time.UnixMicro(v).UTC()
	default:
		f.bad(v, "a time")
		return time.Time{}
	}
}

// pairs reads what the function pairs wrote.
func (f *fields) pairs() map[string]string {
	m := map[string]string{}
	if text := f.text(); text != "{}" && text != "" {
		f.decode(text, &m)
	}
	return m
}

// docOrNil reads what jsonOrNull wrote.
func docOrNil[T any](f *fields) *T {
	text := f.text()
	if text == "" || text == "null" {
		return nil
	}
	v := new(T)
	f.decode(text, v)
	return v
}

func (f *fields) decode(text string, into any) {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		f.err = errors.Join(f.err, err)
	}
}
