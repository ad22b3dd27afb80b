package catalog

import "kvol/internal/block"

const (
	noGroup = "Group %s could not be found."

	selectGroups = `SELECT volume_groups.id, volume_groups.project_id, volume_groups.user_id, volume_groups.name,
		volume_groups.description, volume_groups.status, volume_groups.availability_zone, volume_groups.type_id,
		volume_groups.volume_types, volume_groups.group_snapshot_id, volume_groups.source_group_id,
		volume_groups.created_at, volume_groups.updated_at, volume_groups.unreplicated FROM volume_groups`
)

var groupList = lister{
	table: "volume_groups", missing: noGroup,
	columns: map[string]listColumn{
		"id":                {sql: "volume_groups.id"},
		"project_id":        {sql: "volume_groups.project_id"},
		"user_id":           {sql: "volume_groups.user_id"},
		"name":              {sql: "volume_groups.name", nullable: true},
		"description":       {sql: "volume_groups.description", nullable: true},
		"status":            {sql: "volume_groups.status"},
		"availability_zone": {sql: "volume_groups.availability_zone"},
		"group_type_id":     {sql: "volume_groups.type_id"},
		"group_snapshot_id": {sql: "volume_groups.group_snapshot_id", nullable: true},
		"source_group_id":   {sql: "volume_groups.source_group_id", nullable: true},
		"created_at":        {sql: "volume_groups.created_at", kind: timeColumn},
		"updated_at":        {sql: "volume_groups.updated_at", kind: timeColumn, nullable: true},
	},
}

// InsertGroup adds a group, made Now.
func (tx *Tx) InsertGroup(g block.Group) error {
	if g.VolumeTypes == nil {
		g.VolumeTypes = []block.TypeID{}
	}
	_, err := tx.exec(`INSERT INTO volume_groups (id, project_id, user_id, name, description, status,
			availability_zone, type_id, volume_types, group_snapshot_id, source_group_id, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		g.ID, g.Project, g.User, g.Name, g.Description, g.Status, g.AvailabilityZone, g.Type,
		jsonText(g.VolumeTypes), g.GroupSnapshotID, g.SourceGroupID, micros(tx.Now))
	return err
}

// Group returns a group.
func (tx *Tx) Group(id block.GroupID) (block.Group, error) {
	g, err := scanGroup(tx.queryRow(selectGroups+" WHERE id = $1", id))
	return g, notFound(err, noGroup, id)
}

// Groups lists groups, those of the older API only if they are wanted. Its
// errors are those of Volumes.
func (tx *Tx) Groups(q block.ListQuery, withLegacy bool) ([]block.Group, error) {
	var more []string
	if !withLegacy {
		more = append(more, "volume_groups.type_id <> '"+string(block.LegacyGroupType)+"'")
	}
	query, args, err := groupList.page(tx, q, selectGroups, more...)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanGroup, query, args...)
}

// VolumesOfGroup returns a group's volumes, the oldest first.
func (tx *Tx) VolumesOfGroup(id block.GroupID) ([]block.Volume, error) {
	return tx.Volumes(block.ListQuery{Limit: -1, Sort: []block.SortKey{{Column: "created_at"}},
		Filters: map[string]string{"group_id": string(id)}})
}

// UpdateGroup writes a group's name and description. UpdatedAt becomes Now.
func (tx *Tx) UpdateGroup(g block.Group) error {
	res, err := tx.exec("UPDATE volume_groups SET name = $2, description = $3, updated_at = $4 WHERE id = $1",
		g.ID, g.Name, g.Description, micros(tx.Now))
	return changed(res, err, noGroup, g.ID)
}

// MoveGroup is MoveVolume for groups. Volumes of a group that is gone are in
// none.
func (tx *Tx) MoveGroup(id block.GroupID, e block.Event) (block.Group, error) {
	g, err := tx.Group(id)
	if err != nil {
		return g, err
	}
	to, err := g.Status.After(e)
	if err != nil {
		return g, err
	}
	g.Status, g.UpdatedAt = to, tx.Now
	if to == "" {
		return g, tx.deleteGroup(id)
	}
	return g, tx.ResetGroupStatus(id, to)
}

// ResetGroupStatus sets a group's status without asking its table.
func (tx *Tx) ResetGroupStatus(id block.GroupID, to block.GroupStatus) error {
	res, err := tx.exec("UPDATE volume_groups SET status = $2, updated_at = $3 WHERE id = $1", id, to, micros(tx.Now))
	return changed(res, err, noGroup, id)
}

// SetGroupReplication says whether a group's volumes are replicated.
func (tx *Tx) SetGroupReplication(id block.GroupID, on bool) error {
	n, err := tx.exec("UPDATE volume_groups SET unreplicated = $2, updated_at = $3 WHERE id = $1", id, !on, micros(tx.Now))
	return changed(n, err, noGroup, id)
}

func (tx *Tx) deleteGroup(id block.GroupID) error {
	if _, err := tx.exec("UPDATE volumes SET group_id = NULL WHERE group_id = $1", id); err != nil {
		return err
	}
	_, err := tx.exec("DELETE FROM volume_groups WHERE id = $1", id)
	return err
}

// GroupBeingMade reports whether a group is being made of what a column names:
// "source_group_id" or "group_snapshot_id".
func (tx *Tx) GroupBeingMade(column, id string) (bool, error) {
	groups, err := tx.Groups(block.ListQuery{Limit: 1,
		Filters: map[string]string{column: id, "status": string(block.GroupCreating)}}, true)
	return len(groups) > 0, err
}

func scanGroup(row scanner) (block.Group, error) {
	var g block.Group
	err := row.Scan(&g.ID, &g.Project, &g.User, &g.Name, &g.Description, &g.Status, &g.AvailabilityZone, &g.Type,
		asJSON(&g.VolumeTypes), &g.GroupSnapshotID, &g.SourceGroupID, asTime(&g.CreatedAt), asTime(&g.UpdatedAt),
		&g.Unreplicated)
	return g, err
}
