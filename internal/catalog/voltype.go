package catalog

import (
	"maps"

	"kvol/internal/block"
)

const selectTypes = `SELECT volume_types.id, volume_types.name, volume_types.description, volume_types.public,
	volume_types.extra_specs, volume_types.qos_id, volume_types.configured, volume_types.created_at,
	volume_types.updated_at FROM volume_types`

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

// typeZones is the extra spec that lists availability zones in one text.
const typeZones = "RESKEY:availability_zones"

// InsertType adds a type. A name that another type has is a Conflict. The time
// is the transaction's; QoSSpecsID is not looked at.
func (tx *Tx) InsertType(t block.VolumeType) error {
	_, err := tx.exec(`INSERT INTO volume_types (id, name, description, public, extra_specs, configured, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		t.ID, t.Name, t.Description, t.Public, pairs(t.ExtraSpecs), t.Configured, micros(tx.Now))
	return tx.typeExists(err, t.Name)
}

func (tx *Tx) typeExists(err error, name string) error {
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Volume Type %s already exists.", name)
	}
	return err
}

// UpdateType writes a type's name, description, specs, and whether it is
// public and configured. Quotas follow the name. A name that another type has
// is a Conflict.
func (tx *Tx) UpdateType(t block.VolumeType) error {
	before, err := tx.Type(t.ID)
	if err != nil {
		return err
	}
	if before.Name != t.Name {
		if err := tx.renameQuotas(before.Name, t.Name); err != nil {
			return err
		}
	}
	_, err = tx.exec(`UPDATE volume_types SET name = $2, description = $3, public = $4, extra_specs = $5,
		configured = $6, updated_at = $7 WHERE id = $1`,
		t.ID, t.Name, t.Description, t.Public, pairs(t.ExtraSpecs), t.Configured, micros(tx.Now))
	return tx.typeExists(err, t.Name)
}

// UpsertType makes the type with this id what the configuration says; one that
// is so already is left alone. CreatedAt, UpdatedAt and QoSSpecsID are not
// looked at. A name that another type has is a Conflict.
func (tx *Tx) UpsertType(t block.VolumeType) error {
	t.Configured = true
	have, err := tx.Type(t.ID)
	switch {
	case block.Is(err, block.NotFound):
		return tx.InsertType(t)
	case err != nil:
		return err
	case have.Configured && have.Name == t.Name && have.Public == t.Public && sameText(have.Description, t.Description) &&
		maps.Equal(have.ExtraSpecs, t.ExtraSpecs):
		return nil
	}
	return tx.UpdateType(t)
}

func sameText(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// Configure makes the types and QoS specs of a zone what its configuration
// says: limits has those of some types, by id. What the configuration named and
// no longer names is kept, types as if they had been made by API.
func (tx *Tx) Configure(types []block.VolumeType, limits map[block.TypeID]map[string]string) error {
	kept := []block.TypeID{}
	for _, t := range types {
		kept = append(kept, t.ID)
	}
	// First, so that a name that is free by configuration can be given again.
	_, err := tx.exec("UPDATE volume_types SET configured = FALSE WHERE configured = TRUE AND NOT "+
		tx.oneOf("id", "$1"), jsonText(kept))
	if err != nil {
		return err
	}
	for _, t := range types {
		if err := tx.UpsertType(t); err != nil {
			return err
		}
	}
	return tx.configureQoS(types, limits)
}

// DeleteType forgets a type and what hangs on it: who may use it, how it is
// encrypted, quotas. One that volumes have, or that is a project's default, is
// a Conflict.
func (tx *Tx) DeleteType(id block.TypeID) error {
	t, err := tx.Type(id)
	if err != nil {
		return err
	}
	var used bool
	err = tx.queryRow(`SELECT EXISTS (SELECT 1 FROM volumes WHERE type_id = $1)
		OR EXISTS (SELECT 1 FROM default_types WHERE type_id = $1)`, id).Scan(&used)
	if err != nil {
		return err
	}
	if used {
		return block.Errorf(block.Conflict, "Volume Type %s deletion is not allowed with volumes present with the type.", id)
	}
	if err := tx.deleteTypeQuotas(t.Name); err != nil {
		return err
	}
	_, err = tx.exec("DELETE FROM volume_types WHERE id = $1", id)
	return err
}

// TypeInUse reports whether any volume has a type.
func (tx *Tx) TypeInUse(id block.TypeID) (used bool, err error) {
	err = tx.queryRow("SELECT EXISTS (SELECT 1 FROM volumes WHERE type_id = $1)", id).Scan(&used)
	return used, err
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

// Types lists types: those that the query's project may use, or all. As in
// Cinder, a filter is_public of "true" selects all that the project may use. Its
// errors are those of Volumes.
func (tx *Tx) Types(q block.ListQuery, includePrivate bool) ([]block.VolumeType, error) {
	s := &statement{dialect: tx.dialect}
	q.Filters, q.Metadata = maps.Clone(q.Filters), maps.Clone(q.Metadata)
	if !includePrivate || q.Filters["is_public"] == "true" {
		delete(q.Filters, "is_public")
		s.and("(volume_types.public = TRUE OR EXISTS (SELECT 1 FROM type_access " +
			"WHERE type_access.type_id = volume_types.id AND type_access.project_id = " + s.arg(q.Project) + "))")
	}
	if zone, given := q.Metadata[typeZones]; given {
		delete(q.Metadata, typeZones)
		s.and(s.hasLike("volume_types.extra_specs", s.arg(typeZones), s.arg(likeEscaper.Replace(zone))))
	}
	query, args, err := typeList.pageOf(tx, q, selectTypes, s)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanType, query, args...)
}

func scanType(row scanner) (block.VolumeType, error) {
	var t block.VolumeType
	err := row.Scan(&t.ID, &t.Name, &t.Description, &t.Public, asJSON(&t.ExtraSpecs), &t.QoSSpecsID, &t.Configured,
		asTime(&t.CreatedAt), asTime(&t.UpdatedAt))
	return t, err
}
