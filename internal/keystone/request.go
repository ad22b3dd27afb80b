package keystone

import (
	"context"
	"net/http"
	"slices"

	"kvol/internal/block"
)

// Authenticate returns the caller of a token. Unauthorized for one that is
// unknown, expired, revoked, or of an application credential with access rules;
// block.ErrNoProject for one of a system, a domain or nothing; Unavailable while
// Keystone does not answer. What was revoked may be believed for Config.CacheTime.
func (s *Service) Authenticate(ctx context.Context, token string) (block.Caller, error) {
	who, err := s.validate(ctx, token, false)
	if err != nil {
		return block.Caller{}, err
	}
	if who.restricted {
		return block.Caller{}, errUnauthorized
	}
	if who.caller.Project == "" {
		return block.Caller{}, block.ErrNoProject
	}
	return who.as(token), nil
}

// AuthenticateRequest is Authenticate of a request with its service token, by which
// a user's token passes that has expired meanwhile, and with the access rules of
// application credentials (keystonemiddleware/auth_token, process_request). A token
// of a system, a domain or nothing is of a caller without a project.
func (s *Service) AuthenticateRequest(r *http.Request, token string) (block.Caller, error) {
	var service *subject
	expired := false
	if shown := r.Header.Get("X-Service-Token"); shown != "" {
		who, err := s.validate(r.Context(), shown, false)
		if err != nil {
			return block.Caller{}, err
		}
		expired = s.isService(who.caller.Roles)
		if !expired && !s.c.AnyService {
			return block.Caller{}, errUnauthorized
		}
		service = &who
	}
	who, err := s.validate(r.Context(), token, expired)
	if err != nil {
		return block.Caller{}, err
	}
	// A service that asks on behalf of a user asks what no rule of the user names.
	if who.restricted && service == nil &&
		!slices.ContainsFunc(who.rules, func(a accessRule) bool { return a.allows(r) }) {
		return block.Caller{}, errUnauthorized
	}
	c := who.as(token)
	if service != nil {
		c.ServiceRoles = slices.Clone(service.caller.Roles)
	}
	return c, nil
}
