package identity

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The only domain there is.
const (
	domainID   = "default"
	domainName = "Default"
)

// v3Time is how v3 writes times.
const v3Time = "2006-01-02T15:04:05.000000Z"

type nameAndID struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

var theDomain = nameAndID{domainID, domainName}

func (d *nameAndID) ours() bool { return d.ID == domainID || d.ID == "" && d.Name == domainName }

// v3Auth is the body of POST /v3/auth/tokens.
type v3Auth struct {
	Auth *struct {
		Identity *struct {
			Methods  []string `json:"methods"`
			Password *struct {
				User *struct {
					ID       string     `json:"id"`
					Name     string     `json:"name"`
					Domain   *nameAndID `json:"domain"`
					Password *string    `json:"password"`
				} `json:"user"`
			} `json:"password"`
			Token *struct {
				ID string `json:"id"`
			} `json:"token"`
		} `json:"identity"`
		Scope json.RawMessage `json:"scope"`
	} `json:"auth"`
}

// v3Scope is the object form of a scope; the other is the word "unscoped".
type v3Scope struct {
	Project *struct {
		ID     string     `json:"id"`
		Name   string     `json:"name"`
		Domain *nameAndID `json:"domain"`
	} `json:"project"`
	Domain   *nameAndID      `json:"domain"`
	System   json.RawMessage `json:"system"`
	Trust    json.RawMessage `json:"OS-TRUST:trust"`
	Unscoped json.RawMessage `json:"unscoped"`
}

// loginRequest is what a request for a token asks for.
type loginRequest struct {
	method   string // "password" or "token"
	user     string
	byID     bool
	password string
	token    string
	scope    scope
}

// parseV3Auth reads the body of POST /v3/auth/tokens. Invalid where it is
// malformed, Unauthorized where it asks for what nobody has.
func parseV3Auth(body []byte) (loginRequest, error) {
	var req v3Auth
	if err := decodeBytes(body, &req); err != nil {
		return loginRequest{}, err
	}
	if req.Auth == nil {
		return loginRequest{}, expecting("auth", "request body")
	}
	identity := req.Auth.Identity
	if identity == nil {
		return loginRequest{}, block.Errorf(block.Invalid, "'identity' is a required property")
	}
	if len(identity.Methods) == 0 {
		return loginRequest{}, block.Errorf(block.Invalid, "'methods' is a required property")
	}
	where, err := parseV3Scope(req.Auth.Scope)
	if err != nil {
		return loginRequest{}, err
	}
	login := loginRequest{method: identity.Methods[0], scope: where}
	switch {
	case len(identity.Methods) > 1 || login.method != "password" && login.method != "token":
		return loginRequest{}, block.Errorf(block.Unauthorized, "Attempted to authenticate with an unsupported method.")
	case login.method == "token":
		if identity.Token == nil || identity.Token.ID == "" {
			return loginRequest{}, expecting("token", "identity")
		}
		login.token = identity.Token.ID
		return login, nil
	}
	if identity.Password == nil || identity.Password.User == nil {
		return loginRequest{}, expecting("user", "password")
	}
	user := identity.Password.User
	if user.Password == nil {
		return loginRequest{}, expecting("password", "user")
	}
	login.password, login.user, login.byID = *user.Password, user.ID, user.ID != ""
	if login.byID {
		return login, nil
	}
	if user.Name == "" {
		return loginRequest{}, expecting("id or name", "user")
	}
	if user.Domain == nil {
		return loginRequest{}, expecting("domain", "user")
	}
	login.user = user.Name
	if !user.Domain.ours() {
		login.user, login.byID = "no such user "+user.Name, true
	}
	return login, nil
}

func parseV3Scope(text json.RawMessage) (scope, error) {
	var word string
	if len(text) == 0 || string(text) == "null" || json.Unmarshal(text, &word) == nil && word == "unscoped" {
		return scope{}, nil
	}
	var v v3Scope
	if err := decodeBytes(text, &v); err != nil {
		return scope{}, err
	}
	switch {
	case v.Domain != nil || v.System != nil || v.Trust != nil:
		return scope{}, errUnauthorized // nobody has a role there
	case v.Project == nil:
		if v.Unscoped == nil {
			return scope{}, expecting("project", "scope")
		}
		return scope{}, nil
	case v.Project.ID != "":
		return scope{projectID: block.ProjectID(v.Project.ID)}, nil
	case v.Project.Name == "":
		return scope{}, expecting("id or name", "project")
	case v.Project.Domain == nil:
		return scope{}, expecting("domain", "project")
	case !v.Project.Domain.ours():
		return scope{}, errUnauthorized
	}
	return scope{projectName: v.Project.Name}, nil
}

type v3User struct {
	Domain            nameAndID `json:"domain"`
	ID                string    `json:"id"`
	Name              string    `json:"name"`
	PasswordExpiresAt *string   `json:"password_expires_at"`
}

type v3Project struct {
	Domain nameAndID `json:"domain"`
	ID     string    `json:"id"`
	Name   string    `json:"name"`
}

// v3Token is the body of a token; the pointers and slices are absent from an
// unscoped one.
type v3Token struct {
	Methods   []string    `json:"methods"`
	User      v3User      `json:"user"`
	AuditIDs  []string    `json:"audit_ids"`
	ExpiresAt string      `json:"expires_at"`
	IssuedAt  string      `json:"issued_at"`
	Project   *v3Project  `json:"project,omitempty"`
	IsDomain  *bool       `json:"is_domain,omitempty"`
	Roles     []nameAndID `json:"roles,omitempty"`
	Catalog   []v3Service `json:"catalog,omitempty"`
}

