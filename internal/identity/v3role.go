package identity

import (
	"net/http"
	"slices"
	"strings"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

type roleView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	DomainID    *string           `json:"domain_id"`
	Description *string           `json:"description"`
	Options     map[string]bool   `json:"options"`
	Links       map[string]string `json:"links"`
}

// immutable are the roles that Keystone's bootstrap protects.
func immutable(role string) bool { return role != "service" && slices.Contains(builtinRoles, role) }

func (s *Service) roleView(r *http.Request, role catalog.Role) roleView {
	v := roleView{ID: role.ID, Name: role.Name, Options: map[string]bool{}, Links: s.self(r, "/roles/"+role.ID)}
	if immutable(role.Name) {
		v.Options["immutable"] = true
	}
	return v
}

func (s *Service) roleRoutes(rt *api.Router) {
	s.handle(rt, http.MethodGet, "/v3/roles", s.admin("identity:list_roles", s.listRoles))
	s.handle(rt, http.MethodPost, "/v3/roles", s.admin("identity:create_role", s.createRole))
	s.handle(rt, http.MethodGet, "/v3/roles/{role}", s.admin("identity:get_role", s.showRole))
	s.handle(rt, http.MethodDelete, "/v3/roles/{role}", s.admin("identity:delete_role", s.deleteRole))
	s.handle(rt, http.MethodGet, "/v3/role_assignments",
		s.admin("identity:list_role_assignments", s.roleAssignments))
	const grants = "/v3/projects/{project}/users/{user}/roles"
	s.handle(rt, http.MethodGet, grants, s.admin("identity:list_grants", s.listGrants))
	s.handle(rt, http.MethodGet, grants+"/{role}", s.admin("identity:check_grant", s.checkGrant))
	s.handle(rt, http.MethodPut, grants+"/{role}", s.admin("identity:create_grant", s.createGrant))
	s.handle(rt, http.MethodDelete, grants+"/{role}", s.admin("identity:revoke_grant", s.revokeGrant))
}

func (s *Service) listRoles(w http.ResponseWriter, r *http.Request, _ session) error {
	var roles []catalog.Role
	err := s.catalog.View(r.Context(), func(tx *catalog.Tx) (err error) {
		roles, err = tx.Roles()
		return err
	})
	if err != nil {
		return err
	}
	q := r.URL.Query()
	views := []roleView{}
	for _, role := range roles {
		if !q.Has("name") || q.Get("name") == role.Name {
			views = append(views, s.roleView(r, role))
		}
	}
	s.writeList(w, r, "roles", views)
	return nil
}

func (s *Service) createRole(w http.ResponseWriter, r *http.Request, _ session) error {
	var body struct {
		Role *struct {
			Name string `json:"name"`
		} `json:"role"`
	}
	if err := decode(r, &body); err != nil {
		return err
	}
	if body.Role == nil {
		return expecting("role", "request body")
	}
	if err := checkName("role", body.Role.Name, maxUserName); err != nil {
		return err
	}
	role := catalog.Role{ID: newHexID(), Name: body.Role.Name}
	if err := s.change(r.Context(), func(tx *catalog.Tx) error { return tx.InsertRole(role) }); err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusCreated, map[string]any{"role": s.roleView(r, role)})
	return nil
}

func (s *Service) showRole(w http.ResponseWriter, r *http.Request, _ session) error {
	var role catalog.Role
	err := s.catalog.View(r.Context(), func(tx *catalog.Tx) (err error) {
		role, err = tx.Role(r.PathValue("role"))
		return err
	})
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"role": s.roleView(r, role)})
	return nil
}

