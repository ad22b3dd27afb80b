// Package iscsi serves devices over iSCSI (RFC 7143): each target has one
// logical unit, a disk after SBC-3. It is a protocol over driver.Device and
// knows nothing else: which target there is for whom, with which secrets, and
// when that ends is told by Targets.
//
// One goroutine of a connection reads PDUs; small reads and writes are carried
// out in it, whatever may take long by workers. Answers of both are gathered
// into one vectored write. A session has up to eight connections; commands begin
// in the order of their numbers, whichever they come by. Error recovery is by
// session (ErrorRecoveryLevel=0): a connection that fails ends all of them.
package iscsi

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"kvol/internal/driver"
	"kvol/internal/export/line"
)

// Targets tells what there is to be served. Its methods may be called at once
// from many goroutines. Errors are of kind NotFound for targets that are not
// there for this initiator; Unavailable says that it should try later,
// Forbidden that it never will be served.
type Targets interface {
	// Discover lists the names of an initiator's targets.
	Discover(ctx context.Context, initiator string) ([]string, error)
	// Credentials are what has to be shown before Open is called. The zero value
	// lets the initiator in by its name alone.
	Credentials(ctx context.Context, iqn, initiator string) (Credentials, error)
	// Open begins a session's use of a target, after authentication.
	Open(ctx context.Context, iqn, initiator string) (Target, error)
}

// Credentials are CHAP's names and secrets of one target.
type Credentials struct {
	User, Secret             string // the initiator's; Secret "" for no authentication
	TargetUser, TargetSecret string // shown to an initiator that asks for it; "" for none
}

// Target is one session's use of a device.
type Target struct {
	// Device is used by all sessions of a volume at once, so that a flush in one
	// covers what completed in another. A device that is a driver.ExtentReader
	// answers GET LBA STATUS with holes.
	Device driver.Device
	LUN    uint8
	// Unit names the volume: targets of one Unit share persistent reservations.
	// It is also the unit's serial number, and its name in INQUIRY's pages is
	// made from it.
	Unit     string
	ReadOnly bool
	// Revoked is closed when the initiator has to go at once; may be nil.
	Revoked <-chan struct{}
	Release func() // called once, when nothing uses Device any more; may be nil
	// Throttle counts a read, or a change (write), of some bytes, and returns
	// how long it has to wait before it is carried out; nil for no limits.
	// Commands that zero or give back have no bytes, those that fill a range with
	// a block have the range's; flushes are not asked for.
	Throttle func(write bool, bytes int64) time.Duration
	// GiveBack takes back what Throttle counted, for a command that is not carried
	// out after all; may be nil.
	GiveBack func(write bool, bytes int64)
}

// Reservations keeps persistent reservations over restarts, for units whose
// initiators ask for it (APTPL). The state is opaque.
type Reservations interface {
	LoadReservations(ctx context.Context, unit string) ([]byte, error) // nil for none
	SaveReservations(ctx context.Context, unit string, state []byte) error
}

// Limits bound what initiators can make the server hold. Zero means the
// default.
type Limits struct {
	Connections       int           // at once, over all listeners; 1024
	ClientConnections int           // at once, of one host by its IP address; a quarter of Connections
	Login             time.Duration // from accept to the full feature phase; 15 s
	Discovery         time.Duration // of a discovery session, in all; 30 s
	Commands          int           // under way in one session, the width of the CmdSN window; 128
	InFlightBytes     int           // of data under way in one connection; 64 MiB, at least the largest transfer
	// ServerBytes is what the data of all connections may hold together, in each
	// direction: a connection's part of it is the same for each that is open. One
	// command of any size is always taken; 1 GiB.
	ServerBytes int
	// Stall is how long an initiator may take to begin to read what is sent
	// before it is cut off; above it, a second for each MiB is granted; 30 s.
	Stall   time.Duration
	Workers int           // of one connection; 16
	Idle    time.Duration // of silence until the initiator is asked if it is there, and again to wait; 30 s
	Grace   time.Duration // for what is under way when the server stops; 5 s
	Units   int           // whose reservations are kept while nobody is logged in; 4096
}

// Those who have not shown that they may be here, as in a login or in a discovery
// session that needs no secret, have these parts of Connections and of
// ClientConnections: they can't keep hosts from what those are attached to.
const (
	strangersPart       = 2
	clientStrangersPart = 4
)

