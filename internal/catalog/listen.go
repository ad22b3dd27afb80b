package catalog

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// listenPause is how long after the connection that hears of other processes broke
// another one is tried.
const listenPause = 500 * time.Millisecond

// bell wakes all that wait for something to have changed.
type bell struct {
	mu   sync.Mutex
	next chan struct{} // closed at the next ring; guarded by mu
}

func newBell() *bell { return &bell{next: make(chan struct{})} }

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.next)
	b.next = make(chan struct{})
}

func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next
}

// Stirred returns a channel that is closed when something happens that processes
// tell each other: a duty was taken, given back or asked something, jobs were
// enqueued. Get it before looking. It may be closed for nothing, and while the
// database can't be reached it is closed for nothing that others do: who waits for
// it looks now and then too.
func (c *Catalog) Stirred() <-chan struct{} { return c.stirred.wait() }

// Listen hears what other processes do, until ctx ends. Without it only what this
// process does is heard.
func (c *Catalog) Listen(ctx context.Context) error {
	for ctx.Err() == nil {
		// An error is no more than silence: everybody looks now and then.
		_ = c.listen(ctx, func() {
			c.stirred.ring()
			c.wakeJobs()
		})
		if sleep(ctx, listenPause) != nil {
			break
		}
	}
	return nil
}

// wakeJobs tells who runs jobs.
func (c *Catalog) wakeJobs() {
	select {
	case c.jobs <- struct{}{}:
	default: // a token is waiting already
	}
}

// channel is the name under which the processes of a catalog tell each other.
const channel = "'kvol_' || md5(current_schema())"

func (p *postgres) listen(ctx context.Context, heard func()) error {
	config, answer, err := p.config()
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is written on it
	if err := subscribe(ctx, conn, answer); err != nil {
		return err
	}
	heard() // of what was missed
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		heard()
	}
}

// subscribe asks to be told, and waits for the answer for as long as any may take.
func subscribe(ctx context.Context, conn *pgx.Conn, answer time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	var name string
	if err := conn.QueryRow(ctx, "SELECT "+channel).Scan(&name); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{name}.Sanitize())
	return err
}

func (p *postgres) notify() string {
	if !p.shared {
		return ""
	}
	return "SELECT pg_notify(" + channel + ", '')"
}

func (*postgres) time() string {
	return "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT"
}

var errAlone = errors.New("no other process uses the catalog")

func (*sqlite) listen(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return errAlone
}

func (*sqlite) notify() string { return "" }

func (*sqlite) time() string { return "" }
