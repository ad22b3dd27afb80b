package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// User is a user of the identity service.
type User struct {
	ID      string `json:"id,omitempty"`
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
}

// Project is a tenant.
type Project struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name"`
}

// Users lists the users; administrators only, as everything in this file.
func (s *Session) Users(ctx context.Context) ([]User, error) {
	var out struct {
		Users []User `json:"users"`
	}
	err := s.call(ctx, http.MethodGet, "identity", "/users", nil, &out)
	return out.Users, err
}

// Projects lists the projects.
func (s *Session) Projects(ctx context.Context) ([]Project, error) {
	var out struct {
		Projects []Project `json:"projects"`
	}
	err := s.call(ctx, http.MethodGet, "identity", "/projects", nil, &out)
	return out.Projects, err
}

// CreateUser makes a user.
func (s *Session) CreateUser(ctx context.Context, name, password string) (User, error) {
	var out struct {
		User User `json:"user"`
	}
	in := map[string]any{"user": map[string]any{"name": name, "password": password, "enabled": true}}
	err := s.call(ctx, http.MethodPost, "identity", "/users", in, &out)
	return out.User, err
}

// SetPassword changes a user's password.
func (s *Session) SetPassword(ctx context.Context, userID, password string) error {
	in := map[string]any{"user": map[string]any{"password": password}}
	return s.call(ctx, http.MethodPatch, "identity", "/users/"+url.PathEscape(userID), in, nil)
}

// DeleteUser removes a user.
func (s *Session) DeleteUser(ctx context.Context, userID string) error {
	return s.call(ctx, http.MethodDelete, "identity", "/users/"+url.PathEscape(userID), nil, nil)
}

// CreateProject makes a project.
func (s *Session) CreateProject(ctx context.Context, name string) (Project, error) {
	var out struct {
		Project Project `json:"project"`
	}
	in := map[string]any{"project": map[string]any{"name": name, "enabled": true}}
	err := s.call(ctx, http.MethodPost, "identity", "/projects", in, &out)
	return out.Project, err
}

// Grant gives a user a role (admin, member or reader) in a project.
func (s *Session) Grant(ctx context.Context, projectID, userID, role string) error {
	var out struct {
		Roles []named `json:"roles"`
	}
	if err := s.call(ctx, http.MethodGet, "identity", "/roles", nil, &out); err != nil {
		return err
	}
	for _, r := range out.Roles {
		if r.Name == role {
			return s.call(ctx, http.MethodPut, "identity", fmt.Sprintf("/projects/%s/users/%s/roles/%s",
				url.PathEscape(projectID), url.PathEscape(userID), url.PathEscape(r.ID)), nil, nil)
		}
	}
	return fmt.Errorf("there is no role %q", role)
}

// SetQuotas sets a project's limits in block storage.
func (s *Session) SetQuotas(ctx context.Context, projectID string, limits map[string]int64) error {
	return s.call(ctx, http.MethodPut, blockStorage, "/os-quota-sets/"+url.PathEscape(projectID),
		map[string]any{"quota_set": limits}, nil)
}