// maxTransfer is the most bytes that one command may move, as told in the
// block limits page.
const maxTransfer = line.MaxBuffer

// Config is what a Server needs.
type Config struct {
	Targets      Targets
	Reservations Reservations // nil: reservations end with the process
	Portal       string       // host:port that discovery names; "" for where the initiator connected
	Discovery    Credentials  // for discovery sessions; the zero value asks for none
	Log          *slog.Logger
	Limits       Limits
	Now          func() time.Time // nil means time.Now
}

// Server serves targets on any number of listeners.
type Server struct {
	targets      Targets
	reservations Reservations
	portal       string
	discovery    Credentials
	log          *slog.Logger
	limits       Limits
	now          func() time.Time
	door         line.Door
	strangers    line.Door // of connections that are not authenticated
	pool         line.Buffers
	sessions     registry
	units        shelf
	operations   *operations
}

// New makes a Server; see Config.
func New(c Config) *Server {
	l := c.Limits
	l.Connections = cmp.Or(l.Connections, 1024)
	l.ClientConnections = cmp.Or(l.ClientConnections, partOf(l.Connections, 4))
	l.ServerBytes = cmp.Or(l.ServerBytes, 1<<30)
	l.Stall = cmp.Or(l.Stall, 30*time.Second)
	l.Login = cmp.Or(l.Login, 15*time.Second)
	l.Discovery = cmp.Or(l.Discovery, 30*time.Second)
	l.Commands = cmp.Or(l.Commands, 128)
	l.InFlightBytes = max(l.InFlightBytes, cmp.Or(l.InFlightBytes, 64<<20), maxTransfer)
	l.Workers = cmp.Or(l.Workers, 16)
	l.Idle = cmp.Or(l.Idle, 30*time.Second)
	l.Grace = cmp.Or(l.Grace, 5*time.Second)
	l.Units = cmp.Or(l.Units, 4096)
	s := &Server{targets: c.Targets, reservations: c.Reservations, portal: c.Portal,
		discovery: c.Discovery, log: c.Log, limits: l,
		now: c.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.door.Most, s.door.PerHost, s.door.Log = l.Connections, l.ClientConnections, s.log
	s.strangers.Most = partOf(l.Connections, strangersPart)
	s.strangers.PerHost = partOf(l.ClientConnections, clientStrangersPart)
	s.operations = newOperations()
	s.sessions.all = map[string]*session{}
	s.units.all = map[string]*unit{}
	return s
}

// partOf is one of some parts of n, at least 1.
func partOf(n, parts int) int { return (n + parts - 1) / parts }

// Serve accepts connections until ctx ends; then it closes l, lets what is
// under way finish for Limits.Grace, and returns nil when all connections have
// ended. It may be called for several listeners at once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.door.Serve(ctx, l, s.serve)
}

// share is a connection's part of ServerBytes right now.
func (s *Server) share() int { return s.door.Share(s.limits.ServerBytes) }

// serve runs one connection to its end.
func (s *Server) serve(ctx context.Context, nc net.Conn) {
	log := s.log.With("remote", nc.RemoteAddr())
	leave, full := s.strangers.Enter(nc)
	if full != "" {
		log.Warn("connection refused: too many have not logged in")
		return
	}
	known := sync.OnceFunc(leave)
	defer known()
	l, err := s.login(ctx, nc)
	if l.session != nil {
		defer s.leave(l)
	}
	if err != nil {
		log.Debug("login ended", "err", err)
		return
	}
	if !l.discovery || l.creds.Secret != "" {
		known()
	}
	if l.discovery {
		timer := time.AfterFunc(s.limits.Discovery, func() {
			log.Info("session ends", "err", errLong)
			l.session.end(l.member, false)
		})
		defer timer.Stop()
	}
	c := newConn(s, l, log)
	log.Debug("session begins", "discovery", l.discovery, "readonly", l.target.ReadOnly)
	if err := c.run(ctx); err != nil {
		log.Info("session ended", "err", err)
	}
}

// leave ends a connection's part in its session, and with the last one the
// session.
func (s *Server) leave(l *login) {
	if l.discovery || !l.session.leave(l.member) {
		return
	}
	if l.unit != nil {
		s.units.leave(s, l.session)
	}
	if l.session.target.Release != nil {
		l.session.target.Release()
	}
	s.sessions.leave(l.session)
}
