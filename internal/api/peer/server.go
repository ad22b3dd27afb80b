package peer

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/proof"
	"kvol/internal/replication"
	"kvol/internal/rivals"
)

// Protocol is what a connection is upgraded to for replication.
const Protocol = "kvol-replication/1"

// PathReplicate is where it is upgraded, by POST.
const PathReplicate = "/peer/v1/replicate"

const (
	maxRequest  = 16 << 20 // bytes of a document
	maxStreams  = 64       // replication streams of one zone at a time
	callTimeout = 10 * time.Second
)

// Receiver takes replication streams.
type Receiver interface {
	ServeConn(ctx context.Context, conn net.Conn, from block.Zone) error
}

var _ Receiver = (*replication.Receiver)(nil)

// ServerConfig is what a Server works with. Service is needed.
type ServerConfig struct {
	Service  *control.Service
	Receiver Receiver     // nil: streams are refused
	Zones    []block.Zone // that may call
	Log      *slog.Logger // discarded if nil
}

// Server is the handler of a zone's peer listener. The listener must use
// Credentials.Server; without a verified certificate of a known zone nothing is
// answered. Streams end when the context of their request does, or by EndStreams.
type Server struct {
	cfg     ServerConfig
	routes  *api.Router
	ending  context.Context // of all streams
	end     context.CancelFunc
	streams map[block.Zone]chan struct{} // each holds a token for every stream of a zone
}

// NewServer makes a Server.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, streams: map[block.Zone]chan struct{}{}}
	s.ending, s.end = context.WithCancel(context.Background())
	for _, zone := range cfg.Zones {
		s.streams[zone] = make(chan struct{}, maxStreams)
	}
	s.routes = api.NewRouter(refuse(block.NotFound, "no such path"), refuse(block.Unsupported, "method not allowed"))
	get, post := http.MethodGet, http.MethodPost
	s.routes.HandleFunc(post, control.PathDocument, s.answer(s.document))
	s.routes.HandleFunc(get, control.PathPairs, s.answer(s.pairs))
	s.routes.HandleFunc(post, control.PathDR, s.answer(s.start))
	s.routes.HandleFunc(get, control.PathDRJobs, s.answer(s.jobs))
	s.routes.HandleFunc(get, control.PathFences, s.answer(s.fences))
	s.routes.HandleFunc(post, control.PathFences, s.answer(s.hearFence))
	s.routes.HandleFunc(get, control.PathKnown, s.answer(s.known))
	s.routes.HandleFunc(get, control.PathUnreplicated, s.answer(s.unreplicated))
	s.routes.HandleFunc(post, control.PathBlock, s.answer(s.block))
	s.routes.HandleFunc(post, control.PathProof, s.answer(s.proof))
	s.routes.HandleFunc(post, control.PathPromote, s.answer(s.takeover(s.cfg.Service.Promote)))
	s.routes.HandleFunc(post, control.PathLeave, s.answer(s.takeover(s.cfg.Service.Leave)))
	s.routes.HandleFunc(post, control.PathLease, s.answer(s.lease))
	s.routes.HandleFunc(post, control.PathBids, s.answer(s.bids))
	s.routes.HandleFunc(post, control.PathWithdraw, s.answer(s.withdraw))
	s.routes.HandleFunc(get, control.PathFencesSince, s.answer(s.fencesSince))
	s.routes.HandleFunc(get, control.PathAudit, s.answer(s.audit))
	s.routes.HandleFunc(get, control.PathAuditTold, s.answer(s.auditTold))
	s.routes.HandleFunc(post, control.PathBringBack, s.answer(s.bringBack))
	s.routes.HandleFunc(post, PathReplicate, s.replicate)
	return s
}

// EndStreams ends the streams that there are, and each that begins later: an HTTP
// server that shuts down does not know them any more. It waits for none.
func (s *Server) EndStreams() { s.end() }

// ServeHTTP answers a request. It may be called by many at once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := s.caller(r); err != nil {
		writeError(w, err)
		return
	}
	s.routes.ServeHTTP(w, r)
}

