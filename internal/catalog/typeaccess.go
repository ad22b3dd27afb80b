package catalog

import "kvol/internal/block"

// GrantType lets a project use a private type. One that may already is a
// Conflict.
func (tx *Tx) GrantType(id block.TypeID, project block.ProjectID) error {
	_, err := tx.exec("INSERT INTO type_access (type_id, project_id, created_at) VALUES ($1, $2, $3)",
		id, project, micros(tx.Now))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Volume type access for %s / %s combination already exists.", id, project)
	}
	return err
}

// DenyType takes the use of a private type from a project that has it.
func (tx *Tx) DenyType(id block.TypeID, project block.ProjectID) error {
	res, err := tx.exec("DELETE FROM type_access WHERE type_id = $1 AND project_id = $2", id, project)
	return changed(res, err, "Volume type access not found for %s / %s combination.", id, project)
}

// TypeGranted reports whether a project was given the use of a type.
func (tx *Tx) TypeGranted(id block.TypeID, project block.ProjectID) (granted bool, err error) {
	err = tx.queryRow("SELECT EXISTS (SELECT 1 FROM type_access WHERE type_id = $1 AND project_id = $2)",
		id, project).Scan(&granted)
	return granted, err
}

// TypeAccess lists the projects that were given the use of a type.
func (tx *Tx) TypeAccess(id block.TypeID) ([]block.ProjectID, error) {
	return collect(tx, func(row scanner) (p block.ProjectID, err error) { return p, row.Scan(&p) },
		"SELECT project_id FROM type_access WHERE type_id = $1 ORDER BY created_at, project_id", id)
}

// DefaultType returns the type of a project's volumes that ask for none.
func (tx *Tx) DefaultType(project block.ProjectID) (id block.TypeID, err error) {
	err = tx.queryRow("SELECT type_id FROM default_types WHERE project_id = $1", project).Scan(&id)
	return id, notFound(err, "Default type for project %s not found.", project)
}

// SetDefaultType sets a project's default type.
func (tx *Tx) SetDefaultType(project block.ProjectID, id block.TypeID) error {
	_, err := tx.exec(`INSERT INTO default_types (project_id, type_id) VALUES ($1, $2)
		ON CONFLICT (project_id) DO UPDATE SET type_id = excluded.type_id`, project, id)
	return err
}

// DeleteDefaultType takes a project back to the zone's default type.
func (tx *Tx) DeleteDefaultType(project block.ProjectID) error {
	_, err := tx.exec("DELETE FROM default_types WHERE project_id = $1", project)
	return err
}

// DefaultTypes lists the projects that have a default type of their own.
func (tx *Tx) DefaultTypes() ([]block.DefaultType, error) {
	return collect(tx, func(row scanner) (d block.DefaultType, err error) { return d, row.Scan(&d.Project, &d.Type) },
		"SELECT project_id, type_id FROM default_types ORDER BY project_id")
}

// DefaultTypeOfAny reports whether a type is the default of some project.
func (tx *Tx) DefaultTypeOfAny(id block.TypeID) (is bool, err error) {
	err = tx.queryRow("SELECT EXISTS (SELECT 1 FROM default_types WHERE type_id = $1)", id).Scan(&is)
	return is, err
}
