package replication

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/klauspost/compress/zstd"

	"kvol/internal/block"
)

// ServeConn serves a stream from zone from, which the caller has made sure of,
// until the other end closes it or ctx ends. It owns conn. An orderly end is no
// error.
func (r *Receiver) ServeConn(ctx context.Context, conn net.Conn, from block.Zone) error {
	s, err := newStream(conn, r.cfg.Patience)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer s.close()
	dog := time.AfterFunc(r.cfg.Patience, func() { _ = conn.Close() }) // a source always listens
	s.turn <- struct{}{}
	s.writeDog = dog
	<-s.turn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	zone, err := s.greet(r.cfg.Zone, false)
	if err != nil {
		return err
	}
	if zone != from {
		return errors.Join(s.writeFault(block.Errorf(block.Forbidden, "you are not zone %s", zone)), s.drain())
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRun),
		zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer dec.Close()
	left, leave := context.WithCancel(ctx)
	defer leave()
	in := &inbound{receiver: r, from: from, left: left.Done(), cancel: func() { leave(); _ = conn.Close() }}
	defer in.parted.Wait()
	p := server{stream: s, target: in, dec: dec, scratch: make([]byte, 0, maxRun)}
	err = p.serve(ctx)
	if in.key != (linkKey{}) && err != nil && ctx.Err() == nil {
		r.noteError(in.key, err)
	}
	return errors.Join(err, in.Close())
}

// server reads requests from a stream and has a Target answer them.
type server struct {
	stream  *stream
	target  *inbound
	dec     *zstd.Decoder
	scratch []byte
}

func (p *server) serve(ctx context.Context) error {
	for {
		kind, payload, err := p.stream.read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return broken(err)
		}
		err = p.answer(ctx, kind, payload)
		var told *answered
		if errors.As(err, &told) {
			return broken(told.err)
		}
		if err != nil { // the source is told, and nothing more is taken from it
			return errors.Join(err, p.target.Close(), p.stream.writeFault(err), p.stream.drain())
		}
	}
}

// answered is an error of the stream itself, of which the source can't be told.
type answered struct{ err error }

func (a *answered) Error() string { return a.err.Error() }

// reply sends an answer unless there is an error.
func (p *server) reply(err error, kind frameKind, v any) error {
	if err != nil {
		return err
	}
	if v == nil {
		err = p.stream.write(kind)
	} else {
		err = p.stream.writeDocument(kind, v)
	}
	if err != nil {
		return &answered{err}
	}
	return nil
}

func (p *server) answer(ctx context.Context, kind frameKind, payload []byte) error {
	switch kind {
	case frameOffer:
		return request(payload, func(o Offer) error {
			have, err := p.target.Offer(ctx, o)
			return p.reply(err, frameHave, have)
		})
	case frameBegin:
		return request(payload, func(s block.Step) error {
			offset, err := p.target.Begin(ctx, s)
			return p.reply(err, frameReady, ready{offset})
		})
	case frameData, frameZero:
		run, err := decodeRun(p.dec, p.scratch, kind, payload)
		if err != nil {
			return err
		}
		return p.target.Write(ctx, run)
	case frameCommit:
		return request(payload, func(c Commit) error {
			point, err := p.target.Commit(ctx, c)
			return p.reply(err, frameCommitted, point)
		})
	case frameHeartbeat:
		return request(payload, func(h Heartbeat) error {
			return p.reply(p.target.Heartbeat(ctx, h), frameDone, nil)
		})
	case frameGone:
		return p.reply(p.target.Gone(ctx), frameDone, nil)
	case frameEnd:
		return p.target.leave()
	default:
		return unexpected(kind)
	}
}

func request[T any](payload []byte, do func(T) error) error {
	var v T
	if err := readDocument(payload, &v); err != nil {
		return err
	}
	return do(v)
}

// drain reads until the other end closes, so that the fault that was sent
// arrives.
func (s *stream) drain() error {
	s.watchdog.Reset(s.patience)
	_, _ = io.Copy(io.Discard, s.conn)
	return nil
}
