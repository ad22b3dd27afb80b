package catalog

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"time"
)

// dialect is all that the SQL in this package does not say portably. The
// statements themselves are read alike by SQLite and PostgreSQL.
type dialect interface {
	// connect returns the connection that writes and those that read; the latter
	// are nil for a catalog in memory.
	connect(ctx context.Context) (*writer, *readers, error)
	// release gives back what connect took beside the connections.
	release() error
	// patience is how long a transaction waits for its turn and to be tried again; 0
	// for as long as its context lives.
	patience() time.Duration
	// viewing begins a transaction that reads, all of it of one moment.
	viewing() string
	// migration is the text of a migration, of which text is the portable one.
	migration(file, text string) (string, error)
	// time asks for the database's clock, in microseconds since 1970; "" where the
	// process's own is as good.
	time() string
	// notify tells the other processes, once the transaction commits; "" for none.
	notify() string
	// listen calls heard at each notify of any process, until ctx ends or the
	// database is lost.
	listen(ctx context.Context, heard func()) error
	// explain is what goes before a query to ask how it would be run.
	explain() string

	// refused reports whether a transaction failed only because of others that
	// ran at the same time, so that it may be tried again.
	refused(err error) bool
	// lost reports whether the database can't be reached (any more).
	lost(err error) bool
	// duplicate reports whether a unique index or a primary key refused a row.
	duplicate(err error) bool

	// hasPair is a condition: the JSON object of texts in a column has this pair.
	// key and value are parameters, "$1".
	hasPair(column, key, value string) string
	// hasLike is hasPair for a value that contains a text; the parameter is the
	// text with its wildcards escaped.
	hasLike(column, key, text string) string
	// like is a condition: the column contains a text, whatever the case of
	// letters. The parameter is the text with its wildcards escaped.
	like(column, text string) string
	// oneOf is a condition: the column's text is one of those in a parameter,
	// which is given as jsonText of a []string.
	oneOf(column, param string) string
}

// jsonArg is an argument of a statement that is written as JSON.
type jsonArg struct{ v any }

// Value gives the JSON text.
func (a jsonArg) Value() (driver.Value, error) {
	text, err := json.Marshal(a.v)
	return string(text), err
}
