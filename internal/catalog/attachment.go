package catalog

import "kvol/internal/block"

const (
	noAttachment = "Volume attachment could not be found with filter: attachment_id = %s."

	selectAttachments = "SELECT id, volume_id, server_id, host_name, device, mode, status, attached_at, detached_at," +
		" connection_id FROM attachments"
	orderAttachments = " ORDER BY attached_at NULLS LAST, id"
)

// InsertAttachment adds an attachment to a volume that exists.
func (tx *Tx) InsertAttachment(a block.Attachment) error {
	_, err := tx.exec(`INSERT INTO attachments (id, volume_id, server_id, host_name, device, mode, status,
			attached_at, detached_at, connection_id, created_at, project_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
			COALESCE((SELECT project_id FROM volumes WHERE volumes.id = $2), ''))`,
		a.ID, a.VolumeID, a.ServerID, a.HostName, a.Device, a.Mode, a.Status, micros(a.AttachedAt),
		micros(a.DetachedAt), orNull(a.ConnectionID), micros(tx.Now))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Volume attachment %s exists already.", a.ID)
	}
	if err != nil {
		return err
	}
	return tx.sumAttachments(a.VolumeID)
}

// sumAttachments notes with a volume what its attachments come to, the furthest of
// them (cinder/db/sqlalchemy/api.py, _get_statuses_from_attachments).
func (tx *Tx) sumAttachments(volume block.VolumeID) error {
	_, err := tx.exec(`UPDATE volumes SET attach_status = COALESCE((SELECT MIN(status) FROM attachments
		WHERE attachments.volume_id = volumes.id AND status IN ('attached', 'attaching')), 'detached') WHERE id = $1`,
		volume)
	return err
}

// UpdateAttachment writes all columns of an attachment but its id and volume.
func (tx *Tx) UpdateAttachment(a block.Attachment) error {
	res, err := tx.exec(`UPDATE attachments SET server_id = $2, host_name = $3, device = $4, mode = $5, status = $6,
			attached_at = $7, detached_at = $8, connection_id = $9 WHERE id = $1`,
		a.ID, a.ServerID, a.HostName, a.Device, a.Mode, a.Status, micros(a.AttachedAt), micros(a.DetachedAt),
		orNull(a.ConnectionID))
	if err := changed(res, err, noAttachment, a.ID); err != nil {
		return err
	}
	return tx.sumAttachments(a.VolumeID)
}

// DeleteAttachment removes an attachment.
func (tx *Tx) DeleteAttachment(id block.AttachmentID) error {
	a, err := tx.Attachment(id)
	if err != nil {
		return err
	}
	if _, err := tx.exec("DELETE FROM attachments WHERE id = $1", id); err != nil {
		return err
	}
	return tx.sumAttachments(a.VolumeID)
}

// Attachments returns a volume's attachments, the oldest first, those that
// wait for a host last.
func (tx *Tx) Attachments(volume block.VolumeID) ([]block.Attachment, error) {
	return collect(tx, scanAttachment, selectAttachments+" WHERE volume_id = $1"+orderAttachments, volume)
}

var attachmentList = lister{
	table: "attachments", missing: noAttachment,
	columns: map[string]listColumn{
		"id":            {sql: "attachments.id"},
		"volume_id":     {sql: "attachments.volume_id"},
		"instance_id":   {sql: "attachments.server_id", nullable: true, sorted: "attachments.server_id_sorted"},
		"instance_uuid": {sql: "attachments.server_id", nullable: true, sorted: "attachments.server_id_sorted"},
		"attach_status": {sql: "attachments.status"},
		"status":        {sql: "attachments.status"},
		"attached_host": {sql: "attachments.host_name", nullable: true, sorted: "attachments.host_name_sorted"},
		"mountpoint":    {sql: "attachments.device", nullable: true, sorted: "attachments.device_sorted"},
		"created_at":    {sql: "attachments.created_at", kind: timeColumn},
	},
}

// Attachment returns an attachment.
func (tx *Tx) Attachment(id block.AttachmentID) (block.Attachment, error) {
	a, err := scanAttachment(tx.queryRow(selectAttachments+" WHERE id = $1", id))
	return a, notFound(err, noAttachment, id)
}

// ListAttachments lists attachments of a project's volumes, of all for "". Its
// errors are those of Volumes.
func (tx *Tx) ListAttachments(q block.ListQuery) ([]block.Attachment, error) {
	query, args, err := attachmentList.page(tx, q, `SELECT id, volume_id, server_id, host_name, device, mode, status,
		attached_at, detached_at, connection_id FROM attachments`)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanAttachment, query, args...)
}

// attachmentsOf returns the attachments of many volumes with one query.
func (tx *Tx) attachmentsOf(volumes []block.VolumeID) (map[block.VolumeID][]block.Attachment, error) {
	all, err := collect(tx, scanAttachment,
		selectAttachments+" WHERE "+tx.oneOf("volume_id", "$1")+orderAttachments, jsonText(volumes))
	by := map[block.VolumeID][]block.Attachment{}
	for _, a := range all {
		by[a.VolumeID] = append(by[a.VolumeID], a)
	}
	return by, err
}

func scanAttachment(row scanner) (block.Attachment, error) {
	var a block.Attachment
	err := row.Scan(&a.ID, &a.VolumeID, &a.ServerID, &a.HostName, &a.Device, &a.Mode, &a.Status,
		asTime(&a.AttachedAt), asTime(&a.DetachedAt), nullable(&a.ConnectionID))
	return a, err
}
