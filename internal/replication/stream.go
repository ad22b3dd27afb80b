package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"kvol/internal/block"
)

// protocolVersion is the version of the stream that this program speaks.
const protocolVersion = 1

// hello is the first frame in both directions.
type hello struct {
	Version int
	Zone    block.Zone // of the one who sends it
}

// ready answers a Begin.
type ready struct{ Offset int64 }

// fault is an error as it crosses a stream.
type fault struct {
	Kind      block.Kind
	Message   string
	Recovered *block.Recovered `json:",omitempty"`
}

// stream is one end of a connection that carries frames. While it is open it
// sends a wait frame now and then, so that the other end can tell a peer that
// works from one that is dead.
type stream struct {
	conn     net.Conn
	patience time.Duration
	frames   frameReader // of the one goroutine that reads

	turn    chan struct{} // holds a token while somebody uses out and scratch; a lock that time passes by in tests
	out     frameWriter
	enc     *zstd.Encoder
	scratch []byte

	watchdog *time.Timer // closes the connection when nothing can be read
	writeDog *time.Timer // closes it when nothing can be written; nil where a write may wait for long
	done     chan struct{}
	beat     sync.WaitGroup
	once     sync.Once
}

func newStream(conn net.Conn, patience time.Duration) (*stream, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	s := &stream{conn: conn, patience: patience, enc: enc, done: make(chan struct{}), turn: make(chan struct{}, 1)}
	s.frames.r, s.out.w = conn, conn
	s.watchdog = time.AfterFunc(patience, func() { _ = conn.Close() })
	s.beat.Go(s.keepAlive)
	return s, nil
}

// close ends the stream. It may be called again and by any goroutine.
func (s *stream) close() error {
	var err error
	s.once.Do(func() {
		s.watchdog.Stop()
		err = s.conn.Close()
		close(s.done)
	})
	s.beat.Wait()
	return err
}

func (s *stream) keepAlive() {
	tick := time.NewTicker(s.patience / 3)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
			if s.write(frameWait) != nil {
				return // whoever reads finds out
			}
		}
	}
}

// read returns the next frame that is no wait frame. Between reads the watchdog
// sleeps: only a peer that is listened to can be too silent.
func (s *stream) read() (frameKind, []byte, error) {
	defer s.watchdog.Stop()
	for {
		s.watchdog.Reset(s.patience)
		kind, payload, err := s.frames.read()
		if err != nil || kind != frameWait {
			return kind, payload, err
		}
	}
}

func (s *stream) write(kind frameKind, payload ...[]byte) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.writeDog != nil {
		s.writeDog.Reset(s.patience)
		defer s.writeDog.Stop()
	}
	return s.out.write(kind, payload...)
}

func (s *stream) writeDocument(kind frameKind, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(p) > kind.limit() {
		return block.Errorf(block.OverLimit, "a document of %d bytes is too long for a replication stream", len(p))
	}
	return s.write(kind, p)
}

func (s *stream) writeRun(r Run) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.scratch == nil {
		s.scratch = make([]byte, 0, maxRun)
	}
	kind, header, body := encodeRun(s.enc, s.scratch, r)
	return s.out.write(kind, header, body)
}

func (s *stream) writeFault(cause error) error {
	f := fault{Kind: block.KindOf(cause), Message: "the other zone failed; its log says why"}
	if message, ok := block.UserMessage(cause); ok {
		f.Message = message[:min(len(message), 4096)]
	}
	var stale *Fenced
	if errors.As(cause, &stale) {
		f.Recovered = &stale.Recovered
	}
	return s.writeDocument(frameFault, f)
}

// sent is how many bytes were written.
func (s *stream) sent() int64 {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return s.out.sent
}

// readFault turns a fault frame into the error that it carries.
func readFault(p []byte) error {
	var f fault
	if err := readDocument(p, &f); err != nil {
		return err
	}
	err := block.Errorf(f.Kind, "%s", f.Message)
	if f.Recovered != nil {
		return &Fenced{Recovered: *f.Recovered, Err: err}
	}
	return err
}

func readDocument(p []byte, into any) error {
	if err := json.Unmarshal(p, into); err != nil {
		return block.Wrap(block.Corrupt, err, "a document of a replication stream can't be read")
	}
	return nil
}

func unexpected(kind frameKind) error {
	return block.Errorf(block.Corrupt, "a frame of kind %d came out of turn", kind)
}

// broken is the error of a stream that stopped in the middle.
func broken(err error) error {
	if block.KindOf(err) != block.Internal {
		return err
	}
	return block.Wrap(block.Unavailable, err, "the connection to the other zone broke")
}

// greet exchanges hellos; it is the same for both ends. It returns the zone at
// the other end.
func (s *stream) greet(zone block.Zone, first bool) (block.Zone, error) {
	mine := hello{Version: protocolVersion, Zone: zone}
	if first {
		if err := s.writeDocument(frameHello, mine); err != nil {
			return "", broken(err)
		}
	}
	kind, p, err := s.read()
	if err != nil {
		return "", broken(err)
	}
	var theirs hello
	switch kind {
	case frameHello:
		err = readDocument(p, &theirs)
	case frameFault:
		err = readFault(p)
	default:
		err = unexpected(kind)
	}
	if err == nil && theirs.Version != protocolVersion {
		err = block.Errorf(block.Unsupported, "zone %s speaks version %d of replication, this one %d", theirs.Zone,
			theirs.Version, protocolVersion)
		if !first {
			err = errors.Join(err, s.writeFault(err))
		}
	}
	if err == nil && !first {
		err = s.writeDocument(frameHello, mine)
	}
	if err != nil {
		return "", fmt.Errorf("greet: %w", err)
	}
	return theirs.Zone, nil
}
