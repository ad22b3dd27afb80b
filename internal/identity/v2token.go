package identity

import (
	"encoding/json"
	"net/http"

	"kvol/internal/api"
	"kvol/internal/block"
)

// How v2.0 writes the two times of a token, as the guide shows them.
const (
	v2Issued  = "2006-01-02T15:04:05.000000"
	v2Expires = "2006-01-02T15:04:05Z"
)

// v2Auth is the body of POST /v2.0/tokens.
type v2Auth struct {
	Auth *struct {
		TenantID            string `json:"tenantId"`
		TenantName          string `json:"tenantName"`
		PasswordCredentials *struct {
			Username string `json:"username"`
			UserID   string `json:"userId"`
			Password string `json:"password"`
		} `json:"passwordCredentials"`
		Token *struct {
			ID string `json:"id"`
		} `json:"token"`
	} `json:"auth"`
}

// parseV2Auth reads the body of POST /v2.0/tokens; Invalid where it is
// malformed.
func parseV2Auth(body []byte) (loginRequest, error) {
	var req v2Auth
	if err := decodeBytes(body, &req); err != nil {
		return loginRequest{}, err
	}
	if req.Auth == nil {
		return loginRequest{}, expecting("auth", "request body")
	}
	login := loginRequest{scope: scope{projectID: block.ProjectID(req.Auth.TenantID)}}
	if login.scope.projectID == "" {
		login.scope.projectName = req.Auth.TenantName
	}
	if t := req.Auth.Token; t != nil {
		if t.ID == "" {
			return loginRequest{}, expecting("id", "token")
		}
		login.method, login.token = "token", t.ID
		return login, nil
	}
	c := req.Auth.PasswordCredentials
	if c == nil {
		return loginRequest{}, expecting("passwordCredentials or token", "auth")
	}
	if c.Password == "" {
		return loginRequest{}, expecting("password", "passwordCredentials")
	}
	login.method, login.password = "password", c.Password
	login.user, login.byID = c.Username, false
	if c.Username == "" {
		login.user, login.byID = c.UserID, true
	}
	if login.user == "" {
		return loginRequest{}, expecting("username or userId", "passwordCredentials")
	}
	return login, nil
}

// v2Tenant has two keys that only the guide's own service has: groupId, which
// has no meaning here, and project_domain, which is always the same.
type v2Tenant struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	GroupID       string `json:"groupId"`
	Description   string `json:"description"`
	Enabled       bool   `json:"enabled"`
	ProjectDomain string `json:"project_domain"`
}

type v2Token struct {
	ID       string    `json:"id"`
	Expires  string    `json:"expires"`
	Tenant   *v2Tenant `json:"tenant,omitempty"`
	IssuedAt string    `json:"issued_at"`
}

type v2Role struct {
	Name string `json:"name"`
}

type v2User struct {
	ID         string   `json:"id"`
	Username   string   `json:"username"`
	Name       string   `json:"name"`
	Roles      []v2Role `json:"roles"`
	RolesLinks []string `json:"roles_links"`
}

type v2Metadata struct {
	Roles   []string `json:"roles"`
	IsAdmin int      `json:"is_admin"`
}

type v2Access struct {
	Token          v2Token     `json:"token"`
	ServiceCatalog []v2Service `json:"serviceCatalog"`
	User           v2User      `json:"user"`
	Metadata       v2Metadata  `json:"metadata"`
}

func (s *Service) v2View(r *http.Request, token string, a session) map[string]any {
	v := v2Access{
		Token: v2Token{ID: token, IssuedAt: a.token.IssuedAt.Format(v2Issued),
			Expires: a.token.ExpiresAt.Format(v2Expires)},
		ServiceCatalog: s.v2Catalog(r, a.project.ID),
		User: v2User{ID: string(a.user.ID), Username: a.user.Name, Name: a.user.Name,
			Roles: []v2Role{}, RolesLinks: []string{}},
		Metadata: v2Metadata{Roles: []string{}},
	}
	if a.scoped() {
		t := v2TenantOf(projectOf(a.project))
		v.Token.Tenant = &t
	}
	for _, role := range a.roles {
		v.User.Roles = append(v.User.Roles, v2Role{role.Name})
		v.Metadata.Roles = append(v.Metadata.Roles, role.ID)
	}
	if a.has("admin") {
		v.Metadata.IsAdmin = 1
	}
	return map[string]any{"access": v}
}

func v2TenantOf(p Project) v2Tenant {
	return v2Tenant{ID: string(p.ID), Name: p.Name, GroupID: "", Description: p.Description,
		Enabled: !p.Disabled, ProjectDomain: "NORMAL"}
}

func (s *Service) v2Login(w http.ResponseWriter, r *http.Request) error {
	var body json.RawMessage
	if err := decode(r, &body); err != nil {
		return err
	}
	login, err := parseV2Auth(body)
	if err != nil {
		return err
	}
	token, a, err := s.signIn(r, login)
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, s.v2View(r, token, a))
	return nil
}

func (s *Service) v2Tenants(w http.ResponseWriter, r *http.Request, a session) error {
	projects, err := s.projectsOf(r, a.user.ID)
	if err != nil {
		return err
	}
	tenants := []v2Tenant{}
	for _, p := range projects {
		tenants = append(tenants, v2TenantOf(projectOf(p)))
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"tenants": tenants, "tenants_links": []string{}})
	return nil
}
