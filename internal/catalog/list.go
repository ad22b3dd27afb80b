package catalog

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"kvol/internal/block"
)

// lister knows how the rows of a table are listed: by which of the API's
// columns they can be ordered and filtered. The rules are those of
// cinder/db/sqlalchemy/api.py (_generate_paginate_query) but for one: an order
// stays right where values are equal or NULL at the end of a page.
type lister struct {
	table    string // has id, created_at, and project_id unless shared
	shared   bool   // the rows belong to no project
	missing  string // sentence for a marker that isn't there, with a %s
	metadata string // column with a JSON object; "" for none
	// imageMetadata is another one.
	imageMetadata string
	columns       map[string]listColumn
}

type columnKind uint8

const (
	textColumn columnKind = iota
	numberColumn
	boolColumn
	timeColumn
	noColumn // known to the API, but no row has a value: equal to nothing
)

// listColumn is a column of an API: an SQL expression, how a filter's text is
// read for it, and whether it can be NULL. sorted is a generated column that
// has the same value but never NULL, for indexes; "" where there is none. match,
// if set, makes the filter's condition instead.
type listColumn struct {
	sql      string
	kind     columnKind
	nullable bool
	sorted   string
	match    func(s *statement, value string) string
}

// key is what rows are ordered by: NULL counts as the empty text, the number 0
// or the time 0 (cinder/common/sqlalchemyutils.py, get_default).
func (c listColumn) key() string {
	switch {
	case c.sorted != "":
		return c.sorted
	case !c.nullable:
		return c.sql
	case c.kind == textColumn:
		return "COALESCE(" + c.sql + ", '')"
	default:
		return "COALESCE(" + c.sql + ", 0)"
	}
}

// statement is a query while it is put together.
type statement struct {
	dialect
	where []string
	args  []any
}

// arg adds an argument and returns its placeholder.
func (s *statement) arg(v any) string {
	s.args = append(s.args, v)
	return "$" + strconv.Itoa(len(s.args))
}

func (s *statement) and(condition string) { s.where = append(s.where, condition) }

// sortBy is one column of a complete order.
type sortBy struct {
	listColumn
	desc bool
}

// page makes the query for a page: head ("SELECT ... FROM ..."), then what q
// selects, in q's order. more are conditions without arguments.
func (l lister) page(tx *Tx, q block.ListQuery, head string, more ...string) (query string, args []any, err error) {
	return l.pageOf(tx, q, head, &statement{dialect: tx.dialect, where: more})
}

// pageOf is page for what fits the conditions that s has already.
func (l lister) pageOf(tx *Tx, q block.ListQuery, head string, s *statement) (query string, args []any, err error) {
	order, err := l.order(q.Sort)
	if err != nil {
		return "", nil, err
	}
	if q.Project != "" && !l.shared {
		s.and(l.table + ".project_id = " + s.arg(q.Project))
	}
	l.filter(s, q)
	if q.Marker != "" {
		if err := l.seek(tx, s, q, order); err != nil {
			return "", nil, err
		}
	}
	var b strings.Builder
	b.WriteString(head)
	for i, condition := range s.where {
		b.WriteString([]string{" WHERE ", " AND "}[min(i, 1)] + condition)
	}
	b.WriteString(orderBy(order))
	if q.Limit >= 0 || q.Offset > 0 {
		limit := int64(q.Limit)
		if limit < 0 {
			limit = math.MaxInt64
		}
		// As numbers: SQLite plans a statement anew whenever a parameter of these is bound.
		fmt.Fprintf(&b, " LIMIT %d OFFSET %d", limit, q.Offset)
	}
	return b.String(), s.args, nil
}

// order completes what was asked for: created_at and id follow with the
// direction of the first key (cinder/common/sqlalchemyutils.py,
// process_sort_params), so that no two rows are equal. Nothing has to follow id.
func (l lister) order(keys []block.SortKey) ([]sortBy, error) {
	desc := len(keys) == 0 || keys[0].Desc
	keys = slices.Clone(keys)
	for _, last := range []string{"created_at", "id"} {
		if !slices.ContainsFunc(keys, func(k block.SortKey) bool { return k.Column == last }) {
			keys = append(keys, block.SortKey{Column: last, Desc: desc})
		}
	}
	var order []sortBy
	for _, k := range keys {
		c, ok := l.columns[k.Column]
		if !ok || c.sql == "" {
			return nil, block.Errorf(block.Invalid, "Sort key supplied is invalid: %s", k.Column)
		}
		order = append(order, sortBy{c, k.Desc})
		if k.Column == "id" {
			break
		}
	}
	return order, nil
}

func orderBy(order []sortBy) string {
	var terms []string
	for _, o := range order {
		term := o.key()
		if o.desc {
			term += " DESC"
		}
		terms = append(terms, term)
	}
	return " ORDER BY " + strings.Join(terms, ", ")
}

