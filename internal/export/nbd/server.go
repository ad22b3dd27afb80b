// Package nbd serves devices over the NBD protocol: fixed newstyle with TLS,
// structured replies and block status, for any number of connections to one
// device. It is a protocol over driver.Device and knows nothing else: what a
// name stands for, who may use it and when that ends is told by Exports.
//
// One goroutine of a connection reads requests; small reads and writes are
// carried out in it, whatever may take long by workers. Replies of both are
// gathered into one vectored write.
package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"
	"log/slog"
	"net"
	"time"

	"kvol/internal/driver"
	"kvol/internal/export/line"
)

// Exports tells what there is to be served. Open may be called at once from
// many goroutines, and several times for one connection.
type Exports interface {
	// Open finds an export by the name that a client sent. Errors are of kind
	// NotFound for unknown names; Unavailable says that the client should try
	// later, Forbidden that it never will be served.
	Open(ctx context.Context, name string) (Export, error)
}

// Export is one use of a device.
type Export struct {
	// Device is used by all connections to a volume at once, so that a flush on
	// one covers what completed on another (NBD_FLAG_CAN_MULTI_CONN). A device
	// that is a driver.ExtentReader answers block status.
	Device      driver.Device
	ReadOnly    bool
	Description string // for the client's user; "" for none
	// Revoked is closed when the client has to go at once; may be nil. What is
	// under way at the device still ends: Release tells when that is so.
	Revoked <-chan struct{}
	Release func() // called once, when nothing uses Device any more; may be nil
	// Throttle counts a read, or a change (write), of some bytes, and returns
	// how long it has to wait before it is carried out; nil for no limits. Trims
	// and zeros without data have no bytes, flushes are not asked for.
	Throttle func(write bool, bytes int64) time.Duration
	// GiveBack takes back what Throttle counted, for a request that is not carried
	// out after all; may be nil.
	GiveBack func(write bool, bytes int64)
	// Since names the earlier moments of which the export knows what changed
	// since; each is a context of block status. The device must not change then.
	Since []string
	// Changed yields the extents that may differ from one of Since, in order;
	// nil where Since is empty.
	Changed func(ctx context.Context, since string) iter.Seq2[driver.Extent, error]
}

// Config is what a Server needs.
type Config struct {
	Exports    Exports
	TLS        *tls.Config // nil: no TLS is offered; client certificates as it says
	RequireTLS bool        // refuse clients that don't begin TLS
	Log        *slog.Logger
	Limits     Limits
	Now        func() time.Time // nil means time.Now
}

// Server serves exports on any number of listeners.
type Server struct {
	exports    Exports
	tls        *tls.Config
	requireTLS bool
	log        *slog.Logger
	limits     Limits
	now        func() time.Time
	door       line.Door
	uses       line.Uses // of exports, by name
	pool       line.Buffers
}

// New makes a Server; see Config.
func New(c Config) *Server {
	s := &Server{exports: c.Exports, tls: c.TLS, requireTLS: c.RequireTLS, log: c.Log,
		limits: c.Limits.withDefaults(), now: c.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.door.Most, s.door.PerHost, s.door.Log = s.limits.Connections, s.limits.ClientConnections, s.log
	return s
}

// Serve accepts connections until ctx ends; then it closes l, lets what is
// under way finish for Limits.Grace, and returns nil when all connections have
// ended. It may be called for several listeners at once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.door.Serve(ctx, l, s.serve)
}

// serve runs one connection to its end.
func (s *Server) serve(ctx context.Context, nc net.Conn) {
	log := s.log.With("remote", nc.RemoteAddr())
	h, err := s.negotiate(ctx, nc)
	if h.export != nil {
		defer h.drop()
	}
	if err != nil {
		if !errors.Is(err, errAborted) {
			log.Debug("handshake ended", "err", err)
		}
		return
	}
	log.Debug("transmission begins", "tls", h.tls, "readonly", h.export.ReadOnly)
	if err := newConn(s, h, log).run(ctx); err != nil {
		log.Info("connection ended", "err", err)
	}
}
