package identity

import (
	"context"
	"strings"
	"unicode/utf8"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Change is what to change of a user or a project; nil fields stay. Password
// is only for users.
type Change struct {
	Name        *string
	Description *string
	Enabled     *bool
	Password    *string
}

// Longest names, in characters (keystone/identity/schema.py and
// keystone/resource/schema.py).
const (
	maxUserName    = 255
	maxProjectName = 64
	maxDescription = 65_535
)

func checkName(noun, name string, most int) error {
	if strings.TrimSpace(name) == "" || utf8.RuneCountInString(name) > most || !utf8.ValidString(name) {
		return block.Errorf(block.Invalid, "Invalid input for field 'name': the name of a %s has 1 to %d characters.",
			noun, most)
	}
	return nil
}

func checkDescription(d *string) error {
	if d != nil && utf8.RuneCountInString(*d) > maxDescription {
		return block.Errorf(block.Invalid, "Invalid input for field 'description': it has at most %d characters.",
			maxDescription)
	}
	return nil
}

// change runs fn in a transaction and then forgets whom tokens stand for.
func (s *Service) change(ctx context.Context, fn func(*catalog.Tx) error) error {
	defer s.cache.clear()
	return s.catalog.Update(ctx, fn)
}

// CreateUser makes a user with a new random id, without roles; u.Password may
// be empty, then it can't log in. Conflict if the name is taken.
func (s *Service) CreateUser(ctx context.Context, u User) (User, error) {
	if err := checkName("user", u.Name, maxUserName); err != nil {
		return User{}, err
	}
	if err := checkDescription(&u.Description); err != nil {
		return User{}, err
	}
	row := catalog.User{ID: block.UserID(newHexID()), Name: u.Name, Description: u.Description, Enabled: !u.Disabled}
	if u.Password != "" {
		var err error
		if row.PasswordHash, err = s.hasher.hash(ctx, u.Password); err != nil {
			return User{}, err
		}
	}
	err := s.change(ctx, func(tx *catalog.Tx) error {
		row.CreatedAt = tx.Now
		return tx.InsertUser(row)
	})
	return userOf(row, nil), err
}

func newHexID() string { return strings.ReplaceAll(block.NewID(), "-", "") }

func userOf(row catalog.User, roles []RoleIn) User {
	return User{ID: row.ID, Name: row.Name, Description: row.Description, Disabled: !row.Enabled, Roles: roles}
}

// UpdateUser changes a user. A new password and disabling end its tokens.
// NotFound if there is none of that id, Conflict if the new name is taken.
func (s *Service) UpdateUser(ctx context.Context, id block.UserID, c Change) (User, error) {
	if c.Name != nil {
		if err := checkName("user", *c.Name, maxUserName); err != nil {
			return User{}, err
		}
	}
	if err := checkDescription(c.Description); err != nil {
		return User{}, err
	}
	hash := ""
	if c.Password != nil {
		var err error
		if hash, err = s.hasher.hash(ctx, *c.Password); err != nil {
			return User{}, err
		}
	}
	var row catalog.User
	err := s.change(ctx, func(tx *catalog.Tx) (err error) {
		if row, err = tx.User(id); err != nil {
			return err
		}
		set(&row.Name, c.Name)
		set(&row.Description, c.Description)
		set(&row.Enabled, c.Enabled)
		if hash != "" {
			row.PasswordHash = hash
		}
		if hash != "" || !row.Enabled {
			if err := tx.DeleteTokensOf(id); err != nil {
				return err
			}
		}
		return tx.UpdateUser(row)
	})
	return userOf(row, nil), err
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// SetPassword gives a user, named by name or id, another password and ends its
// tokens. For a user that the configuration names, the configured password is
// back at the next start.
func (s *Service) SetPassword(ctx context.Context, nameOrID, password string) error {
	id, err := s.userID(ctx, nameOrID)
	if err != nil {
		return err
	}
	_, err = s.UpdateUser(ctx, id, Change{Password: &password})
	return err
}

func (s *Service) userID(ctx context.Context, nameOrID string) (id block.UserID, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		u, err := tx.User(block.UserID(nameOrID))
		if block.Is(err, block.NotFound) {
			u, err = tx.UserNamed(nameOrID)
		}
		id = u.ID
		return err
	})
	return id, err
}

// DeleteUser removes a user, named by name or id, with its roles and tokens.
func (s *Service) DeleteUser(ctx context.Context, nameOrID string) error {
	id, err := s.userID(ctx, nameOrID)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *catalog.Tx) error { return tx.DeleteUser(id) })
}

