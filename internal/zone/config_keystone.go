package zone

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kvol/internal/glance"
	"kvol/internal/keystone"
)

// KeystoneConfig is the Keystone that says who asks, in the place of the embedded
// identity service, and kvol's own service user in it. Without an auth_url there is
// none.
type KeystoneConfig struct {
	AuthURL           string `yaml:"auth_url"`             // of its v3
	WWWAuthenticate   string `yaml:"www_authenticate_uri"` // where callers without a token are sent; auth_url if empty
	User              string `yaml:"user"`
	Password          string `yaml:"password"`
	Project           string `yaml:"project"`        // a name; service if empty
	UserDomain        string `yaml:"user_domain"`    // a name; Default if empty
	ProjectDomain     string `yaml:"project_domain"` // a name; Default if empty
	ApplicationID     string `yaml:"application_credential_id"`
	ApplicationSecret string `yaml:"application_credential_secret"`
	CA                string `yaml:"ca"` // a file of PEM; the system's authorities if empty

	CacheTime time.Duration `yaml:"cache_time"` // 5m if absent; below 0: tokens are not remembered
	CacheSize int           `yaml:"cache_size"` // tokens; 10000 if absent
	Timeout   time.Duration `yaml:"timeout"`    // of one question; 10s if absent

	ServiceTokenRoles []string `yaml:"service_token_roles"` // service if absent
	// ServiceTokenRolesRequired refuses service tokens without such a role; true if
	// absent.
	ServiceTokenRolesRequired *bool `yaml:"service_token_roles_required"`
}

// GlanceConfig is the Glance that keeps images, in the place of the embedded image
// service. Without a url and an interface there is none. It needs a Keystone.
type GlanceConfig struct {
	URL string `yaml:"url"` // without /v2
	// Interface is that of the catalog's endpoint where there is no url: internal,
	// public or admin.
	Interface string        `yaml:"interface"`
	CA        string        `yaml:"ca"`    // a file of PEM; the system's authorities if empty
	Stall     time.Duration `yaml:"stall"` // how long no byte may move; 1m if absent
	// SignedImages says what becomes of images with a signature, which is not
	// verified: refuse (if absent) or accept.
	SignedImages string `yaml:"signed_images"`
}

func (g GlanceConfig) used() bool { return g.URL != "" || g.Interface != "" }

// checkIdentity refuses what could not say who asks.
func (c *Config) checkIdentity() error {
	k, g := c.Keystone, c.Glance
	switch {
	case k.AuthURL == "" && g.used():
		return errors.New("glance: a keystone is needed where there is a glance")
	case k.AuthURL == "":
		return nil
	case k.ApplicationID == "" && (k.User == "" || k.Password == ""):
		return errors.New("keystone: user and password, or an application credential, are needed")
	case k.ApplicationID != "" && k.ApplicationSecret == "":
		return errors.New("keystone: application_credential_secret is missing")
	case k.CacheSize < 0 || k.Timeout < 0 || g.Stall < 0:
		return errors.New("keystone, glance: cache_size, timeout and stall can't be negative")
	case len(c.Identity.Projects) > 0 || len(c.Identity.Users) > 0:
		return errors.New("identity: where there is a keystone, projects and users are there")
	case g.SignedImages != "" && g.SignedImages != "refuse" && g.SignedImages != "accept":
		return fmt.Errorf("glance.signed_images: %q is neither refuse nor accept", g.SignedImages)
	case g.Interface != "" && g.Interface != "internal" && g.Interface != "public" && g.Interface != "admin":
		return fmt.Errorf("glance.interface: %q is none of internal, public and admin", g.Interface)
	}
	return nil
}

// authorities reads a file of PEM; nil for none.
func authorities(what, path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s.ca: %w", what, err)
	}
	return text, nil
}

// openKeystone makes who answers for tokens where that is a Keystone.
func (s *Server) openKeystone() error {
	k := s.cfg.Keystone
	ca, err := authorities("keystone", k.CA)
	if err != nil {
		return err
	}
	seen := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kvol_keystone_tokens_total",
		Help: "Tokens that were shown, by what Keystone or the cache said of them."}, []string{"outcome"})
	s.identityMetrics = []prometheus.Collector{seen}
	s.registry.MustRegister(s.identityMetrics...)
	s.keystone, err = keystone.New(keystone.Config{AuthURL: k.AuthURL, PublicURL: k.WWWAuthenticate, User: k.User,
		Password: k.Password, UserDomain: k.UserDomain, Project: k.Project, ProjectDomain: k.ProjectDomain,
		Credential: keystone.Credential{ID: k.ApplicationID, Secret: k.ApplicationSecret}, CA: ca,
		CacheTime: k.CacheTime, CacheSize: k.CacheSize, Timeout: k.Timeout, ServiceRoles: k.ServiceTokenRoles,
		AnyService: k.ServiceTokenRolesRequired != nil && !*k.ServiceTokenRolesRequired,
		Now:        s.env.Now, Log: s.log, Observe: func(outcome string) { seen.WithLabelValues(outcome).Inc() }})
	if err != nil {
		return fmt.Errorf("keystone.ca: %s: %w", k.CA, err)
	}
	s.auth, s.unauthorized, s.authURL = s.keystone, s.keystone.Unauthorized(), s.keystone.PublicURL()
	return nil
}

// openGlance makes the client of the image service where that is a Glance.
func (s *Server) openGlance() (*glance.Service, error) {
	g := s.cfg.Glance
	ca, err := authorities("glance", cmp.Or(g.CA, s.cfg.Keystone.CA))
	if err != nil {
		return nil, err
	}
	service, err := glance.New(glance.Config{URL: g.URL, Region: s.cfg.Region, Interface: g.Interface,
		Keystone: s.keystone, CA: ca, Stall: g.Stall})
	if err != nil {
		return nil, fmt.Errorf("glance.ca: %w", err)
	}
	return service, nil
}
