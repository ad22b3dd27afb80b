package catalog

import "kvol/internal/block"

const (
	noGroupType = "Group type %s could not be found."

	selectGroupTypes = `SELECT group_types.id, group_types.name, group_types.description, group_types.public,
		group_types.specs, group_types.created_at, group_types.updated_at FROM group_types`
)

var groupTypeList = lister{
	table: "group_types", shared: true, missing: noGroupType,
	columns: map[string]listColumn{
		"id":          {sql: "group_types.id"},
		"name":        {sql: "group_types.name"},
		"description": {sql: "group_types.description", nullable: true},
		"is_public":   {sql: "group_types.public", kind: boolColumn},
		"created_at":  {sql: "group_types.created_at", kind: timeColumn},
		"updated_at":  {sql: "group_types.updated_at", kind: timeColumn, nullable: true},
	},
}

// InsertGroupType adds a type of groups, made Now. A name that exists is a
// Conflict.
func (tx *Tx) InsertGroupType(t block.GroupType) error {
	_, err := tx.exec(`INSERT INTO group_types (id, name, description, public, specs, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)`, t.ID, t.Name, t.Description, t.Public, pairs(t.Specs), micros(tx.Now))
	return tx.groupTypeExists(err, t)
}

// UpdateGroupType writes all columns of a type of groups but its id and when it
// was made. A name that another has is a Conflict.
func (tx *Tx) UpdateGroupType(t block.GroupType) error {
	res, err := tx.exec(`UPDATE group_types SET name = $2, description = $3, public = $4, specs = $5, updated_at = $6
		WHERE id = $1`, t.ID, t.Name, t.Description, t.Public, pairs(t.Specs), micros(tx.Now))
	return changed(res, tx.groupTypeExists(err, t), noGroupType, t.ID)
}

func (tx *Tx) groupTypeExists(err error, t block.GroupType) error {
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Group Type %s already exists.", t.Name)
	}
	return err
}

// GroupType returns a type of groups.
func (tx *Tx) GroupType(id block.GroupTypeID) (block.GroupType, error) {
	t, err := scanGroupType(tx.queryRow(selectGroupTypes+" WHERE id = $1", id))
	return t, notFound(err, noGroupType, id)
}

// GroupTypeNamed returns the type of groups with a name.
func (tx *Tx) GroupTypeNamed(name string) (block.GroupType, error) {
	t, err := scanGroupType(tx.queryRow(selectGroupTypes+" WHERE name = $1", name))
	return t, notFound(err, "Group type with name %s could not be found.", name)
}

// GroupTypes lists types of groups: the public ones, or all. The query's project
// is not looked at. Its errors are those of Volumes.
func (tx *Tx) GroupTypes(q block.ListQuery, includePrivate bool) ([]block.GroupType, error) {
	var more []string
	if !includePrivate {
		more = append(more, "group_types.public = TRUE")
	}
	query, args, err := groupTypeList.page(tx, q, selectGroupTypes, more...)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanGroupType, query, args...)
}

// DeleteGroupType removes a type of groups. One that a group has is a Conflict.
func (tx *Tx) DeleteGroupType(id block.GroupTypeID) error {
	var n int64
	if err := tx.queryRow("SELECT COUNT(*) FROM volume_groups WHERE type_id = $1", id).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		return block.Errorf(block.Conflict, "Group Type %s deletion is not allowed with groups present with the type.", id)
	}
	res, err := tx.exec("DELETE FROM group_types WHERE id = $1", id)
	return changed(res, err, noGroupType, id)
}

func scanGroupType(row scanner) (block.GroupType, error) {
	var t block.GroupType
	err := row.Scan(&t.ID, &t.Name, &t.Description, &t.Public, asJSON(&t.Specs), asTime(&t.CreatedAt),
		asTime(&t.UpdatedAt))
	return t, err
}
