package keystone

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"kvol/internal/api"
	"kvol/internal/block"
)

// Config says where Keystone is and as whom kvol asks it. The user needs a role
// that may validate tokens: "service", or "admin" with Keystones before Zed.
type Config struct {
	AuthURL string // of its v3, such as http://keystone:5000/v3
	// PublicURL is where callers without a token are sent (www_authenticate_uri);
	// AuthURL if empty.
	PublicURL string

	User          string
	Password      string
	UserDomain    string // a name; "Default" if empty
	Project       string // a name; "service" if empty
	ProjectDomain string // a name; "Default" if empty
	// Credential, if it has an ID, is an application credential to be used in the
	// place of user and password.
	Credential Credential

	CA []byte // PEM of the authorities whose certificates are trusted; nil: the system's

	CacheTime time.Duration // how long a token is believed without asking again; 5m if 0; negative: not at all
	CacheSize int           // tokens remembered at most; 10,000 if 0
	Timeout   time.Duration // of one question; 10s if 0

	// ServiceRoles are the roles by which a service token counts as one
	// (service_token_roles); "service" if empty. AnyService lets service tokens
	// pass that have none of them, as keystonemiddleware does where
	// service_token_roles_required is false; they let no expired token pass.
	ServiceRoles []string
	AnyService   bool

	Now     func() time.Time     // time.Now if nil
	Log     *slog.Logger         // discarded if nil
	Observe func(outcome string) // told of each token: "cached", "valid", "invalid" or "unavailable"; may be nil
}

// Credential is an application credential.
type Credential struct{ ID, Secret string }

const (
	defaultCacheTime = 5 * time.Minute // keystonemiddleware, token_cache_time
	defaultCacheSize = 10_000
	defaultTimeout   = 10 * time.Second
	// maxAsking is how many questions are under way at once, so that a flood of
	// unknown tokens is no flood for Keystone.
	maxAsking = 32
	// retryAfter is what a caller is told to wait while Keystone does not answer.
	retryAfter = 5 * time.Second
)

// serviceTypes are those by which the block storage API is known; access rules of
// application credentials name one of them.
var serviceTypes = []string{"block-storage", "block-store", "volumev3", "volumev2", "volume"}

// Service validates tokens. Its methods may be called at once.
type Service struct {
	c      Config
	http   *http.Client
	own    *session
	cache  *tokenCache
	asking chan struct{}      // a place for each question under way
	flight singleflight.Group // one question for one token
	down   atomic.Bool        // the last question was not answered
}

var _ api.RequestAuthenticator = (*Service)(nil)

// New makes a service. It asks nothing yet. A CA that is no PEM is Invalid.
func New(c Config) (*Service, error) {
	c.AuthURL = strings.TrimRight(c.AuthURL, "/")
	c.PublicURL = strings.TrimRight(cmp.Or(c.PublicURL, c.AuthURL), "/")
	c.UserDomain, c.ProjectDomain = cmp.Or(c.UserDomain, "Default"), cmp.Or(c.ProjectDomain, "Default")
	c.Project = cmp.Or(c.Project, "service")
	c.CacheTime = cmp.Or(c.CacheTime, defaultCacheTime)
	c.CacheSize = cmp.Or(c.CacheSize, defaultCacheSize)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	if len(c.ServiceRoles) == 0 {
		c.ServiceRoles = []string{"service"}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observe == nil {
		c.Observe = func(string) {}
	}
	transport, err := Transport(c.CA)
	if err != nil {
		return nil, err
	}
	s := &Service{c: c, http: &http.Client{Timeout: c.Timeout, Transport: transport, CheckRedirect: stay},
		cache: newTokenCache(c.CacheSize), asking: make(chan struct{}, maxAsking)}
	s.own = &session{s: s, busy: make(chan struct{}, 1)}
	return s, nil
}

// Transport is how OpenStack's services are reached: by the authorities of ca, PEM,
// or by the system's if that is nil. A CA that is no PEM is Invalid.
func Transport(ca []byte) (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = maxAsking
	if ca != nil {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(ca) {
			return nil, block.Errorf(block.Invalid, "The CA has no certificate in PEM form.")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return transport, nil
}

// stay follows no answer to another place, which would get tokens.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// PublicURL is where callers without a token are sent.
func (s *Service) PublicURL() string { return s.c.PublicURL }

// Unauthorized answers a request without a good token as keystonemiddleware does.
func (s *Service) Unauthorized() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Keystone uri="`+s.c.PublicURL+`"`)
		message, _ := block.UserMessage(errUnauthorized)
		api.WriteJSON(w, http.StatusUnauthorized, map[string]any{"error": map[string]any{
			"code": http.StatusUnauthorized, "title": "Unauthorized", "message": message}})
	})
}

var errUnauthorized = block.Errorf(block.Unauthorized, "The request you have made requires authentication.")

// downError is the cause of Unavailable while Keystone does not answer as it
// should.
type downError struct{ cause error }

func (e *downError) Error() string { return e.cause.Error() }

func (e *downError) Unwrap() error { return e.cause }

// RetryAfter is for the header of that name.
func (e *downError) RetryAfter() time.Duration { return retryAfter }

// unavailable is the error of a question that was not answered, in the words of
// keystonemiddleware.
func unavailable(cause error) error {
	return block.Wrap(block.Unavailable, &downError{cause}, "The Keystone service is temporarily unavailable.")
}

// noteDown says once that Keystone does not answer, and once that it does again.
// Each caller is told as well, but none of them is the operator.
func (s *Service) noteDown(err error) {
	switch is := block.Is(err, block.Unavailable); {
	case is && !s.down.Swap(true):
		s.c.Log.Error("Keystone does not validate tokens; those that are cached are served for their time",
			"url", s.c.AuthURL, "err", err)
	case !is && s.down.Swap(false):
		s.c.Log.Info("Keystone validates tokens again", "url", s.c.AuthURL)
	}
}

func (s *Service) isService(roles []string) bool {
	return slices.ContainsFunc(s.c.ServiceRoles, func(r string) bool { return slices.Contains(roles, r) })
}
