package catalog

import (
	"container/list"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// statementsKept are how many prepared statements a connection keeps. Reading a
// statement takes SQLite longer than running it, for most of ours.
const statementsKept = 128

// conn is a connection to the database with the statements that were prepared on
// it. It belongs to one goroutine at a time. It goes below database/sql, whose
// locks, goroutines and conversions cost more than our statements do.
type conn struct {
	driver driver.Conn
	direct bool                     // statements without parameters are not prepared, and may be several in one text
	limit  time.Duration            // of the answer to a statement; 0 for none
	kept   map[string]*list.Element // of *statementOf, those not in use
	order  *list.List               // most recently used first

	observe func(string) // of each statement; nil for nobody
}

// prepared is a statement that is ready to run.
type prepared struct {
	query string
	stmt  driver.Stmt
}

func newConn(d driver.Conn, observe func(string)) *conn {
	return &conn{driver: d, observe: observe, kept: map[string]*list.Element{}, order: list.New()}
}

// take finds or makes a statement. It belongs to the caller until give.
func (c *conn) take(ctx context.Context, query string) (*prepared, error) {
	if c.observe != nil {
		c.observe(query)
	}
	if e, ok := c.kept[query]; ok {
		delete(c.kept, query)
		p, _ := c.order.Remove(e).(*prepared)
		return p, nil
	}
	stmt, err := c.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return &prepared{query, stmt}, nil
}

func (c *conn) prepare(ctx context.Context, query string) (driver.Stmt, error) {
	if d, ok := c.driver.(driver.ConnPrepareContext); ok && c.direct { // a server may not answer
		return d.PrepareContext(ctx, query)
	}
	return c.driver.Prepare(query)
}

// give keeps a statement for the next use, in the place of the one that was not
// used for longest.
func (c *conn) give(p *prepared) error {
	if _, twice := c.kept[p.query]; twice {
		return p.stmt.Close()
	}
	c.kept[p.query] = c.order.PushFront(p)
	if c.order.Len() <= statementsKept {
		return nil
	}
	oldest, _ := c.order.Remove(c.order.Back()).(*prepared)
	delete(c.kept, oldest.query)
	return oldest.stmt.Close()
}

// exec runs a statement that returns no rows, or passes over them.
func (c *conn) exec(ctx context.Context, query string, args ...any) (driver.Result, error) {
	ctx, done := c.within(ctx)
	res, err := c.run(ctx, query, args)
	return res, done(err)
}

func (c *conn) run(ctx context.Context, query string, args []any) (driver.Result, error) {
	if direct, ok := c.driver.(driver.ExecerContext); ok && c.direct && len(args) == 0 {
		return direct.ExecContext(ctx, query, nil)
	}
	values, err := arguments(args)
	if err != nil {
		return nil, err
	}
	p, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	run, ok := p.stmt.(driver.StmtExecContext)
	if !ok {
		return nil, fmt.Errorf("the driver's statements are %T", p.stmt)
	}
	res, err := run.ExecContext(ctx, values)
	return res, errors.Join(err, c.give(p))
}

// query runs a statement. The rows must be closed.
func (c *conn) query(ctx context.Context, query string, args ...any) (*rows, error) {
	limited, done := c.within(ctx)
	found, err := c.find(limited, query, args)
	if err = done(err); err != nil {
		return nil, err
	}
	found.ctx = ctx
	return found, nil
}

func (c *conn) find(ctx context.Context, query string, args []any) (*rows, error) {
	values, err := arguments(args)
	if err != nil {
		return nil, err
	}
	p, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	run, ok := p.stmt.(driver.StmtQueryContext)
	if !ok {
		return nil, fmt.Errorf("the driver's statements are %T", p.stmt)
	}
	found, err := run.QueryContext(ctx, values)
	if err != nil {
		return nil, errors.Join(err, c.give(p))
	}
	if c.direct {
		if found, err = readWhole(found); err != nil {
			return nil, errors.Join(err, c.give(p))
		}
	}
	return &rows{conn: c, of: p, found: found, at: make([]driver.Value, len(found.Columns()))}, nil
}

// image returns the bytes of the database.
func (c *conn) image() ([]byte, error) {
	d, ok := c.driver.(interface{ Serialize() ([]byte, error) })
	if !ok {
		return nil, fmt.Errorf("the driver's connections are %T", c.driver)
	}
	return d.Serialize()
}

// load replaces the database in memory by one of which image returned the bytes.
func (c *conn) load(image []byte) error {
	d, ok := c.driver.(interface{ Deserialize(image []byte) error })
	if !ok {
		return fmt.Errorf("the driver's connections are %T", c.driver)
	}
	return d.Deserialize(image)
}

// close ends the connection and all its statements.
func (c *conn) close() error {
	if c.direct { // the server needs no word for each, and may not answer
		return c.driver.Close()
	}
	var errs []error
	for e := c.order.Front(); e != nil; e = e.Next() {
		if p, ok := e.Value.(*prepared); ok {
			errs = append(errs, p.stmt.Close())
		}
	}
	clear(c.kept)
	c.order.Init()
	return errors.Join(append(errs, c.driver.Close())...)
}

// arguments are a statement's parameters as the driver takes them.
func arguments(args []any) ([]driver.NamedValue, error) {
	values := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		v := &values[i]
		v.Ordinal = i + 1
		switch arg := arg.(type) {
		case nil, string, int64, bool, []byte, float64:
			v.Value = arg
		case *string:
			if arg != nil {
				v.Value = *arg
			}
		case int:
			v.Value = int64(arg)
		default:
			var err error
			if v.Value, err = driver.DefaultParameterConverter.ConvertValue(arg); err != nil {
				return nil, fmt.Errorf("parameter %d: %w", i+1, err)
			}
		}
	}
	return values, nil
}
