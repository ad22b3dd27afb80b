package keystone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"kvol/internal/block"
)

// renewBefore is how long before its end kvol's own token is replaced: a service
// that gets it may look at it a while later. One that lasts for minutes only is
// used for three quarters of its time.
const renewBefore = 2 * time.Minute

// session is the login of kvol's service user. Its methods may be called at once.
type session struct {
	s    *Service
	busy chan struct{} // held by who logs in

	mu      sync.Mutex // guards the rest
	current string
	renewAt time.Time
	catalog []catalogService
}

type catalogService struct {
	Type      string            `json:"type"`
	Endpoints []catalogEndpoint `json:"endpoints"`
}

type catalogEndpoint struct {
	Interface string `json:"interface"`
	Region    string `json:"region"`
	RegionID  string `json:"region_id"`
	URL       string `json:"url"`
}

// ServiceToken returns a token of kvol's own service user, that lasts for a while
// yet. stale, if not empty, is one that a service did not take: another one is
// returned. Unavailable where Keystone gives none.
func (s *Service) ServiceToken(ctx context.Context, stale string) (string, error) {
	return s.own.token(ctx, stale)
}

// Endpoint is the address of a service in the catalog of kvol's service user, by
// the first of some types that the catalog has. Unavailable where it has none.
func (s *Service) Endpoint(ctx context.Context, region, side string, types ...string) (string, error) {
	if _, err := s.own.token(ctx, ""); err != nil {
		return "", err
	}
	s.own.mu.Lock()
	defer s.own.mu.Unlock()
	for _, want := range types {
		for _, service := range s.own.catalog {
			for _, e := range service.Endpoints {
				if service.Type == want && e.Interface == side && (region == "" || e.RegionID == region || e.Region == region) {
					return strings.TrimRight(e.URL, "/"), nil
				}
			}
		}
	}
	return "", block.Errorf(block.Unavailable, "The service catalog has no %s endpoint of the %s service.", side, types[0])
}

func (a *session) token(ctx context.Context, stale string) (string, error) {
	if t, ok := a.good(stale); ok {
		return t, nil
	}
	select {
	case a.busy <- struct{}{}:
		defer func() { <-a.busy }()
	case <-ctx.Done():
		return "", unavailable(ctx.Err())
	}
	if t, ok := a.good(stale); ok { // by who was here before
		return t, nil
	}
	return a.login(ctx)
}

func (a *session) good(stale string) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current, a.current != "" && a.current != stale && a.s.c.Now().Before(a.renewAt)
}

type dict = map[string]any

// login gets a token by a password or an application credential, which has a scope
// of its own.
func (a *session) login(ctx context.Context) (string, error) {
	c := a.s.c
	auth := dict{"identity": dict{"methods": []string{"application_credential"},
		"application_credential": dict{"id": c.Credential.ID, "secret": c.Credential.Secret}}}
	if c.Credential.ID == "" {
		user := dict{"name": c.User, "password": c.Password, "domain": dict{"name": c.UserDomain}}
		auth = dict{
			"identity": dict{"methods": []string{"password"}, "password": dict{"user": user}},
			"scope":    dict{"project": dict{"name": c.Project, "domain": dict{"name": c.ProjectDomain}}}}
	}
	answer, header, status, err := a.s.send(ctx, http.MethodPost, "/auth/tokens", http.Header{}, dict{"auth": auth})
	if err != nil {
		return "", err
	}
	if status != http.StatusCreated {
		return "", unavailable(fmt.Errorf("kvol's service user can't log in: Keystone answered with status %d", status))
	}
	var body tokenBody
	if err := json.Unmarshal(answer, &body); err != nil {
		return "", unavailable(err)
	}
	token := header.Get("X-Subject-Token")
	if token == "" || strings.ContainsFunc(token, notOfToken) || body.Token.ExpiresAt.IsZero() {
		return "", unavailable(errors.New("kvol's service user got no token"))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current, a.catalog = token, body.Token.Catalog
	now, ends := a.s.c.Now(), body.Token.ExpiresAt
	if a.renewAt = ends.Add(-renewBefore); ends.Sub(now) < 4*renewBefore {
		a.renewAt = now.Add(ends.Sub(now) * 3 / 4)
	}
	return token, nil
}
