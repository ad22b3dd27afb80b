package identity

import (
	"net/http"
	"net/url"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// userBody is the body of requests that make or change a user.
type userBody struct {
	User *struct {
		Name             *string `json:"name"`
		Description      *string `json:"description"`
		Enabled          *bool   `json:"enabled"`
		Password         *string `json:"password"`
		OriginalPassword *string `json:"original_password"`
		DomainID         *string `json:"domain_id"`
	} `json:"user"`
}

type userView struct {
	ID                string            `json:"id"`
	Name              string            `json:"name"`
	DomainID          string            `json:"domain_id"`
	Description       string            `json:"description,omitempty"`
	Enabled           bool              `json:"enabled"`
	PasswordExpiresAt *string           `json:"password_expires_at"`
	Options           struct{}          `json:"options"`
	Links             map[string]string `json:"links"`
}

func (s *Service) userView(r *http.Request, u User) userView {
	return userView{ID: string(u.ID), Name: u.Name, DomainID: domainID, Description: u.Description,
		Enabled: !u.Disabled, Links: s.self(r, "/users/"+string(u.ID))}
}

// self is a thing's links.
func (s *Service) self(r *http.Request, path string) map[string]string {
	return map[string]string{"self": s.base(r) + "/v3" + path}
}

// writeList answers a list in Keystone's envelope; it is never cut into pages.
func (s *Service) writeList(w http.ResponseWriter, r *http.Request, key string, items any) {
	self := s.public(r) + r.URL.Path
	if r.URL.RawQuery != "" {
		self += "?" + r.URL.RawQuery
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{key: items,
		"links": map[string]any{"next": nil, "self": self, "previous": nil}})
}

// wanted reports whether a thing passes a list's filters.
func wanted(q url.Values, name string, enabled bool) bool {
	if q.Has("name") && q.Get("name") != name {
		return false
	}
	if q.Has("domain_id") && q.Get("domain_id") != domainID {
		return false
	}
	switch q.Get("enabled") {
	case "true", "True", "1":
		return enabled
	case "false", "False", "0":
		return !enabled
	}
	return true
}

// self reports whether the path's user is the one who asks.
func self(r *http.Request, a session) bool { return r.PathValue("user") == string(a.user.ID) }

func (s *Service) userRoutes(rt *api.Router) {
	s.handle(rt, http.MethodGet, "/v3/users", s.admin("identity:list_users", s.listUsers))
	s.handle(rt, http.MethodPost, "/v3/users", s.admin("identity:create_user", s.createUser))
	s.handle(rt, http.MethodGet, "/v3/users/{user}", s.admin("identity:get_user", s.showUser, self))
	s.handle(rt, http.MethodPatch, "/v3/users/{user}", s.admin("identity:update_user", s.updateUser))
	s.handle(rt, http.MethodDelete, "/v3/users/{user}", s.admin("identity:delete_user", s.deleteUser))
	s.handle(rt, http.MethodPost, "/v3/users/{user}/password", s.changePassword)
	s.handle(rt, http.MethodGet, "/v3/users/{user}/projects",
		s.admin("identity:list_user_projects", s.userProjects, self))
}

func (s *Service) listUsers(w http.ResponseWriter, r *http.Request, _ session) error {
	users, err := s.ListUsers(r.Context())
	if err != nil {
		return err
	}
	views := []userView{}
	for _, u := range users {
		if wanted(r.URL.Query(), u.Name, !u.Disabled) {
			views = append(views, s.userView(r, u))
		}
	}
	s.writeList(w, r, "users", views)
	return nil
}

func (s *Service) createUser(w http.ResponseWriter, r *http.Request, _ session) error {
	var body userBody
	if err := decode(r, &body); err != nil {
		return err
	}
	if body.User == nil || body.User.Name == nil {
		return block.Errorf(block.Invalid, "'name' is a required property")
	}
	if d := body.User.DomainID; d != nil && *d != domainID {
		return block.Errorf(block.NotFound, "Could not find domain: %s.", *d)
	}
	u := User{Name: *body.User.Name}
	set(&u.Description, body.User.Description)
	set(&u.Password, body.User.Password)
	u.Disabled = body.User.Enabled != nil && !*body.User.Enabled
	u, err := s.CreateUser(r.Context(), u)
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusCreated, map[string]any{"user": s.userView(r, u)})
	return nil
}

func (s *Service) showUser(w http.ResponseWriter, r *http.Request, _ session) error {
	var row catalog.User
	err := s.catalog.View(r.Context(), func(tx *catalog.Tx) (err error) {
		row, err = tx.User(block.UserID(r.PathValue("user")))
		return err
	})
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"user": s.userView(r, userOf(row, nil))})
	return nil
}

func (s *Service) updateUser(w http.ResponseWriter, r *http.Request, _ session) error {
	var body userBody
	if err := decode(r, &body); err != nil {
		return err
	}
	if body.User == nil {
		return expecting("user", "request body")
	}
	u, err := s.UpdateUser(r.Context(), block.UserID(r.PathValue("user")), Change{Name: body.User.Name,
		Description: body.User.Description, Enabled: body.User.Enabled, Password: body.User.Password})
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"user": s.userView(r, u)})
	return nil
}

func (s *Service) deleteUser(w http.ResponseWriter, r *http.Request, _ session) error {
	id := block.UserID(r.PathValue("user"))
	if err := s.change(r.Context(), func(tx *catalog.Tx) error { return tx.DeleteUser(id) }); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// changePassword needs no token: whoever knows the old password may.
func (s *Service) changePassword(w http.ResponseWriter, r *http.Request) error {
	var body userBody
	if err := decode(r, &body); err != nil {
		return err
	}
	if body.User == nil || body.User.Password == nil || body.User.OriginalPassword == nil {
		return block.Errorf(block.Invalid, "'password' and 'original_password' are required properties")
	}
	id := r.PathValue("user")
	if _, err := s.checkPassword(r.Context(), id, true, *body.User.OriginalPassword, r.RemoteAddr); err != nil {
		return err
	}
	if _, err := s.UpdateUser(r.Context(), block.UserID(id), Change{Password: body.User.Password}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) userProjects(w http.ResponseWriter, r *http.Request, _ session) error {
	projects, err := s.projectsOf(r, block.UserID(r.PathValue("user")))
	if err != nil {
		return err
	}
	s.writeProjects(w, r, projects)
	return nil
}
