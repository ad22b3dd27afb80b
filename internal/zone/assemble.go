package zone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"kvol/internal/api/peer"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/compute"
	"kvol/internal/control"
	"kvol/internal/driver/fenced"
	"kvol/internal/export/nbd"
	"kvol/internal/identity"
	"kvol/internal/image"
	"kvol/internal/job"
	"kvol/internal/replication"
)

func (s *Server) openCatalog(ctx context.Context) (err error) {
	if s.of != nil {
		s.catalog = s.of.catalog
		return nil
	}
	s.catalog, err = openCatalog(ctx, &s.cfg, s.env.Now, s.doubts.note)
	return err
}

// openCatalog opens the catalog that a configuration names, alone or with the other
// processes of the zone, and writes down what the configuration says. doubted hears
// of commits of which nobody knows whether they were carried out.
func openCatalog(ctx context.Context, cfg *Config, now func() time.Time, doubted func()) (*catalog.Catalog, error) {
	several := cfg.Process.Name != ""
	c, err := catalog.Open(ctx, catalog.Options{Path: filepath.Join(cfg.DataDir, "catalog.db"), URL: cfg.Catalog.URL,
		Now: now, Doubted: doubted, Alone: !several, Shared: several})
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	err = c.Update(ctx, func(tx *catalog.Tx) error {
		if err := cfg.keepTypeIDs(tx); err != nil {
			return err
		}
		types, limits := cfg.types()
		return tx.Configure(types, limits)
	})
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (s *Server) openIdentity(ctx context.Context) (err error) {
	if s.of != nil && s.of.api != nil {
		front := s.of.api
		s.identity, s.keystone, s.kvol = front.identity, front.keystone, front.kvol
		s.auth, s.unauthorized, s.authURL = front.auth, front.unauthorized, front.authURL
		s.identityMetrics = front.identityMetrics
		s.registry.MustRegister(s.identityMetrics...)
		return nil
	}
	if s.cfg.Keystone.AuthURL != "" {
		err = s.openKeystone()
	} else {
		err = s.openOwnIdentity(ctx)
	}
	if err != nil {
		return err
	}
	k := identity.KvolConfig{TokenTTL: s.cfg.KvolAPI.TokenTTL, Now: s.env.Now}
	for _, u := range s.cfg.KvolAPI.Users {
		k.Users = append(k.Users, identity.KvolUser{Name: u.Name, Password: u.Password, PasswordHash: u.PasswordHash})
	}
	if s.kvol, err = identity.NewKvol(s.catalog, k); err != nil {
		return err
	}
	return s.kvol.Seed(ctx)
}

func (s *Server) openOwnIdentity(ctx context.Context) (err error) {
	c := identity.Config{Region: s.cfg.Region, PublicURL: s.cfg.PublicURL, TokenTTL: s.cfg.Identity.TokenTTL,
		Now: s.env.Now, Log: s.log,
		Catalog: []identity.Endpoint{
			{Type: "volumev2", Name: "cinderv2", URL: "/v2/$(project_id)"},
			{Type: "volumev3", Name: "cinderv3", URL: "/v3/$(project_id)"},
			{Type: "block-storage", Name: "cinder", URL: "/v3/$(project_id)"},
			{Type: "image", Name: "glance", URL: "/image"},
			{Type: "key-manager", Name: "barbican", URL: cmp.Or(s.cfg.KeyManager.URL, "/key-manager")},
			{Type: "identity", Name: "keystone", URL: "/identity/v3"},
		}}
	for _, p := range s.cfg.Identity.Projects {
		c.Projects = append(c.Projects, identity.Project{ID: p.ID, Name: p.Name, Description: p.Description})
	}
	for _, u := range s.cfg.Identity.Users {
		user := identity.User{ID: u.ID, Name: u.Name, Password: u.Password, PasswordHash: u.PasswordHash}
		for _, r := range u.Roles {
			user.Roles = append(user.Roles, identity.RoleIn{Project: r.Project, Role: r.Role})
		}
		c.Users = append(c.Users, user)
	}
	if s.identity, err = identity.New(s.catalog, c); err != nil {
		return err
	}
	if err := s.identity.Seed(ctx); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	s.auth, s.unauthorized = s.identity, s.identity.Unauthorized()
	return nil
}

// openImages makes the image service that volumes are made of.
func (s *Server) openImages(ctx context.Context) (control.Images, error) {
	if s.cfg.Glance.used() {
		return s.openGlance()
	}
	var err error
	s.images, err = image.New(ctx, s.catalog, image.Config{Dir: filepath.Join(s.cfg.SharedDir, "images"),
		Elsewhere: s.follows(), PublicURL: s.cfg.PublicURL, Authenticator: s.admitting(),
		Unauthorized: s.unauthorized, Log: s.log})
	return s.images, err
}

func (s *Server) openPeers() (err error) {
	if len(s.cfg.Peers) == 0 || s.follows() {
		return nil
	}
	s.credentials, err = peer.LoadCredentials(s.cfg.Peer.Cert, s.cfg.Peer.Key, s.cfg.Peer.CA)
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	if named := s.credentials.Zone(); named != s.cfg.Zone {
		return fmt.Errorf("peer.cert: %s is the certificate of zone %q, not %q", s.cfg.Peer.Cert, named, s.cfg.Zone)
	}
	c := peer.ClientConfig{Credentials: s.credentials, Peers: map[block.Zone]string{}}
	for _, p := range s.cfg.Peers {
		c.Peers[p.Zone] = p.URL
	}
	s.peers, err = peer.NewClient(c)
	return err
}

func (s *Server) openControl(ctx context.Context, key [32]byte) (err error) {
	images, err := s.openImages(ctx)
	if err != nil {
		return err
	}
	c := control.Config{
		Catalog: s.catalog, Backends: s.stores, Zone: s.cfg.Zone, Region: s.cfg.Region, ZoneIndex: s.cfg.Index,
		DefaultType: s.cfg.DefaultVolumeType, AvailabilityZones: s.cfg.AvailabilityZones, Images: images,
		TakeSigned:    s.cfg.Glance.SignedImages == "accept",
		Placing:       s.cfg.placing(),
		ExportAddress: s.exportAddress, UnixSocket: func() string { return s.cfg.Exports.NBDSocket },
		ISCSIAddress: s.targetAddress, ISCSIDiscovery: s.cfg.Exports.Discovery.credentials(),
		Policy: s.policy, ExportTLS: s.cfg.Exports.TLS != nil,
		VolumeQoS: s.cfg.Exports.VolumeQoS, Key: key, Protections: s.cfg.protections,
		TempDir: s.scratch(), OnChange: s.kick, OnRemove: s.leave, Now: s.env.Now, Log: s.log,
		DR: control.DR{URL: s.URL(), KeepUndo: s.cfg.KeepUndo, SecondConsent: s.cfg.DR.SecondConsent,
			Relays: s.cfg.relays(), Parallel: s.cfg.DR.Parallel, Hooks: s.cfg.DR.hooks(), RivalTimeout: s.cfg.DR.RivalTimeout,
			AcceptSilent: s.cfg.KvolAPI.SilentRivals == "accept", KeepAudit: s.cfg.DR.Audit.Keep,
			DoctorEvery: s.cfg.DR.Doctor, ConsentFor: s.cfg.DR.ConsentFor,
			KeepAudits: s.cfg.DR.Audit.Records, AuditFile: auditFiles(filepath.Join(s.cfg.SharedDir, "audit")),
			Probes:     s.cfg.DR.probes(),
			KeepDrills: s.cfg.DR.KeepDrills, DrillScratch: s.cfg.DR.DrillScratchGiB << 30},
	}
	s.share(&c)
	if s.peers != nil {
		c.DR.Peers, c.DR.Replicating, c.DR.Repace = s.peers, s.replicating, s.repace
		s.prover = s.newProver()
		c.DR.Prover = s.prover
	}
	var turn fenced.Turn
	if s.turn != nil { // a nil *duty.Turn is not a nil Turn
		turn = s.turn
	}
	if c.Backups, err = s.cfg.Backup.open(s.cfg.Zone, turn, s.env.Now); err != nil {
		return err
	}
	if n := s.cfg.Nova; n.URL != "" {
		c.VolumeEvent = compute.New(n.client()).VolumeEvent
	}
	if s.control, err = control.New(c); err != nil {
		return err
	}
	s.healer.Store(s.control)
	s.placer, err = s.newPlacer()
	return err
}

// openMovers makes what works in the background: jobs, exports, replication.
func (s *Server) openMovers() error {
	if s.follows() {
		s.ready.Store(true)
		return nil
	}
	s.jobs = job.New(job.Config{Catalog: s.catalog, Handlers: s.control.Handlers(), Log: s.log, Owner: s.owner(),
		Now: s.env.Now, Observe: s.observeJobs()})
	tls, err := s.cfg.Exports.TLS.server()
	if err != nil {
		return fmt.Errorf("exports: %w", err)
	}
	s.exports = nbd.New(
		nbd.Config{Exports: s.control.Exports(), TLS: tls, RequireTLS: s.cfg.Exports.RequireTLS, Log: s.log,
			Limits: s.cfg.Exports.Limits.nbd()},
	)
	if s.peers == nil {
		return nil
	}
	s.sender = replication.NewSender(replication.SenderConfig{Catalog: s.catalog, Backends: s.stores, Zone: s.cfg.Zone,
		Protections: s.control.KnownProtections, Dialer: s.peers, Fenced: s.control.Fence,
		SealKey: s.control.SealKey, Limits: s.control.LimitsTo, Relays: s.control.Relays,
		Reseal: s.control.Reseal, Observe: s.control.ObserveSource, Compare: s.compare, Now: s.env.Now,
		Log: s.log})
	s.receiver = replication.NewReceiver(replication.ReceiverConfig{Catalog: s.catalog, Backends: s.stores,
		Doubt: s.prover.Doubt,
		Box:   s.control.Sealer().Box(),
		Zone:  s.cfg.Zone, Protections: s.control.KnownProtections, Fenced: s.control.Fence,
		Observe: s.control.ObserveTarget, HoldClean: s.cfg.DR.HoldClean, Now: s.env.Now, Log: s.log})
	return nil
}

// replicating tells how the zone's links stand right now.
func (s *Server) replicating() []replication.LinkStatus {
	if s.sender == nil {
		return nil
	}
	return s.sender.Status()
}

// repace tells the sender that limits changed.
func (s *Server) repace() {
	if s.sender != nil {
		s.sender.Repace()
	}
}

// kick tells replication that a volume changed in a way that should not wait
// for the interval.
func (s *Server) kick(v block.VolumeID) {
	if s.sender != nil {
		s.sender.Kick(v)
	}
}

// leave has replication let go of a volume that is being removed.
func (s *Server) leave(v block.VolumeID) {
	if s.sender != nil {
		s.sender.Leave(v)
	}
}

// relearn is how long after the first question peers that did not answer are
// asked again; the pauses double up to relearnMax.
const (
	relearn    = 50 * time.Millisecond
	relearnMax = 2 * time.Second
)

// holdExports keeps exports of protected volumes closed until every zone that
// could have recovered them was asked; see Config.IsolatedStart.
func (s *Server) holdExports() {
	if s.peers == nil || s.cfg.IsolatedStart == "serve" {
		return
	}
	s.control.HoldExports(s.held(nil))
}

// held says of a volume whether its export must wait, given who answered.
func (s *Server) held(answered []block.Zone) func(block.Volume) bool {
	asked := map[block.Zone]bool{}
	for _, z := range answered {
		asked[z] = true
	}
	any := s.cfg.IsolatedStart == "any"
	return func(v block.Volume) bool {
		if !v.CreatedAt.Before(s.started) {
			return false // nobody could recover it while this zone was down
		}
		zones := s.protected(v.TypeID)
		silent := 0
		for _, z := range zones {
			if !asked[z] {
				silent++
			}
		}
		return silent > 0 && (!any || silent == len(zones))
	}
}

// learn asks the peers which of this zone's volumes live elsewhere by now,
// until all of them answered, and lets exports open as far as is safe.
func (s *Server) learn(ctx context.Context) error {
	if s.peers == nil {
		s.ready.Store(true)
		return nil
	}
	for pause := relearn; ; pause = min(2*pause, relearnMax) {
		answered, err := s.control.LearnFences(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.log.Error("what peers recovered could not be learnt", "err", err)
		}
		if s.cfg.IsolatedStart != "serve" {
			s.control.HoldExports(s.held(answered))
		}
		s.ready.Store(true)
		if len(answered) == len(s.cfg.Peers) {
			s.control.ReleaseExports()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}
