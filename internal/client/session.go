package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// Auth says who logs in, and where. Project is an id or a name.
type Auth struct {
	URL      string // of the identity service, with or without /v3
	User     string
	Password string
	Project  string
	Domain   string // "Default" if empty
	Region   string // the only region if empty
	HTTP     *http.Client
}

// Session is a logged-in user in a project. It may be used by many goroutines.
type Session struct {
	http      *http.Client
	Token     string
	Expires   time.Time
	ProjectID string // "" for a token of a domain or of the system
	UserID    string
	Roles     []string
	Catalog   []Service
	region    string

	// Tell, if not nil, hears in a sentence that a wait goes on without an answer. It
	// is set before the session is used.
	Tell func(text string)

	again   func(ctx context.Context) error // logs in anew
	renewed *atomic.Pointer[string]         // the token since then
}

// token is the one that is good now.
func (s *Session) token() string {
	if t := s.renewed.Load(); t != nil {
		return *t
	}
	return s.Token
}

// Service is an entry of the service catalog.
type Service struct {
	Type, Name string
	Endpoints  []Endpoint
}

// Endpoint is one URL of a Service.
type Endpoint struct {
	Interface, Region, URL string
}

type named struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// Login gets a token scoped to a project from POST /v3/auth/tokens.
func Login(ctx context.Context, a Auth) (*Session, error) {
	if a.User == "" || a.Project == "" {
		return nil, errIncomplete
	}
	domain := cmp.Or(a.Domain, "Default")
	scope := &gophercloud.AuthScope{ProjectName: a.Project, DomainName: domain}
	if isHexID(a.Project) {
		scope = &gophercloud.AuthScope{ProjectID: a.Project}
	}
	return LoginAs(ctx, gophercloud.AuthOptions{IdentityEndpoint: a.URL, Username: a.User, Password: a.Password,
		DomainName: domain, Scope: scope}, a.Region, a.HTTP)
}

// errIncomplete says what is needed at least.
var errIncomplete = errors.New(
	"an identity URL, a user and a project are needed (OS_AUTH_URL, OS_USERNAME, OS_PROJECT_NAME)")

// LoginAs gets a token for whatever Keystone takes: a password, an application credential
// or another token, and the scope of a project, a domain or the system. region is the only
// one if empty; h may be nil.
func LoginAs(ctx context.Context, o gophercloud.AuthOptions, region string, h *http.Client) (*Session, error) {
	if o.IdentityEndpoint == "" {
		return nil, errIncomplete
	}
	if h == nil {
		h = &http.Client{Timeout: time.Minute}
	}
	scope, err := o.ToTokenV3ScopeMap()
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	in, err := o.ToTokenV3CreateMap(scope)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	base := strings.TrimSuffix(strings.TrimSuffix(o.IdentityEndpoint, "/"), "/v3")
	x := exchange{http: h, method: http.MethodPost, url: base + "/v3/auth/tokens", in: in}
	s, err := x.login(ctx, region)
	if err != nil {
		return nil, err
	}
	s.again = func(ctx context.Context) error {
		anew, err := x.login(ctx, region)
		if err == nil {
			s.renewed.Store(&anew.Token)
		}
		return err
	}
	return s, nil
}

func (x exchange) login(ctx context.Context, region string) (*Session, error) {
	var answer struct {
		Token struct {
			Expires time.Time `json:"expires_at"`
			Project named     `json:"project"`
			User    named     `json:"user"`
			Roles   []named   `json:"roles"`
			Catalog []Service `json:"catalog"`
		} `json:"token"`
	}
	x.out = &answer
	header, _, err := x.do(ctx)
	if err != nil {
		return nil, fmt.Errorf("log in at %s: %w", x.url, err)
	}
	s := &Session{http: x.http, Token: header.Get("X-Subject-Token"), Expires: answer.Token.Expires, region: region,
		renewed:   &atomic.Pointer[string]{},
		ProjectID: answer.Token.Project.ID, UserID: answer.Token.User.ID, Catalog: answer.Token.Catalog}
	for _, r := range answer.Token.Roles {
		s.Roles = append(s.Roles, r.Name)
	}
	return s, nil
}

func isHexID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// URL returns the public endpoint of a service type in the session's region.
func (s *Session) URL(serviceType string) (string, error) {
	for _, service := range s.Catalog {
		for _, e := range service.Endpoints {
			if service.Type == serviceType && e.Interface == "public" && (s.region == "" || e.Region == s.region) {
				return strings.TrimSuffix(e.URL, "/"), nil
			}
		}
	}
	return "", fmt.Errorf("the service catalog has no %s endpoint in region %q", serviceType, s.region)
}

// call sends one request to a service's endpoint.
func (s *Session) call(ctx context.Context, method, serviceType, path string, in, out any) error {
	base, err := s.URL(serviceType)
	if err != nil {
		return err
	}
	x := exchange{http: s.http, method: method, url: base + path, in: in, out: out,
		header: http.Header{"X-Auth-Token": {s.token()}}}
	_, _, err = x.do(ctx)
	return err
}

// Revoke gives the token up.
func (s *Session) Revoke(ctx context.Context) error {
	base, err := s.URL("identity")
	if err != nil {
		return err
	}
	base = strings.TrimSuffix(base, "/v3")
	_, _, err = exchange{http: s.http, method: http.MethodDelete, url: base + "/v3/auth/tokens",
		header: http.Header{"X-Auth-Token": {s.token()}, "X-Subject-Token": {s.token()}}}.do(ctx)
	return err
}