func (s *Service) deleteRole(w http.ResponseWriter, r *http.Request, _ session) error {
	err := s.change(r.Context(), func(tx *catalog.Tx) error {
		role, err := tx.Role(r.PathValue("role"))
		if err != nil {
			return err
		}
		if immutable(role.Name) {
			return block.Errorf(block.Forbidden, "Cannot delete immutable resource: %s.", role.ID)
		}
		return tx.DeleteRole(role.ID)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// pathGrant is the grant that a path names; NotFound if its user, project or
// role does not exist.
func pathGrant(tx *catalog.Tx, r *http.Request) (catalog.Grant, error) {
	g := catalog.Grant{User: block.UserID(r.PathValue("user")), Project: block.ProjectID(r.PathValue("project")),
		Role: r.PathValue("role")}
	if _, err := tx.User(g.User); err != nil {
		return g, err
	}
	if _, err := tx.Project(g.Project); err != nil {
		return g, err
	}
	if g.Role == "" {
		return g, nil
	}
	_, err := tx.Role(g.Role)
	return g, err
}

func (s *Service) listGrants(w http.ResponseWriter, r *http.Request, _ session) error {
	views := []roleView{}
	err := s.catalog.View(r.Context(), func(tx *catalog.Tx) error {
		g, err := pathGrant(tx, r)
		if err != nil {
			return err
		}
		grants, err := tx.Grants(g.User, g.Project)
		if err != nil {
			return err
		}
		for _, g := range grants {
			role, err := tx.Role(g.Role)
			if err != nil {
				return err
			}
			views = append(views, s.roleView(r, role))
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.writeList(w, r, "roles", views)
	return nil
}

func (s *Service) checkGrant(w http.ResponseWriter, r *http.Request, _ session) error {
	err := s.catalog.View(r.Context(), func(tx *catalog.Tx) error {
		g, err := pathGrant(tx, r)
		if err != nil {
			return err
		}
		grants, err := tx.Grants(g.User, g.Project)
		if err == nil && !slices.Contains(grants, g) {
			err = block.Errorf(block.NotFound, "Could not find role: %s.", g.Role)
		}
		return err
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) createGrant(w http.ResponseWriter, r *http.Request, _ session) error {
	return s.changeGrant(w, r, (*catalog.Tx).Grant)
}

func (s *Service) revokeGrant(w http.ResponseWriter, r *http.Request, _ session) error {
	return s.changeGrant(w, r, (*catalog.Tx).Revoke)
}

func (s *Service) changeGrant(w http.ResponseWriter, r *http.Request, do func(*catalog.Tx, catalog.Grant) error) error {
	err := s.change(r.Context(), func(tx *catalog.Tx) error {
		g, err := pathGrant(tx, r)
		if err != nil {
			return err
		}
		return do(tx, g)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// roleAssignments lists who holds what; ?effective names the implied roles
// too, ?include_names the names.
func (s *Service) roleAssignments(w http.ResponseWriter, r *http.Request, _ session) error {
	q := r.URL.Query()
	list := []any{}
	err := s.catalog.View(r.Context(), func(tx *catalog.Tx) error {
		grants, err := tx.Grants(block.UserID(q.Get("user.id")), block.ProjectID(q.Get("scope.project.id")))
		if err != nil {
			return err
		}
		if switched(q.Get("effective"), q.Has("effective")) {
			if grants, err = expand(tx, grants); err != nil {
				return err
			}
		}
		grants = slices.DeleteFunc(grants, func(g catalog.Grant) bool {
			return q.Has("role.id") && q.Get("role.id") != g.Role || q.Has("scope.domain.id") || q.Has("group.id")
		})
		names := switched(q.Get("include_names"), q.Has("include_names"))
		for _, g := range grants {
			one, err := s.assignment(tx, r, g, names)
			if err != nil {
				return err
			}
			list = append(list, one)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.writeList(w, r, "role_assignments", list)
	return nil
}

// switched reads a query flag as Keystone does: there, and not "0" or "false".
func switched(value string, there bool) bool {
	return there && value != "0" && !strings.EqualFold(value, "false")
}

// expand adds the roles that the granted ones imply.
func expand(tx *catalog.Tx, grants []catalog.Grant) ([]catalog.Grant, error) {
	var all []catalog.Grant
	for _, g := range grants {
		roles, err := effectiveRoles(tx, g.User, g.Project)
		if err != nil {
			return nil, err
		}
		for _, role := range roles {
			one := catalog.Grant{User: g.User, Project: g.Project, Role: role.ID}
			if !slices.Contains(all, one) {
				all = append(all, one)
			}
		}
	}
	return all, nil
}

func (s *Service) assignment(tx *catalog.Tx, r *http.Request, g catalog.Grant, names bool) (map[string]any, error) {
	role, project := map[string]any{"id": g.Role}, map[string]any{"id": g.Project}
	user := map[string]any{"id": g.User}
	if names {
		ro, err := tx.Role(g.Role)
		if err != nil {
			return nil, err
		}
		p, err := tx.Project(g.Project)
		if err != nil {
			return nil, err
		}
		u, err := tx.User(g.User)
		if err != nil {
			return nil, err
		}
		role["name"], project["name"], user["name"] = ro.Name, p.Name, u.Name
		project["domain"], user["domain"] = theDomain, theDomain
	}
	return map[string]any{"role": role, "user": user, "scope": map[string]any{"project": project},
		"links": map[string]string{"assignment": s.base(r) + "/v3/projects/" + string(g.Project) + "/users/" +
			string(g.User) + "/roles/" + g.Role}}, nil
}
