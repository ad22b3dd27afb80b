package catalog

import (
	"database/sql/driver"
	"errors"
	"io"
	"slices"
)

// wholeRows are what a query found, read to its end. PostgreSQL's connections take no
// other statement before that, and functions that go over rows ask for more.
type wholeRows struct {
	columns []string
	rows    [][]driver.Value
}

// readWhole reads rows to their end and closes them.
func readWhole(found driver.Rows) (_ *wholeRows, err error) {
	defer func() { err = errors.Join(err, found.Close()) }()
	w := &wholeRows{columns: found.Columns()}
	at := make([]driver.Value, len(w.columns))
	for {
		if err := found.Next(at); err != nil {
			if errors.Is(err, io.EOF) {
				return w, nil
			}
			return nil, err
		}
		kept := slices.Clone(at)
		for i, v := range kept {
			if b, ok := v.([]byte); ok {
				kept[i] = slices.Clone(b) // the next row may overwrite it
			}
		}
		w.rows = append(w.rows, kept)
	}
}

// Columns implements driver.Rows.
func (w *wholeRows) Columns() []string { return w.columns }

// Close implements driver.Rows.
func (w *wholeRows) Close() error { return nil }

// Next implements driver.Rows.
func (w *wholeRows) Next(into []driver.Value) error {
	if len(w.rows) == 0 {
		return io.EOF
	}
	copy(into, w.rows[0])
	w.rows = w.rows[1:]
	return nil
}
