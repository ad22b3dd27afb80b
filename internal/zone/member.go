package zone

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"kvol/internal/api"
	"kvol/internal/catalog"
	"kvol/internal/duty"
)

// Member is one of several processes that serve a zone together. All of them answer
// requests. One leads: it has the stores open, and does what is done in one place:
// exports, replication, jobs, and what is done now and then. Any may be killed;
// another one leads then.
type Member struct {
	cfg     Config
	env     Environment
	log     *slog.Logger
	catalog *catalog.Catalog
	keeper  *duty.Keeper
	listen  net.Listener
	api     *Server                // answers requests while another process leads
	front   atomic.Pointer[facade] // answers them now
	seen    atomic.Pointer[leader] // who leads, as it was last seen
	still   *facade                // what answers while another leads

	stopping atomic.Bool
	owes     atomic.Bool   // nobody knows whether who leads has to look at its exports
	gone     chan struct{} // closed with the process, when it serves nobody any more
	leave    sync.Once     // closes gone
}

// facade is what answers requests. leads says that it does the zone's work too.
type facade struct {
	http.Handler
	leads bool
}

const (
	leadDuty   = "lead"
	tokensDuty = "tokens" // removes those that expired
)

// OpenMember opens a zone's catalog and the listener of its APIs. It serves nothing
// before Run. ctx bounds the opening only.
func OpenMember(ctx context.Context, cfg Config, env Environment, version string) (_ *Member, err error) {
	env.defaults()
	env.Log = env.Log.With("zone", string(cfg.Zone), "process", cfg.Process.Name)
	m := &Member{cfg: cfg, env: env, log: env.Log, gone: make(chan struct{})}
	m.seen.Store(&leader{})
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, err
	}
	if m.catalog, err = openCatalog(ctx, &m.cfg, env.Now, m.owe); err != nil {
		return nil, err
	}
	if m.listen, err = env.Listen("tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	guarded := leadDuty
	if cfg.Process.Unguarded || cfg.Backup == nil && !slices.ContainsFunc(cfg.Stores, StoreConfig.reached) {
		guarded = ""
	}
	m.keeper = duty.New(duty.Config{Catalog: m.catalog, Name: cfg.Process.Name, URL: m.url(), Version: version,
		Lease: cfg.Process.Lease, Guarded: guarded, Now: env.Now, Log: m.log})
	s, err := open(ctx, &Server{cfg: m.cfg, env: env, of: m})
	if err != nil {
		return nil, err
	}
	m.api, m.still = s, &facade{Handler: s.routes()}
	m.front.Store(m.still)
	return m, nil
}

// url is where the other processes reach this one.
func (m *Member) url() string {
	if m.cfg.Process.URL != "" {
		return m.cfg.Process.URL
	}
	scheme := "http"
	if m.cfg.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + m.listen.Addr().String()
}

// Run serves until ctx ends, and then for as long as proxies need to notice: it says
// at /healthz that it ends, waits for Drain, answers what was asked, and gives
// back what it held. It returns an error at once when another process has taken its
// work over, since it was silent for too long. It may be called once.
func (m *Member) Run(ctx context.Context) error {
	if err := m.keeper.Enter(ctx); err != nil {
		return errors.Join(err, m.close())
	}
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, serving := errgroup.WithContext(serving)
	server, err := m.server(serving)
	if err != nil {
		return errors.Join(err, m.close())
	}
	g.Go(func() error { return m.serve(serving, server) })
	g.Go(func() error { return m.catalog.Listen(serving) })
	g.Go(func() error { return m.keeper.Run(serving) })
	g.Go(func() error { return m.watch(serving) })
	if m.api.identity != nil {
		g.Go(func() error { return m.keeper.Always(serving, tokensDuty, m.api.identity.Run) })
	}
	g.Go(func() error { return m.api.policy.Run(serving, m.env.Reload) })
	g.Go(func() error { return m.lead(serving) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			m.drain(serving, server)
			end()
		case <-serving.Done():
		}
		return nil
	})
	m.log.Info("process started", "url", m.url())
	err = g.Wait()
	leaving, done := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer done()
	if left := m.keeper.Leave(leaving); left != nil {
		m.log.Warn("the zone's other processes could not be told that this one ends", "err", left)
	}
	m.log.Info("process stopped")
	return errors.Join(err, m.close())
}

// close closes what is open. It is idempotent.
func (m *Member) close() error {
	m.leave.Do(func() { close(m.gone) })
	var errs []error
	if m.listen != nil {
		if err := m.listen.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
		m.listen = nil
	}
	if m.api != nil {
		errs = append(errs, m.api.close())
		m.api = nil
	}
	if m.catalog != nil {
		errs = append(errs, m.catalog.Close())
		m.catalog = nil
	}
	return errors.Join(errs...)
}

// server makes the HTTP server. Requests that are under way when the process is to
// end go on.
func (m *Member) server(ctx context.Context) (*http.Server, error) {
	config, err := m.cfg.TLS.server()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return &http.Server{Handler: http.HandlerFunc(m.answer), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		TLSConfig:      config, BaseContext: func(net.Listener) context.Context { return ctx }}, nil
}

// serve answers requests until the server is shut down, or ctx ends.
func (m *Member) serve(ctx context.Context, server *http.Server) error {
	ended := make(chan error, 1)
	l := m.listen
	if server.TLSConfig != nil {
		l = tls.NewListener(l, server.TLSConfig)
	}
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		if !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
		return nil
	case <-ctx.Done():
		_ = server.Close() // what is under way ends with the process
		<-ended
		return nil
	}
}

// answer passes a request on to what answers now.
func (m *Member) answer(w http.ResponseWriter, r *http.Request) {
	if m.stopping.Load() {
		switch r.URL.Path {
		case "/healthz", "/healthcheck", "/readyz":
			api.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "stopping"})
			return
		}
	}
	m.front.Load().ServeHTTP(w, r)
}

// drain says that the process ends, for as long as it is told to, and then answers
// what was asked and takes no more.
func (m *Member) drain(ctx context.Context, server *http.Server) {
	m.log.Info("process stops", "drain", m.cfg.Process.Drain.String())
	m.stopping.Store(true)
	m.keeper.Stop()
	select {
	case <-ctx.Done():
		return
	case <-time.After(m.cfg.Process.Drain):
	}
	limited, cancel := context.WithTimeout(ctx, longestRequest)
	defer cancel()
	if err := server.Shutdown(limited); err != nil {
		m.log.Warn("requests did not end", "err", err)
		_ = server.Close()
	}
}

// longestRequest is how long requests that are under way are waited for when a
// process ends.
const longestRequest = time.Minute
