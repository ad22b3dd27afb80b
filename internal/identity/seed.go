package identity

import (
	"context"
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// builtinRoles are the roles that mean something to the services (Keystone's
// bootstrap makes them too): admin implies member, member implies reader.
// "service" marks other services' users.
var builtinRoles = []string{"admin", "member", "reader", "service"}

// Seed brings the catalog up to the configuration: it makes or updates what
// the configuration names and disables what it named before and names no
// more. What operators made by other ways is left alone. For a user that the
// configuration names, the configuration's password and roles win.
// It may be called again at any time.
func (s *Service) Seed(ctx context.Context) error {
	hashes, err := s.hashConfigured(ctx)
	if err != nil {
		return err
	}
	defer s.cache.clear()
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, name := range s.roleNames() {
			if err := tx.UpsertRole(catalog.Role{ID: derivedID("role", name), Name: name}); err != nil {
				return err
			}
		}
		if err := s.seedProjects(tx); err != nil {
			return err
		}
		return s.seedUsers(tx, hashes)
	})
}

// roleNames are the built-in roles and those that the configuration grants by
// a name of its own.
func (s *Service) roleNames() []string {
	names := slices.Clone(builtinRoles)
	for _, u := range s.config.Users {
		for _, r := range u.Roles {
			if !slices.Contains(names, r.Role) {
				names = append(names, r.Role)
			}
		}
	}
	return names
}

// hashConfigured finds the hash for each configured user: the stored one where
// it already belongs to the configured password, so that a restart changes
// nothing and ends nobody's tokens.
func (s *Service) hashConfigured(ctx context.Context) (map[string]string, error) {
	stored := map[string]string{}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		users, err := tx.Users()
		for _, u := range users {
			stored[u.Name] = u.PasswordHash
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	hashes := map[string]string{}
	for _, u := range s.config.Users {
		if hashes[u.Name], err = s.hasher.keep(ctx, stored[u.Name], u.Password, u.PasswordHash); err != nil {
			return nil, block.Wrap(block.KindOf(err), err, "user %s: its password could not be hashed", u.Name)
		}
	}
	return hashes, nil
}

// keep returns the hash to store for a configured password or hash.
func (h *hasher) keep(ctx context.Context, stored, password, hash string) (string, error) {
	if password == "" {
		return hash, nil
	}
	if stored != "" {
		if same, err := h.verify(ctx, stored, password); err != nil || same {
			return stored, err
		}
	}
	return h.hash(ctx, password)
}

func (s *Service) seedProjects(tx *catalog.Tx) error {
	all, err := tx.Projects()
	if err != nil {
		return err
	}
	named := map[block.ProjectID]bool{}
	for _, want := range s.config.Projects {
		have, known := findProject(all, want.ID, want.Name)
		if !known {
			have = catalog.Project{ID: want.ID, CreatedAt: tx.Now}
			if have.ID == "" {
				have.ID = block.ProjectID(derivedID("project", want.Name))
			}
		}
		have.Name, have.Description, have.Enabled, have.Configured = want.Name, want.Description, !want.Disabled, true
		named[have.ID] = true
		save := tx.UpdateProject
		if !known {
			save = tx.InsertProject
		}
		if err := save(have); err != nil {
			return err
		}
	}
	for _, p := range all {
		if p.Configured && p.Enabled && !named[p.ID] {
			p.Enabled = false
			if err := tx.UpdateProject(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func findProject(all []catalog.Project, id block.ProjectID, name string) (catalog.Project, bool) {
	i := slices.IndexFunc(all, func(p catalog.Project) bool { return p.ID == id || id == "" && p.Name == name })
	if i < 0 {
		return catalog.Project{}, false
	}
	return all[i], true
}

func (s *Service) seedUsers(tx *catalog.Tx, hashes map[string]string) error {
	all, err := tx.Users()
	if err != nil {
		return err
	}
	named := map[block.UserID]bool{}
	for _, want := range s.config.Users {
		u, err := s.seedUser(tx, all, want, hashes[want.Name])
		if err != nil {
			return err
		}
		named[u] = true
	}
	for _, u := range all {
		if u.Configured && u.Enabled && !named[u.ID] {
			u.Enabled = false
			if err := tx.UpdateUser(u); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) seedUser(tx *catalog.Tx, all []catalog.User, want User, hash string) (block.UserID, error) {
	u := catalog.User{ID: want.ID, CreatedAt: tx.Now}
	i := slices.IndexFunc(all, func(u catalog.User) bool {
		return u.ID == want.ID || want.ID == "" && u.Name == want.Name
	})
	if i >= 0 {
		u = all[i]
	} else if u.ID == "" {
		u.ID = block.UserID(derivedID("user", want.Name))
	}
	changed := i >= 0 && u.PasswordHash != hash
	u.Name, u.Description, u.PasswordHash = want.Name, want.Description, hash
	u.Enabled, u.Configured = !want.Disabled, true
	save := tx.UpdateUser
	if i < 0 {
		save = tx.InsertUser
	}
	if err := save(u); err != nil {
		return "", err
	}
	if changed {
		if err := tx.DeleteTokensOf(u.ID); err != nil {
			return "", err
		}
	}
	if err := tx.RevokeAll(u.ID); err != nil {
		return "", err
	}
	for _, r := range want.Roles {
		if err := grant(tx, u.ID, r.Project, r.Role); err != nil {
			return "", err
		}
	}
	return u.ID, nil
}

// grant gives a user a role, both project and role by name or id.
func grant(tx *catalog.Tx, user block.UserID, project, role string) error {
	p, err := projectNamed(tx, project)
	if err != nil {
		return err
	}
	r, err := roleNamed(tx, role)
	if err != nil {
		return err
	}
	return tx.Grant(catalog.Grant{User: user, Project: p.ID, Role: r.ID})
}

func projectNamed(tx *catalog.Tx, nameOrID string) (catalog.Project, error) {
	p, err := tx.Project(block.ProjectID(nameOrID))
	if block.Is(err, block.NotFound) {
		return tx.ProjectNamed(nameOrID)
	}
	return p, err
}

func roleNamed(tx *catalog.Tx, nameOrID string) (catalog.Role, error) {
	r, err := tx.Role(nameOrID)
	if !block.Is(err, block.NotFound) {
		return r, err
	}
	return tx.RoleNamed(nameOrID)
}
