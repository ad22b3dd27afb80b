package api

import (
	"context"
	"net"

	"kvol/internal/block"
)

// Authenticator tells who a token belongs to. An unknown, expired or revoked
// token is block.Unauthorized; an identity service that does not answer is
// block.Unavailable. It may be called by many at once.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (block.Caller, error)
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
