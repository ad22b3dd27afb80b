package catalog

import "kvol/internal/block"

const selectTypes = `SELECT volume_types.id, volume_types.name, volume_types.description, volume_types.public,
	volume_types.extra_specs, volume_types.qos_id, volume_types.created_at, volume_types.updated_at
	FROM volume_types`

var typeList = lister{
	table: "volume_types", shared: true, missing: "Volume type %s could not be found.",
	metadata: "volume_types.extra_specs",
	columns: map[string]listColumn{
		"id":           {sql: "volume_types.id"},
		"name":         {sql: "volume_types.name"},
		"description":  {sql: "volume_types.description", nullable: true},
		"is_public":    {sql: "volume_types.public", kind: boolColumn},
		"qos_specs_id": {sql: "volume_types.qos_id", nullable: true},
		"created_at":   {sql: "volume_types.created_at", kind: timeColumn},
		"updated_at":   {sql: "volume_types.updated_at", kind: timeColumn, nullable: true},
	},
}

// UpsertType makes the type with this id what the configuration says; one that
// is so already is left alone. CreatedAt and UpdatedAt are not looked at. A
// name that another type has is a Conflict.
func (tx *Tx) UpsertType(t block.VolumeType) error {
	_, err := tx.exec(`INSERT INTO volume_types (id, name, description, public, extra_specs, qos_id, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
			public = excluded.public, extra_specs = excluded.extra_specs, qos_id = excluded.qos_id,
			updated_at = $7
		WHERE volume_types.name <> excluded.name OR volume_types.public <> excluded.public
			OR volume_types.extra_specs <> excluded.extra_specs
			OR volume_types.description IS DISTINCT FROM excluded.description
			OR volume_types.qos_id IS DISTINCT FROM excluded.qos_id`,
		t.ID, t.Name, t.Description, t.Public, pairs(t.ExtraSpecs), t.QoSSpecsID, micros(tx.Now))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Volume Type %s already exists.", t.Name)
	}
	return err
}

// Type returns the type with an id.
func (tx *Tx) Type(id block.TypeID) (block.VolumeType, error) {
	t, err := scanType(tx.queryRow(selectTypes+" WHERE id = $1", id))
	return t, notFound(err, typeList.missing, id)
}

// TypeNamed returns the type with a name.
func (tx *Tx) TypeNamed(name string) (block.VolumeType, error) {
	t, err := scanType(tx.queryRow(selectTypes+" WHERE name = $1", name))
	return t, notFound(err, "Volume type with name %s could not be found.", name)
}

// Types lists types: the public ones, or all. The query's project is not
// looked at. Its errors are those of Volumes.
func (tx *Tx) Types(q block.ListQuery, includePrivate bool) ([]block.VolumeType, error) {
	var more []string
	if !includePrivate {
		more = append(more, "volume_types.public = TRUE")
	}
	query, args, err := typeList.page(tx, q, selectTypes, more...)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanType, query, args...)
}

func scanType(row scanner) (block.VolumeType, error) {
	var t block.VolumeType
	err := row.Scan(&t.ID, &t.Name, &t.Description, &t.Public, asJSON(&t.ExtraSpecs), &t.QoSSpecsID,
		asTime(&t.CreatedAt), asTime(&t.UpdatedAt))
	return t, err
}
