package catalog

import "kvol/internal/block"

const (
	noAttachment = "Volume attachment could not be found with filter: attachment_id = %s."

	selectAttachments = "SELECT id, volume_id, server_id, host_name, device, mode, status, attached_at, detached_at" +
		" FROM attachments"
	orderAttachments = " ORDER BY attached_at NULLS LAST, id"
)

// InsertAttachment adds an attachment to a volume that exists.
func (tx *Tx) InsertAttachment(a block.Attachment) error {
	_, err := tx.exec(`INSERT INTO attachments (id, volume_id, server_id, host_name, device, mode, status,
			attached_at, detached_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		a.ID, a.VolumeID, a.ServerID, a.HostName, a.Device, a.Mode, a.Status, micros(a.AttachedAt),
		micros(a.DetachedAt))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Volume attachment %s exists already.", a.ID)
	}
	return err
}

// UpdateAttachment writes all columns of an attachment but its id and volume.
func (tx *Tx) UpdateAttachment(a block.Attachment) error {
	res, err := tx.exec(`UPDATE attachments SET server_id = $2, host_name = $3, device = $4, mode = $5, status = $6,
			attached_at = $7, detached_at = $8 WHERE id = $1`,
		a.ID, a.ServerID, a.HostName, a.Device, a.Mode, a.Status, micros(a.AttachedAt), micros(a.DetachedAt))
	return changed(res, err, noAttachment, a.ID)
}

// DeleteAttachment removes an attachment.
func (tx *Tx) DeleteAttachment(id block.AttachmentID) error {
	res, err := tx.exec("DELETE FROM attachments WHERE id = $1", id)
	return changed(res, err, noAttachment, id)
}

// Attachments returns a volume's attachments, the oldest first, those that
// wait for a host last.
func (tx *Tx) Attachments(volume block.VolumeID) ([]block.Attachment, error) {
	return collect(tx, scanAttachment, selectAttachments+" WHERE volume_id = $1"+orderAttachments, volume)
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
		asTime(&a.AttachedAt), asTime(&a.DetachedAt))
	return a, err
}