func (s *Service) v3View(r *http.Request, a session) map[string]any {
	v := v3Token{
		Methods:   a.token.Methods,
		User:      v3User{Domain: theDomain, ID: string(a.user.ID), Name: a.user.Name},
		AuditIDs:  a.token.AuditIDs,
		ExpiresAt: a.token.ExpiresAt.Format(v3Time),
		IssuedAt:  a.token.IssuedAt.Truncate(time.Second).Format(v3Time),
	}
	if a.scoped() {
		no := false
		v.Project = &v3Project{Domain: theDomain, ID: string(a.project.ID), Name: a.project.Name}
		v.IsDomain = &no
		for _, role := range a.roles {
			v.Roles = append(v.Roles, nameAndID{role.ID, role.Name})
		}
		if !r.URL.Query().Has("nocatalog") {
			v.Catalog = s.v3Catalog(r, a.project.ID)
		}
	}
	return map[string]any{"token": v}
}

func (s *Service) tokenRoutes(rt *api.Router) {
	s.handle(rt, http.MethodPost, "/v3/auth/tokens", s.v3Login)
	s.handle(rt, http.MethodGet, "/v3/auth/tokens", s.authenticated(s.v3Validate))
	s.handle(rt, http.MethodDelete, "/v3/auth/tokens", s.authenticated(s.v3Revoke))
	s.handle(rt, http.MethodGet, "/v3/auth/catalog", s.authenticated(s.v3AuthCatalog))
	s.handle(rt, http.MethodGet, "/v3/auth/projects", s.authenticated(s.v3AuthProjects))
	s.handle(rt, http.MethodGet, "/v3/auth/domains", s.authenticated(
		func(w http.ResponseWriter, r *http.Request, _ session) error {
			s.writeList(w, r, "domains", []any{})
			return nil
		}))
	s.handle(rt, http.MethodPost, "/v2.0/tokens", s.v2Login)
	s.handle(rt, http.MethodGet, "/v2.0/tenants", s.authenticated(s.v2Tenants))
}

func (s *Service) v3Login(w http.ResponseWriter, r *http.Request) error {
	var body json.RawMessage
	if err := decode(r, &body); err != nil {
		return err
	}
	login, err := parseV3Auth(body)
	if err != nil {
		return err
	}
	token, a, err := s.signIn(r, login)
	if err != nil {
		return err
	}
	w.Header().Set("X-Subject-Token", token)
	api.WriteJSON(w, http.StatusCreated, s.v3View(r, a))
	return nil
}

// signIn does what a request for a token asks for.
func (s *Service) signIn(r *http.Request, q loginRequest) (token string, a session, err error) {
	if q.method == "token" {
		return s.rescope(r.Context(), q.token, q.scope)
	}
	return s.login(r.Context(), q.user, q.byID, q.password, r.RemoteAddr, q.scope)
}

// subject finds the session of X-Subject-Token. Whoever has a token may ask
// about it; of others' only administrators and services may (Keystone's
// identity:validate_token).
func (s *Service) subject(r *http.Request, a session, rule string) (session, string, error) {
	token := r.Header.Get("X-Subject-Token")
	if token == "" {
		return session{}, "", expecting("X-Subject-Token", "the request's headers")
	}
	if len(token) > maxTokenBytes {
		return session{}, "", block.Errorf(block.NotFound, "Failed to validate token")
	}
	b, err := s.session(r.Context(), token)
	if err != nil {
		return session{}, "", err
	}
	if b.user.ID != a.user.ID && !a.has("admin") && !a.has("service") {
		return session{}, "", block.Errorf(block.Forbidden,
			"You are not authorized to perform the requested action: %s.", rule)
	}
	return b, token, nil
}

func (s *Service) v3Validate(w http.ResponseWriter, r *http.Request, a session) error {
	b, token, err := s.subject(r, a, "identity:validate_token")
	if err != nil {
		return err
	}
	w.Header().Set("X-Subject-Token", token)
	api.WriteJSON(w, http.StatusOK, s.v3View(r, b))
	return nil
}

func (s *Service) v3Revoke(w http.ResponseWriter, r *http.Request, a session) error {
	_, token, err := s.subject(r, a, "identity:revoke_token")
	if err != nil {
		return err
	}
	if err := s.revoke(r.Context(), token); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) v3AuthCatalog(w http.ResponseWriter, r *http.Request, a session) error {
	if !a.scoped() {
		return block.Errorf(block.Forbidden, "A project-scoped token is required to produce a service catalog.")
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"catalog": s.v3Catalog(r, a.project.ID),
		"links": map[string]string{"self": s.base(r) + "/v3/auth/catalog"}})
	return nil
}

// projectsOf are the enabled projects in which a user has a role, by name.
func (s *Service) projectsOf(r *http.Request, user block.UserID) (projects []catalog.Project, err error) {
	err = s.catalog.View(r.Context(), func(tx *catalog.Tx) error {
		grants, err := tx.Grants(user, "")
		if err != nil {
			return err
		}
		all, err := tx.Projects()
		projects = slices.DeleteFunc(all, func(p catalog.Project) bool {
			return !p.Enabled || !slices.ContainsFunc(grants, func(g catalog.Grant) bool { return g.Project == p.ID })
		})
		return err
	})
	return projects, err
}

func (s *Service) v3AuthProjects(w http.ResponseWriter, r *http.Request, a session) error {
	projects, err := s.projectsOf(r, a.user.ID)
	if err != nil {
		return err
	}
	s.writeProjects(w, r, projects)
	return nil
}
