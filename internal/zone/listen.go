package zone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"kvol/internal/api/peer"
	"kvol/internal/export/iscsi"
)

// listeners are the sockets of a zone; nil ones are not configured.
type listeners struct {
	api, peer, nbd, nbdSocket, iscsi net.Listener
}

func (l *listeners) close() error {
	var errs []error
	for _, x := range []*net.Listener{&l.api, &l.peer, &l.nbd, &l.nbdSocket, &l.iscsi} {
		if *x == nil {
			continue
		}
		if err := (*x).Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
		*x = nil
	}
	return errors.Join(errs...)
}

// openListeners opens all of them before anything is served, so that a port
// that is taken ends the start with a clear error.
func (s *Server) openListeners(context.Context) error {
	if s.follows() {
		return nil
	}
	open := func(to *net.Listener, network, address, what string) error {
		if address == "" {
			return nil
		}
		l, err := s.env.Listen(network, address)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		*to = l
		return nil
	}
	if s.cfg.Exports.NBDSocket != "" {
		// Left by a process that was killed; a live one holds the store's lock.
		if err := os.Remove(s.cfg.Exports.NBDSocket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("exports.nbd_socket: %w", err)
		}
	}
	return errors.Join(
		open(&s.listeners.api, "tcp", s.apiAddress(), "listen"),
		open(&s.listeners.peer, "tcp", s.cfg.Peer.Listen, "peer.listen"),
		open(&s.listeners.nbd, "tcp", s.cfg.Exports.NBD, "exports.nbd"),
		open(&s.listeners.iscsi, "tcp", s.cfg.Exports.ISCSI, "exports.iscsi"),
		open(&s.listeners.nbdSocket, "unix", s.cfg.Exports.NBDSocket, "exports.nbd_socket"),
	)
}

// exportAddress is where hosts reach the NBD exports.
func (s *Server) exportAddress() string {
	if s.follows() {
		return s.of.exportAddress()
	}
	return s.publicAddress(s.listeners.nbd)
}

// targetAddress is where hosts reach the iSCSI targets.
func (s *Server) targetAddress() string {
	if s.follows() {
		return s.of.targetAddress()
	}
	return s.publicAddress(s.listeners.iscsi)
}

func (s *Server) publicAddress(l net.Listener) string {
	if l == nil {
		return ""
	}
	address := l.Addr().String()
	if s.cfg.Exports.PublicHost == "" {
		return address
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(s.cfg.Exports.PublicHost, port)
}

// The time-outs of the HTTP listeners. Bodies and answers may be long (images),
// headers may not.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	drainTimeout  = 5 * time.Second // for requests that are under way when the process ends
	cutTimeout    = time.Second     // for those that took longer to say that they are not done
)

// maxHeader is how long the headers of a request are at most, in bytes: before them
// nobody has shown a token.
const maxHeader = 64 << 10

// serveListeners starts serving on all listeners in g; they end with ctx.
func (s *Server) serveListeners(ctx context.Context, g *errgroup.Group) {
	if s.listeners.api != nil {
		g.Go(func() error {
			config, err := s.cfg.TLS.server()
			if err != nil {
				return fmt.Errorf("tls: %w", err)
			}
			return s.serveHTTP(ctx, s.listeners.api, s.routes(), config)
		})
	}
	if s.peers != nil {
		h := peer.NewServer(peer.ServerConfig{Service: s.control, Receiver: s.receiver, Zones: s.peers.Zones(), Log: s.log})
		g.Go(func() error { return s.serveHTTP(ctx, s.listeners.peer, h, s.credentials.Server(), h.EndStreams) })
	}
	for _, l := range []net.Listener{s.listeners.nbd, s.listeners.nbdSocket} {
		if l != nil {
			g.Go(func() error { return s.exports.Serve(ctx, l) })
		}
	}
	if l := s.listeners.iscsi; l != nil {
		targets := iscsi.New(iscsi.Config{Targets: s.control.Targets(),
			Reservations: s.control.Reservations(), Portal: s.targetAddress(), Log: s.log,
			Discovery: s.cfg.Exports.Discovery.credentials(), Limits: s.cfg.Exports.Limits.iscsi()})
		g.Go(func() error { return targets.Serve(ctx, l) })
	}
}

// serveHTTP answers requests until ctx ends, and then those that are under way: what
// users asked for is done, or they are told that it is not. stop is called when ctx
// ends, for connections that are no requests any more. A process that led others
// finishes nothing: another one may lead already.
func (s *Server) serveHTTP(ctx context.Context, l net.Listener, h http.Handler, config *tls.Config,
	stop ...func()) error {
	if config != nil {
		l = tls.NewListener(l, config)
	}
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	if s.of != nil {
		requests = ctx
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		BaseContext:    func(net.Listener) context.Context { return requests }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	for _, f := range stop {
		f()
	}
	if shutdown(ctx, server, drainTimeout) != nil {
		cut()
		if shutdown(ctx, server, cutTimeout) != nil {
			_ = server.Close() // requests that would not end
		}
	}
	<-ended
	return nil
}

// shutdown waits for so long until all requests of a server are answered. It takes no
// new ones. ctx may have ended.
func shutdown(ctx context.Context, server *http.Server, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return server.Shutdown(ctx)
}

// server makes a server's TLS configuration; nil for no files.
func (f *TLSFiles) server() (*tls.Config, error) {
	if f == nil {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if f.ClientCA == "" {
		return c, nil
	}
	text, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, err
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", strings.TrimSpace(f.ClientCA))
	}
	return c, nil
}
