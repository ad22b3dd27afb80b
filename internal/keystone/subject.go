package keystone

import (
	"encoding/json"
	"slices"
	"time"

	"kvol/internal/block"
)

const (
	// maxAnswer bounds what is read of an answer, in bytes; tokens come without
	// their catalogs, kvol's own with it.
	maxAnswer = 4 << 20
	// maxRoles and maxRules bound what is remembered of a token.
	maxRoles = 1000
	maxRules = 1000
)

// subject is whom a token stands for.
type subject struct {
	caller  block.Caller // without the token; of no project where the token is of none
	expires time.Time
	// restricted tokens are of an application credential that only may what its
	// rules name.
	restricted bool
	rules      []accessRule
}

// tokenBody is the part of Keystone's token that is looked at.
type tokenBody struct {
	Token struct {
		ExpiresAt time.Time `json:"expires_at"`
		User      struct {
			ID     string `json:"id"`
			Name   string `json:"name"`
			Domain struct {
				ID string `json:"id"`
			} `json:"domain"`
		} `json:"user"`
		Project *struct {
			ID     string `json:"id"`
			Domain struct {
				ID string `json:"id"`
			} `json:"domain"`
		} `json:"project"`
		System struct {
			All bool `json:"all"`
		} `json:"system"`
		Domain struct {
			ID string `json:"id"`
		} `json:"domain"`
		Roles []struct {
			Name string `json:"name"`
		} `json:"roles"`
		Credential *struct {
			Rules *[]accessRule `json:"access_rules"`
		} `json:"application_credential"`
		Catalog []catalogService `json:"catalog"`
	} `json:"token"`
}

// decodeSubject reads Keystone's answer to the question whose a token is.
// Unavailable where it can't be read or is of nobody.
func decodeSubject(answer []byte) (subject, error) {
	var body tokenBody
	if err := json.Unmarshal(answer, &body); err != nil {
		return subject{}, unavailable(err)
	}
	t := body.Token
	if t.User.ID == "" || t.ExpiresAt.IsZero() || len(t.Roles) > maxRoles {
		return subject{}, unavailable(
			block.Errorf(block.Internal, "a token without a user or an end, or with too many roles"),
		)
	}
	who := subject{expires: t.ExpiresAt, caller: block.Caller{User: block.UserID(t.User.ID), UserName: t.User.Name,
		UserDomain: t.User.Domain.ID}}
	if t.Project != nil {
		who.caller.Project, who.caller.ProjectDomain = block.ProjectID(t.Project.ID), t.Project.Domain.ID
	} else {
		who.caller.System, who.caller.Domain = t.System.All, t.Domain.ID
	}
	for _, r := range t.Roles {
		if !slices.Contains(who.caller.Roles, r.Name) {
			who.caller.Roles = append(who.caller.Roles, r.Name)
		}
	}
	if t.Credential != nil && t.Credential.Rules != nil {
		who.restricted, who.rules = true, *t.Credential.Rules
		if len(who.rules) > maxRules {
			who.rules = who.rules[:maxRules] // what is left out is not allowed
		}
	}
	return who, nil
}

// as is the caller of a token, with the token itself. What it has is its own.
func (s subject) as(token string) block.Caller {
	c := s.caller
	c.Roles, c.Token = slices.Clone(c.Roles), block.Token(token)
	return c
}
