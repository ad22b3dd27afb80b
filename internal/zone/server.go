package zone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"kvol/internal/api"
	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/duty"
	"kvol/internal/export/nbd"
	"kvol/internal/identity"
	"kvol/internal/image"
	"kvol/internal/job"
	"kvol/internal/keystone"
	"kvol/internal/keystore"
	"kvol/internal/policy"
	"kvol/internal/proof"
	"kvol/internal/replication"
	"kvol/internal/upkeep"
)

// Environment is what a zone is given from outside its configuration file.
type Environment struct {
	Log *slog.Logger     // discarded if nil
	Now func() time.Time // the system's clock if nil
	// Stores are stores that are open already, by name; the others are opened
	// as configured. They are closed with the zone.
	Stores map[string]driver.Driver
	// Reload, if not nil, makes the zone read its policy file again at each
	// message.
	Reload <-chan struct{}
	// Listen opens a listener; net.Listen if nil.
	Listen func(network, address string) (net.Listener, error)
}

func (e *Environment) defaults() {
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Listen == nil {
		e.Listen = net.Listen
	}
}

// Server is all that one zone runs.
type Server struct {
	cfg      Config
	env      Environment
	log      *slog.Logger
	registry *prometheus.Registry

	catalog  *catalog.Catalog
	stores   *driver.Set
	ledger   *upkeep.Ledger
	upkeep   *upkeep.Service
	healer   atomic.Pointer[control.Service] // set once it can be asked
	identity *identity.Service               // nil where a Keystone says who asks
	keystone *keystone.Service               // nil where the embedded identity service does
	kvol     *identity.Kvol
	images   *image.Service // nil where a Glance keeps images
	policy   *policy.Enforcer
	control  *control.Service
	placer   *keystore.Placer // nil where hosts ask the zone for keys
	jobs     *job.Runner
	exports  *nbd.Server
	peers    *peer.Client // nil for a zone that is alone, as all below
	sender   *replication.Sender
	receiver *replication.Receiver
	prover   *proof.Prover

	of   *Member    // nil where one process serves the zone
	turn *duty.Turn // nil unless this process leads the zone's others
	// leash waits until this process surely leads; nil where nobody else can.
	leash func() error
	// policyMetrics are those of the policy file.
	policyMetrics []prometheus.Collector

	auth         api.Authenticator // who answers for tokens
	unauthorized http.Handler      // answers who has none
	authURL      string            // where those are sent; the zone itself if empty
	// identityMetrics are those of the Keystone, if there is one.
	identityMetrics []prometheus.Collector

	credentials peer.Credentials
	listeners   listeners
	clients     *clients
	started     time.Time
	ready       atomic.Bool
	doubts      doubts // of a process that is alone
}

// Open opens a zone's catalog and stores and all its listeners. It serves
// nothing before Run. ctx bounds the opening only.
func Open(ctx context.Context, cfg Config, env Environment) (*Server, error) {
	env.defaults()
	env.Log = env.Log.With("zone", string(cfg.Zone))
	return open(ctx, &Server{cfg: cfg, env: env})
}

func open(ctx context.Context, s *Server) (*Server, error) {
	s.cfg.SharedDir = cmp.Or(s.cfg.SharedDir, s.cfg.DataDir)
	s.log, s.started, s.registry = s.env.Log, s.env.Now().UTC(), prometheus.NewRegistry()
	s.doubts = newDoubts()
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// open goes from the ground up; what it opened is closed by close.
func (s *Server) open(ctx context.Context) error {
	if err := errors.Join(os.MkdirAll(s.cfg.DataDir, 0o700), os.MkdirAll(s.cfg.SharedDir, 0o700)); err != nil {
		return err
	}
	key, err := zoneKey(s.cfg.SharedDir)
	if err != nil {
		return fmt.Errorf("zone key: %w", err)
	}
	if s.of != nil {
		if err := s.of.sameKey(ctx, key); err != nil {
			return err
		}
	}
	if s.clients, err = newClients(s.cfg.TrustedProxies, key, s.env.Now); err != nil {
		return err
	}
	if s.policy, err = s.openPolicy(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{s.openCatalog, s.openIdentity, s.openListeners} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.ledger = upkeep.NewLedger(s.catalog, s.log)
	if err := s.openStores(ctx); err != nil {
		return err
	}
	if err := s.openPeers(); err != nil {
		return err
	}
	if err := s.openControl(ctx, key); err != nil {
		return err
	}
	return s.openMovers()
}

// Run serves until ctx ends, then closes everything and returns. It may be
// called once.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	s.holdExports()
	s.serveListeners(ctx, g)
	g.Go(func() error { return s.jobs.Run(ctx) })
	if s.of == nil { // with several processes these are done beside
		if s.identity != nil {
			g.Go(func() error { return s.identity.Run(ctx) })
		}
		g.Go(func() error { return s.policy.Run(ctx, s.env.Reload) })
		g.Go(func() error { s.lookAfterDoubts(ctx); return nil })
	}
	g.Go(func() error { return s.ledger.Run(ctx) })
	g.Go(func() error { return s.upkeep.Run(ctx) })
	g.Go(func() error { return s.control.RunDoctor(ctx) })
	if s.peers != nil {
		g.Go(func() error { return s.control.RunPeers(ctx) })
		g.Go(func() error { return s.sender.Run(ctx) })
		g.Go(func() error { return s.receiver.Run(ctx) })
		g.Go(func() error { return s.control.RunHealth(ctx) })
		g.Go(func() error { return s.control.RunLeases(ctx) })
		g.Go(func() error { return s.control.RunKeeps(ctx) })
		g.Go(func() error { return s.control.RunDrills(ctx) })
		g.Go(func() error { return s.prover.Run(ctx) })
	}
	if s.placer != nil {
		g.Go(func() error { return s.placer.Run(ctx) })
	}
	g.Go(func() error { return s.learn(ctx) })
	s.log.Info("zone started", "url", s.URL())
	err := g.Wait()
	s.log.Info("zone stopped")
	return errors.Join(err, s.close())
}

// URL is how users reach the zone's APIs, without a path.
func (s *Server) URL() string {
	if s.cfg.PublicURL != "" {
		return s.cfg.PublicURL
	}
	if s.of != nil {
		return s.of.url()
	}
	scheme := "http"
	if s.cfg.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + s.listeners.api.Addr().String()
}

// close closes what open opened, from the top down. It is idempotent.
func (s *Server) close() error {
	errs := []error{s.listeners.close()}
	if s.peers != nil {
		s.peers.Close()
	}
	if s.stores != nil {
		errs = append(errs, s.stores.Close())
		s.stores = nil
	}
	if s.catalog != nil && s.of == nil {
		errs = append(errs, s.catalog.Close())
		s.catalog = nil
	}
	return errors.Join(errs...)
}

// protected reports where a volume of a type is replicated to.
func (s *Server) protected(t block.TypeID) []block.Zone {
	var zones []block.Zone
	for _, p := range s.cfg.protections() {
		if p.Enabled && p.SourceType == t {
			zones = append(zones, p.Destination)
		}
	}
	return zones
}
