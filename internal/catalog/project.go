package catalog

import (
	"time"

	"kvol/internal/block"
)

// Project is a tenant.
type Project struct {
	ID                block.ProjectID
	Name, Description string
	Enabled           bool
	Configured        bool // named by the configuration
	CreatedAt         time.Time
}

const projectColumns = `id, name, description, enabled, configured, created_at`

func scanProject(row scanner) (Project, error) {
	var p Project
	err := row.Scan(&p.ID, &p.Name, &p.Description, &p.Enabled, &p.Configured, asTime(&p.CreatedAt))
	return p, err
}

// Project returns a project; NotFound with Keystone's sentence.
func (tx *Tx) Project(id block.ProjectID) (Project, error) {
	return tx.projectBy(`id`, string(id))
}

// ProjectNamed returns the project of a name; NotFound if there is none.
func (tx *Tx) ProjectNamed(name string) (Project, error) {
	return tx.projectBy(`name`, name)
}

func (tx *Tx) projectBy(column, value string) (Project, error) {
	p, err := scanProject(tx.queryRow(`SELECT `+projectColumns+` FROM projects WHERE `+column+` = $1`, value))
	return p, notFound(err, "Could not find project: %s.", value)
}

// Projects returns all projects, by name.
func (tx *Tx) Projects() ([]Project, error) {
	return collect(tx, scanProject, `SELECT `+projectColumns+` FROM projects ORDER BY name`)
}

// InsertProject adds a project; Conflict if the name is taken. CreatedAt is Now
// unless it is given.
func (tx *Tx) InsertProject(p Project) error {
	if p.CreatedAt.IsZero() {
		p.CreatedAt = tx.Now
	}
	if err := tx.freeName("projects", "project", string(p.ID), p.Name); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO projects (`+projectColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
		p.ID, p.Name, p.Description, p.Enabled, p.Configured, micros(p.CreatedAt))
	return err
}

// UpdateProject changes everything of a project but its id and the time it was
// made. Conflict if the name is another's.
func (tx *Tx) UpdateProject(p Project) error {
	if err := tx.freeName("projects", "project", string(p.ID), p.Name); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE projects SET name = $2, description = $3, enabled = $4, configured = $5 WHERE id = $1`,
		p.ID, p.Name, p.Description, p.Enabled, p.Configured)
	return err
}

// DeleteProject removes a project with the roles and tokens in it; NotFound if
// it is gone. What the project owns elsewhere stays, as with Keystone.
func (tx *Tx) DeleteProject(id block.ProjectID) error {
	if _, err := tx.Project(id); err != nil {
		return err
	}
	for _, statement := range []string{
		`DELETE FROM tokens WHERE project_id = $1`,
		`DELETE FROM role_grants WHERE project_id = $1`,
		`DELETE FROM projects WHERE id = $1`,
	} {
		if _, err := tx.exec(statement, id); err != nil {
			return err
		}
	}
	return nil
}
