package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"kvol/internal/block"
)

// Authenticator tells who a token belongs to. An unknown, expired or revoked
// token is block.Unauthorized; an identity service that does not answer is
// block.Unavailable. It may be called by many at once.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (block.Caller, error)
}

// RequestAuthenticator is an Authenticator that looks at more of a request than
// its token, as a Keystone has it: at the token of the service that passes it on,
// and at what the token may be used for. The caller of a token that is of no
// project has none either.
type RequestAuthenticator interface {
	Authenticator
	AuthenticateRequest(r *http.Request, token string) (block.Caller, error)
}

// Authenticate asks who a request's token belongs to, and which service the one
// in X-Service-Token, if there is one. A service's token must be as good as a
// user's (keystonemiddleware/auth_token). To a token of a system, of a domain or
// of no scope it answers block.ErrNoProject.
func Authenticate(a Authenticator, r *http.Request, token string) (block.Caller, error) {
	c, err := AuthenticateAnyScope(a, r, token)
	if err == nil && c.Project == "" {
		return block.Caller{}, block.ErrNoProject
	}
	return c, err
}

// AuthenticateAnyScope is Authenticate for a front end that looks itself at what a
// caller of no project may do.
func AuthenticateAnyScope(a Authenticator, r *http.Request, token string) (block.Caller, error) {
	if whole, ok := a.(RequestAuthenticator); ok {
		return whole.AuthenticateRequest(r, token)
	}
	c, err := a.Authenticate(r.Context(), token)
	if err != nil {
		return block.Caller{}, err
	}
	if shown := r.Header.Get("X-Service-Token"); shown != "" {
		service, err := a.Authenticate(r.Context(), shown)
		if err != nil {
			return block.Caller{}, err
		}
		c.ServiceRoles = service.Roles
	}
	return c, nil
}

// Admitting is an Authenticator for a front end that knows no rules of the zone: each
// caller is as admit makes it, once it is known who asks.
func Admitting(a Authenticator, admit func(block.Caller) block.Caller) RequestAuthenticator {
	return &admitting{a, admit}
}

type admitting struct {
	inner Authenticator
	admit func(block.Caller) block.Caller
}

// Authenticate implements Authenticator.
func (a *admitting) Authenticate(ctx context.Context, token string) (block.Caller, error) {
	return a.admitted(a.inner.Authenticate(ctx, token))
}

// AuthenticateRequest implements RequestAuthenticator.
func (a *admitting) AuthenticateRequest(r *http.Request, token string) (block.Caller, error) {
	return a.admitted(AuthenticateAnyScope(a.inner, r, token))
}

func (a *admitting) admitted(c block.Caller, err error) (block.Caller, error) {
	if err != nil {
		return block.Caller{}, err
	}
	return a.admit(c), nil
}

// SetRetryAfter writes the header Retry-After, in seconds, if an error knows how
// long its caller is to wait.
func SetRetryAfter(h http.Header, err error) {
	var knows interface{ RetryAfter() time.Duration }
	if errors.As(err, &knows) {
		h.Set("Retry-After", strconv.FormatInt(int64((knows.RetryAfter()+time.Second-1)/time.Second), 10))
	}
}

type (
	callerKey struct{}
	remoteKey struct{}
)

// WithRemote returns a context that says from where a request came, "host:port",
// for the audit log. WithCaller is called after it.
func WithRemote(ctx context.Context, remote string) context.Context {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		remote = host
	}
	return context.WithValue(ctx, remoteKey{}, remote)
}

// WithCaller returns a context that carries the caller, and notes it for the
// access log. The caller's RequestID is the request's if it has none.
func WithCaller(ctx context.Context, c block.Caller) context.Context {
	if c.RequestID == "" {
		c.RequestID = RequestID(ctx)
	}
	if rec, ok := ctx.Value(recordKey{}).(*record); ok {
		rec.project, rec.user = c.Project, c.User
	}
	who := block.Requester{User: c.User, Roles: c.Roles, Project: c.Project}
	if from, ok := ctx.Value(remoteKey{}).(string); ok {
		who.Remote = from
	}
	return context.WithValue(block.WithRequester(block.WithRequestID(ctx, c.RequestID), who), callerKey{}, c)
}

// CallerOf returns the caller that WithCaller put into ctx.
func CallerOf(ctx context.Context) (block.Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(block.Caller)
	return c, ok
}

// RequestID returns the id of the request that ctx belongs to, "req-<uuid>";
// "" outside of Wrap.
func RequestID(ctx context.Context) string {
	if rec, ok := ctx.Value(recordKey{}).(*record); ok {
		return rec.id
	}
	return ""
}
