package line

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Door lets connections in. It serves any number of listeners at once.
type Door struct {
	Most    int // connections at once, over all listeners
	PerHost int // at once of one host by its IP address; local ones aren't counted
	Log     *slog.Logger

	open  atomic.Int64
	hosts Uses
}

// acceptPause is how long Serve waits after an accept that failed, as it does
// when the process is out of file descriptors.
const acceptPause = 100 * time.Millisecond

// Serve accepts connections until ctx ends; then it closes l and returns nil
// when serve has returned for each. A connection's end is Serve's: it closes it
// when serve returns.
func (d *Door) Serve(ctx context.Context, l net.Listener, serve func(context.Context, net.Conn)) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if nc != nil {
				nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			d.Log.Warn("accepting a connection failed", "err", err)
			pause(ctx, acceptPause)
			continue
		}
		leave, refused := d.Enter(nc)
		if refused != "" {
			nc.Close()
			d.Log.Warn(refused, "remote", nc.RemoteAddr())
			continue
		}
		conns.Go(func() {
			defer leave()
			defer nc.Close()
			if err := watchPeer(nc); err != nil {
				d.Log.Warn("a connection's keepalive could not be set", "err", err)
			}
			serve(ctx, nc)
		})
	}
}

// Enter counts a connection until leave is called, or says why it is refused.
// Serve does so with each; a door that is none of listeners counts those that are
// of a kind.
func (d *Door) Enter(nc net.Conn) (leave func(), refused string) {
	if d.open.Add(1) > int64(d.Most) {
		d.open.Add(-1)
		return nil, "connection refused: there are too many"
	}
	host := hostOf(nc)
	if !d.hosts.Take(host, d.PerHost) {
		d.open.Add(-1)
		return nil, "connection refused: its host has too many"
	}
	return func() {
		d.hosts.GiveBack(host)
		d.open.Add(-1)
	}, ""
}

// Share is a connection's part of total right now: the same for each that is
// open.
func (d *Door) Share(total int) int { return total / int(max(1, d.open.Load())) }

// hostOf is "" for local connections.
func hostOf(c net.Conn) string {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.IP.String()
	}
	return ""
}

// Uses counts connections by what they use. The zero value is ready, for any
// number of goroutines. What is called "" is not counted.
type Uses struct {
	mu    sync.Mutex // guards count
	count map[string]int
}

// Take counts one more, and reports false if there are most of them already.
func (u *Uses) Take(of string, most int) bool {
	if of == "" {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.count[of] >= most {
		return false
	}
	if u.count == nil {
		u.count = map[string]int{}
	}
	u.count[of]++
	return true
}

// GiveBack ends what Take counted.
func (u *Uses) GiveBack(of string) {
	if of == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.count[of]--; u.count[of] == 0 {
		delete(u.count, of)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// LongAgo as a deadline ends a read that is under way.
func LongAgo() time.Time { return time.Unix(1, 0) }

// Patience is how long a client may take for n bytes, if stall is how long it
// may take to begin: a second more for each MiB.
func Patience(stall time.Duration, n int64) time.Duration {
	return stall + time.Duration(n>>20)*time.Second
}