// caller is the zone whose certificate the connection was opened with.
func (s *Server) caller(r *http.Request) (block.Zone, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", block.Errorf(block.Unauthorized, "A client certificate is needed.")
	}
	zone, ok := zoneOf(r.TLS.VerifiedChains[0][0])
	if !ok || !slices.Contains(s.cfg.Zones, zone) {
		return "", block.Errorf(block.Forbidden, "Zone %q is no peer of this zone.", zone)
	}
	return zone, nil
}

// answer makes a handler of a function that is asked by a zone.
func (s *Server) answer(fn func(ctx context.Context, from block.Zone, r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, err := s.caller(r)
		if err != nil {
			writeError(w, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		out, err := fn(ctx, from, r)
		if err != nil {
			if _, known := block.UserMessage(err); !known {
				s.cfg.Log.Error("a peer's request failed", "peer", from, "path", r.URL.Path, "err", err)
			}
			writeError(w, err)
			return
		}
		api.WriteJSON(w, http.StatusOK, out)
	}
}

func read(r *http.Request, into any) error {
	return block.Wrap(block.Invalid, json.NewDecoder(r.Body).Decode(into), "The request can't be read.")
}

func (s *Server) proof(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	var q proof.Question
	if err := read(r, &q); err != nil {
		return nil, err
	}
	return s.cfg.Service.AnswerProof(ctx, from, q)
}

func (s *Server) document(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	var d control.Document
	if err := read(r, &d); err != nil {
		return nil, err
	}
	return s.cfg.Service.ExchangeDocument(ctx, from, d)
}

func (s *Server) lease(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	var asked control.LeaseRequest
	if err := read(r, &asked); err != nil {
		return nil, err
	}
	return s.cfg.Service.GrantLease(ctx, from, asked)
}

// bids answers a zone that is about to take volumes over.
func (s *Server) bids(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	var q rivals.Ask
	if err := read(r, &q); err != nil {
		return nil, err
	}
	return s.cfg.Service.AnswerBids(ctx, from, q)
}

func (s *Server) withdraw(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	var q rivals.Ask
	if err := read(r, &q); err != nil {
		return nil, err
	}
	return struct{}{}, s.cfg.Service.WithdrawBids(ctx, from, q)
}

// fencesSince tells of what lives on elsewhere, from a revision on.
func (s *Server) fencesSince(ctx context.Context, _ block.Zone, r *http.Request) (any, error) {
	since, err := strconv.ParseInt(r.URL.Query().Get("revision"), 10, 64)
	if err != nil {
		return nil, block.Wrap(block.Invalid, err, "revision must be a number.")
	}
	return s.cfg.Service.FencesSince(ctx, since)
}

// bringBack is asked by a zone for the volumes that were recovered from it.
func (s *Server) bringBack(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	var o control.ReturnOrder
	if err := read(r, &o); err != nil {
		return nil, err
	}
	return s.cfg.Service.BringBack(ctx, from, o)
}

func (s *Server) pairs(ctx context.Context, _ block.Zone, _ *http.Request) (any, error) {
	return s.cfg.Service.OwnProtections(ctx)
}

func (s *Server) start(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	var f control.ForwardedDR
	if err := read(r, &f); err != nil {
		return nil, err
	}
	return s.cfg.Service.ReceiveDR(ctx, from, f)
}

func (s *Server) jobs(ctx context.Context, _ block.Zone, r *http.Request) (any, error) {
	q := r.URL.Query()
	rowkey, err := strconv.ParseInt(q.Get("rowkey"), 10, 64)
	if err != nil {
		return nil, block.Wrap(block.Invalid, err, "rowkey must be a number.")
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil {
		return nil, block.Wrap(block.Invalid, err, "limit must be a number.")
	}
	return s.cfg.Service.OwnDRJobs(ctx, block.DRKind(q.Get("kind")), rowkey, limit)
}

// fences answers a zone about its own volumes.
func (s *Server) fences(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	if zone := block.Zone(r.URL.Query().Get("zone")); zone != from {
		return nil, block.Errorf(block.Forbidden, "Zone %s may not ask for zone %q.", from, zone)
	}
	return s.cfg.Service.FencesFor(ctx, from)
}

// hearFence is told by a zone that it recovered a volume of this one.
func (s *Server) hearFence(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	var f block.Fence
	if err := read(r, &f); err != nil {
		return nil, err
	}
	return struct{}{}, s.cfg.Service.HearFence(ctx, from, f)
}

func (s *Server) unreplicated(ctx context.Context, from block.Zone, _ *http.Request) (any, error) {
	return s.cfg.Service.UnreplicatedTo(ctx, from)
}

func (s *Server) known(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	q := r.URL.Query()
	return s.cfg.Service.Known(ctx, from, block.VolumeID(q.Get("volume")), block.SnapshotID(q.Get("snapshot")),
		block.TypeID(q.Get("type")))
}

// audit shows a zone that this one's audit log goes on from a record.
func (s *Server) audit(ctx context.Context, _ block.Zone, r *http.Request) (any, error) {
	after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	if err != nil || after < 0 {
		return nil, block.Errorf(block.Invalid, "after must be the number of a record.")
	}
	return s.cfg.Service.ProveAudit(ctx, after)
}

// auditTold answers a zone what it told of its own audit log.
func (s *Server) auditTold(ctx context.Context, from block.Zone, _ *http.Request) (any, error) {
	return s.cfg.Service.AuditToldBy(ctx, from)
}

// takeover is a step of a planned failover, asked for by the source.
func (s *Server) takeover(do func(context.Context, block.Zone, control.TakeoverOrder) (control.Takeover, error),
) func(context.Context, block.Zone, *http.Request) (any, error) {
	return func(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
		var o control.TakeoverOrder
		if err := read(r, &o); err != nil {
			return nil, err
		}
		return do(ctx, from, o)
	}
}

// block looks for a block that a zone lost.
func (s *Server) block(ctx context.Context, from block.Zone, r *http.Request) (any, error) {
	var want control.BlockWanted
	if err := read(r, &want); err != nil {
		return nil, err
	}
	return s.cfg.Service.FindBlock(ctx, from, want)
}

// replicate hands the connection to the receiver (RFC 9110, section 7.8).
func (s *Server) replicate(w http.ResponseWriter, r *http.Request) {
	from, err := s.caller(r)
	if err == nil && (!strings.EqualFold(r.Header.Get("Upgrade"), Protocol) || s.cfg.Receiver == nil) {
		err = block.Errorf(block.Unsupported, "This is for %s only.", Protocol)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	select {
	case s.streams[from] <- struct{}{}:
		defer func() { <-s.streams[from] }()
	default:
		writeError(w, block.Errorf(block.OverLimit, "Zone %s has %d streams already.", from, maxStreams))
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeError(w, block.Wrap(block.Unsupported, err, "This connection can't be upgraded."))
		return
	}
	if err := accept(conn); err != nil {
		s.cfg.Log.Info("a peer's stream could not begin", "peer", from, "err", err)
		_ = conn.Close() // the fault was the write's
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	if err := s.cfg.Receiver.ServeConn(ctx, withRest(conn, buffered.Reader), from); err != nil {
		s.cfg.Log.Info("a peer's stream ended", "peer", from, "err", err)
	}
}

// accept says that the protocol is another one now, and takes the server's
// deadlines off.
func accept(conn net.Conn) error {
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	_, err := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n" +
		"Connection: Upgrade\r\nUpgrade: " + Protocol + "\r\n\r\n"))
	return err
}

// rested is a connection of which a little was read too early.
type rested struct {
	net.Conn
	rest *bufio.Reader
}

func withRest(conn net.Conn, rest *bufio.Reader) net.Conn {
	if rest.Buffered() == 0 {
		return conn
	}
	return &rested{conn, rest}
}

// Read reads what was read too early first.
func (c *rested) Read(p []byte) (int, error) {
	if c.rest.Buffered() > 0 {
		return c.rest.Read(p[:min(len(p), c.rest.Buffered())])
	}
	return c.Conn.Read(p)
}
