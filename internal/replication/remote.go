package replication

import (
	"context"
	"net"
	"sync"
	"time"

	"kvol/internal/block"
)

// Remote is a Target at the other end of a connection. One connection serves
// one volume at a time and any number after each other: each Offer begins anew.
// After an error the connection is closed.
type Remote struct {
	stream  *stream
	replies chan reply // of the goroutine that reads
	reading sync.WaitGroup
	dead    error // what ended the use of the connection
}

type reply struct {
	kind    frameKind
	payload []byte
	err     error
}

var _ Target = (*Remote)(nil)

// NewRemote greets the Receiver at the other end of conn, which must be that of
// zone to, and owns conn from then on, whatever it returns. patience is how
// long the other end may say nothing.
func NewRemote(ctx context.Context, conn net.Conn, zone, to block.Zone, patience time.Duration) (*Remote, error) {
	s, err := newStream(conn, patience)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	peer, err := s.greet(zone, true)
	if err == nil && peer != to {
		err = block.Errorf(block.Forbidden, "zone %s answered in the name of zone %s", peer, to)
	}
	if err != nil {
		_ = s.close()
		return nil, err
	}
	r := &Remote{stream: s, replies: make(chan reply, 1)}
	r.reading.Go(r.read)
	return r, nil
}

// read hands every frame on, so that a fault is seen while runs are written.
func (r *Remote) read() {
	defer close(r.replies)
	for {
		kind, payload, err := r.stream.read()
		select {
		case r.replies <- reply{kind, append([]byte(nil), payload...), err}:
		case <-r.stream.done:
			return
		}
		if err != nil {
			_ = r.stream.conn.Close() // or the other end would wait for us to read
			return
		}
	}
}

// Close closes the connection. It may be called again.
func (r *Remote) Close() error {
	err := r.stream.close()
	r.reading.Wait()
	return err
}

// Usable reports whether the connection can serve another volume.
func (r *Remote) Usable() bool { return r.dead == nil && len(r.replies) == 0 }

// Leave ends the work on the volume that was offered last; the connection stays
// for the next one.
func (r *Remote) Leave(ctx context.Context) error {
	if r.dead != nil {
		return r.dead
	}
	stop := context.AfterFunc(ctx, func() { _ = r.stream.conn.Close() })
	defer stop()
	if err := r.stream.write(frameEnd); err != nil {
		return r.fail(err)
	}
	return nil
}

// Sent is how many bytes went out on the connection.
func (r *Remote) Sent() int64 { return r.stream.sent() }

// fail ends the use of the connection. What the target said matters more than
// that writing to it failed.
func (r *Remote) fail(err error) error {
	if r.dead != nil {
		return r.dead
	}
	if r.dead = broken(err); block.Is(r.dead, block.Unavailable) {
		_ = r.stream.conn.Close()
		for a := range r.replies {
			if a.err == nil && a.kind == frameFault {
				r.dead = readFault(a.payload)
			}
		}
	}
	_ = r.stream.close()
	return r.dead
}

// ask sends a request and waits for the answer of the given kind.
func (r *Remote) ask(ctx context.Context, kind frameKind, v any, want frameKind, into any) error {
	if r.dead != nil {
		return r.dead
	}
	stop := context.AfterFunc(ctx, func() { _ = r.stream.conn.Close() })
	defer stop()
	var err error
	if v == nil {
		err = r.stream.write(kind)
	} else {
		err = r.stream.writeDocument(kind, v)
	}
	if err != nil {
		return r.fail(err)
	}
	a, ok := <-r.replies
	switch {
	case !ok:
		return r.fail(net.ErrClosed)
	case a.err != nil:
		return r.fail(a.err)
	case a.kind == frameFault:
		return r.fail(readFault(a.payload))
	case a.kind != want:
		return r.fail(unexpected(a.kind))
	case into == nil:
		return nil
	}
	if err := readDocument(a.payload, into); err != nil {
		return r.fail(err)
	}
	return nil
}

// Offer implements Target.
func (r *Remote) Offer(ctx context.Context, o Offer) (have Have, err error) {
	err = r.ask(ctx, frameOffer, o, frameHave, &have)
	return have, err
}

// Begin implements Target.
func (r *Remote) Begin(ctx context.Context, s block.Step) (offset int64, err error) {
	var a ready
	err = r.ask(ctx, frameBegin, s, frameReady, &a)
	return a.Offset, err
}

// Write implements Target. It does not wait for an answer; a fault that came in
// meanwhile is returned.
func (r *Remote) Write(ctx context.Context, run Run) error {
	if r.dead != nil {
		return r.dead
	}
	select {
	case a, ok := <-r.replies:
		switch {
		case !ok:
			return r.fail(net.ErrClosed)
		case a.err != nil:
			return r.fail(a.err)
		case a.kind == frameFault:
			return r.fail(readFault(a.payload))
		}
		return r.fail(unexpected(a.kind))
	default:
	}
	stop := context.AfterFunc(ctx, func() { _ = r.stream.conn.Close() })
	defer stop()
	if err := r.stream.writeRun(run); err != nil {
		return r.fail(err)
	}
	return nil
}

// Commit implements Target.
func (r *Remote) Commit(ctx context.Context, c Commit) (p block.Point, err error) {
	err = r.ask(ctx, frameCommit, c, frameCommitted, &p)
	return p, err
}

// Heartbeat implements Target.
func (r *Remote) Heartbeat(ctx context.Context, h Heartbeat) error {
	return r.ask(ctx, frameHeartbeat, h, frameDone, nil)
}

// Gone implements Target.
func (r *Remote) Gone(ctx context.Context) error {
	return r.ask(ctx, frameGone, nil, frameDone, nil)
}
