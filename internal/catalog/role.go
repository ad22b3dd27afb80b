package catalog

import (
	"kvol/internal/block"
)

// Role is a name for what its holder may do.
type Role struct {
	ID, Name string
}

// Grant says that a user holds a role in a project.
type Grant struct {
	User    block.UserID
	Project block.ProjectID
	Role    string // id
}

// UpsertRole makes a role unless one of that id or name is there.
func (tx *Tx) UpsertRole(r Role) error {
	_, err := tx.exec(`INSERT INTO roles (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`, r.ID, r.Name)
	return err
}

// InsertRole adds a role; Conflict if the name is taken.
func (tx *Tx) InsertRole(r Role) error {
	if err := tx.freeName("roles", "role", r.ID, r.Name); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO roles (id, name) VALUES ($1, $2)`, r.ID, r.Name)
	return err
}

// Role returns a role by id; NotFound with Keystone's sentence.
func (tx *Tx) Role(id string) (Role, error) { return tx.roleBy(`id`, id) }

// RoleNamed returns the role of a name; NotFound if there is none.
func (tx *Tx) RoleNamed(name string) (Role, error) { return tx.roleBy(`name`, name) }

func (tx *Tx) roleBy(column, value string) (Role, error) {
	r, err := scanRole(tx.queryRow(`SELECT id, name FROM roles WHERE `+column+` = $1`, value))
	return r, notFound(err, "Could not find role: %s.", value)
}

// Roles returns all roles, by name.
func (tx *Tx) Roles() ([]Role, error) {
	return collect(tx, scanRole, `SELECT id, name FROM roles ORDER BY name`)
}

func scanRole(row scanner) (Role, error) {
	var r Role
	err := row.Scan(&r.ID, &r.Name)
	return r, err
}

// DeleteRole removes a role from all who hold it; NotFound if it is gone.
func (tx *Tx) DeleteRole(id string) error {
	if _, err := tx.Role(id); err != nil {
		return err
	}
	if _, err := tx.exec(`DELETE FROM role_grants WHERE role_id = $1`, id); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM roles WHERE id = $1`, id)
	return err
}

// Grant gives a role; doing so again changes nothing.
func (tx *Tx) Grant(g Grant) error {
	_, err := tx.exec(`INSERT INTO role_grants (user_id, project_id, role_id) VALUES ($1, $2, $3)
		ON CONFLICT DO NOTHING`, g.User, g.Project, g.Role)
	return err
}

// Revoke takes a role away; NotFound if it was not given.
func (tx *Tx) Revoke(g Grant) error {
	res, err := tx.exec(`DELETE FROM role_grants WHERE user_id = $1 AND project_id = $2 AND role_id = $3`,
		g.User, g.Project, g.Role)
	return changed(res, err, "Could not find role assignment with role: %s, user or group: %s, "+
		"project, domain, or system: %s.", g.Role, g.User, g.Project)
}

// RevokeAll takes all roles from a user.
func (tx *Tx) RevokeAll(user block.UserID) error {
	_, err := tx.exec(`DELETE FROM role_grants WHERE user_id = $1`, user)
	return err
}

// Grants returns the roles given to a user in a project; "" stands for all
// users or all projects.
func (tx *Tx) Grants(user block.UserID, project block.ProjectID) ([]Grant, error) {
	return collect(tx, scanGrant, `SELECT user_id, project_id, role_id FROM role_grants
		WHERE ($1 = '' OR user_id = $1) AND ($2 = '' OR project_id = $2) ORDER BY user_id, project_id, role_id`,
		user, project)
}

func scanGrant(row scanner) (Grant, error) {
	var g Grant
	err := row.Scan(&g.User, &g.Project, &g.Role)
	return g, err
}