// ListUsers returns all users with the roles they were given, by name.
func (s *Service) ListUsers(ctx context.Context) ([]User, error) {
	var users []User
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Users()
		if err != nil {
			return err
		}
		roles, err := rolesByUser(tx)
		if err != nil {
			return err
		}
		users = nil
		for _, row := range rows {
			users = append(users, userOf(row, roles[row.ID]))
		}
		return nil
	})
	return users, err
}

func rolesByUser(tx *catalog.Tx) (map[block.UserID][]RoleIn, error) {
	projects, err := tx.Projects()
	if err != nil {
		return nil, err
	}
	roles, err := tx.Roles()
	if err != nil {
		return nil, err
	}
	grants, err := tx.Grants("", "")
	if err != nil {
		return nil, err
	}
	projectName, roleName := map[block.ProjectID]string{}, map[string]string{}
	for _, p := range projects {
		projectName[p.ID] = p.Name
	}
	for _, r := range roles {
		roleName[r.ID] = r.Name
	}
	byUser := map[block.UserID][]RoleIn{}
	for _, g := range grants {
		byUser[g.User] = append(byUser[g.User], RoleIn{Project: projectName[g.Project], Role: roleName[g.Role]})
	}
	return byUser, nil
}

// GrantRole gives a user a role in a project; each is named by name or id.
// Doing so again changes nothing.
func (s *Service) GrantRole(ctx context.Context, user, project, role string) error {
	id, err := s.userID(ctx, user)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *catalog.Tx) error { return grant(tx, id, project, role) })
}

// RevokeRole takes a role in a project from a user; each is named by name or
// id. NotFound if it was not given.
func (s *Service) RevokeRole(ctx context.Context, user, project, role string) error {
	id, err := s.userID(ctx, user)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *catalog.Tx) error {
		p, err := projectNamed(tx, project)
		if err != nil {
			return err
		}
		r, err := roleNamed(tx, role)
		if err != nil {
			return err
		}
		return tx.Revoke(catalog.Grant{User: id, Project: p.ID, Role: r.ID})
	})
}

// CreateProject makes a project with a new random id. Conflict if the name is
// taken.
func (s *Service) CreateProject(ctx context.Context, p Project) (Project, error) {
	if err := checkName("project", p.Name, maxProjectName); err != nil {
		return Project{}, err
	}
	if err := checkDescription(&p.Description); err != nil {
		return Project{}, err
	}
	row := catalog.Project{ID: block.ProjectID(newHexID()), Name: p.Name, Description: p.Description,
		Enabled: !p.Disabled}
	err := s.change(ctx, func(tx *catalog.Tx) error {
		row.CreatedAt = tx.Now
		return tx.InsertProject(row)
	})
	return projectOf(row), err
}

func projectOf(row catalog.Project) Project {
	return Project{ID: row.ID, Name: row.Name, Description: row.Description, Disabled: !row.Enabled}
}

// ListProjects returns all projects, by name.
func (s *Service) ListProjects(ctx context.Context) ([]Project, error) {
	var projects []Project
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Projects()
		projects = nil
		for _, row := range rows {
			projects = append(projects, projectOf(row))
		}
		return err
	})
	return projects, err
}

// UpdateProject changes a project. NotFound if there is none of that id,
// Conflict if the new name is taken.
func (s *Service) UpdateProject(ctx context.Context, id block.ProjectID, c Change) (Project, error) {
	if c.Name != nil {
		if err := checkName("project", *c.Name, maxProjectName); err != nil {
			return Project{}, err
		}
	}
	if err := checkDescription(c.Description); err != nil {
		return Project{}, err
	}
	var row catalog.Project
	err := s.change(ctx, func(tx *catalog.Tx) (err error) {
		if row, err = tx.Project(id); err != nil {
			return err
		}
		set(&row.Name, c.Name)
		set(&row.Description, c.Description)
		set(&row.Enabled, c.Enabled)
		return tx.UpdateProject(row)
	})
	return projectOf(row), err
}

// DeleteProject removes a project with the roles and tokens in it. What it
// owns in other services stays theirs to clean up, as with Keystone.
func (s *Service) DeleteProject(ctx context.Context, id block.ProjectID) error {
	return s.change(ctx, func(tx *catalog.Tx) error { return tx.DeleteProject(id) })
}