func (l lister) filter(s *statement, q block.ListQuery) {
	for _, name := range slices.Sorted(maps.Keys(q.Filters)) {
		c, ok := l.columns[name]
		if !ok {
			c.kind = noColumn
		}
		s.and(c.condition(s, q.Filters[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(q.Like)) {
		if c, ok := l.columns[name]; ok && c.sql != "" && c.kind == textColumn {
			s.and(s.like(c.sql, s.arg(likeEscaper.Replace(q.Like[name]))))
		}
	}
	for _, bound := range q.Times {
		if c, ok := l.columns[bound.Column]; ok && c.kind == timeColumn {
			s.and(c.bound(s, bound))
		}
	}
	l.pairs(s, l.metadata, q.Metadata)
	l.pairs(s, l.imageMetadata, q.ImageMetadata)
}

// pairs adds that an object in a column has all pairs of m. A table without such
// a column filters nothing by them.
func (l lister) pairs(s *statement, column string, m map[string]string) {
	if column == "" {
		return
	}
	if len(m) > 0 {
		s.and(column + " <> '{}'") // which partial indexes are about
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		s.and(s.hasPair(column, s.arg(key), s.arg(m[key])))
	}
}

// likeEscaper makes a text mean itself inside LIKE.
var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// timeOperators are those of block.TimeBound in SQL.
var timeOperators = map[string]string{"gt": ">", "gte": ">=", "eq": "=", "neq": "<>", "lt": "<", "lte": "<="}

// bound is the condition of a time filter, of a form that an index can find. What
// has no time is on no side of another one.
func (c listColumn) bound(s *statement, b block.TimeBound) string {
	condition := timeOperators[b.Operator] + " " + s.arg(b.At.UnixMicro())
	if c.sorted == "" || b.Operator == "neq" {
		return c.sql + " " + condition
	}
	return "(" + c.sorted + " " + condition + " AND " + c.sql + " IS NOT NULL)"
}

// never is a condition that no row meets: what a text that can't be a value
// of its column is equal to.
const never = "1 = 0"

func (c listColumn) condition(s *statement, text string) string {
	if c.match != nil {
		return c.match(s, text)
	}
	var value any
	var err error
	switch c.kind {
	case textColumn:
		value = text
	case numberColumn:
		value, err = strconv.ParseInt(text, 10, 64)
	case boolColumn:
		value, err = strconv.ParseBool(text)
	case timeColumn:
		var t time.Time
		t, err = time.Parse("2006-01-02T15:04:05", strings.TrimSuffix(text, "Z"))
		value = t.UnixMicro()
	case noColumn:
		return never
	}
	if err != nil {
		return never
	}
	if c.sorted != "" && text != "" && c.kind == textColumn {
		return c.sorted + " = " + s.arg(value) // which an index can find
	}
	return c.sql + " = " + s.arg(value)
}

// seek adds the condition that leaves only what follows the marker's row. Where
// all columns go one way that is a comparison of rows, which is a range of an
// index; elsewhere the first column at least never goes back.
func (l lister) seek(tx *Tx, s *statement, q block.ListQuery, order []sortBy) error {
	at, err := l.position(tx, q, order)
	if err != nil {
		return err
	}
	keys, params := make([]string, len(order)), make([]string, len(order))
	mixed := false
	for i, o := range order {
		keys[i], params[i] = o.key(), s.arg(at[i])
		mixed = mixed || o.desc != order[0].desc
	}
	after := map[bool]string{false: " > ", true: " < "}
	if !mixed {
		s.and("(" + strings.Join(keys, ", ") + ")" + after[order[0].desc] + "(" + strings.Join(params, ", ") + ")")
		return nil
	}
	var either []string
	var equal string // all columns before the i-th are equal to the marker's
	for i, o := range order {
		either = append(either, "("+equal+keys[i]+after[o.desc]+params[i]+")")
		equal += keys[i] + " = " + params[i] + " AND "
	}
	s.and(keys[0] + map[bool]string{false: " >= ", true: " <= "}[order[0].desc] + params[0])
	s.and("(" + strings.Join(either, " OR ") + ")")
	return nil
}

// position reads the marker's row: its value in each column of the order.
func (l lister) position(tx *Tx, q block.ListQuery, order []sortBy) ([]any, error) {
	var columns []string
	at, into := make([]any, len(order)), make([]any, len(order))
	for i, o := range order {
		columns = append(columns, o.key())
		into[i] = &at[i]
	}
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s.id = $1", strings.Join(columns, ", "), l.table, l.table)
	args := []any{q.Marker}
	if q.Project != "" && !l.shared {
		query += " AND project_id = $2"
		args = append(args, q.Project)
	}
	return at, notFound(tx.queryRow(query, args...).Scan(into...), l.missing, q.Marker)
}
