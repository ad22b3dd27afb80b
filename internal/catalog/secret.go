package catalog

import (
	"encoding/json"

	"kvol/internal/block"
)

const (
	noSecret = "Secret %s could not be found."

	selectSecrets = `SELECT id, project_id, user_id, name, kind, algorithm, bit_length, mode, content_type, sealed,
		expires_at, created_at, updated_at, acl FROM secrets`
)

func scanSecret(row scanner) (s block.Secret, err error) {
	var acl string
	err = row.Scan(&s.ID, &s.Project, &s.User, &s.Name, &s.Kind, &s.Algorithm, &s.BitLength, &s.Mode,
		nullable(&s.ContentType), &s.Sealed, asTime(&s.ExpiresAt), asTime(&s.CreatedAt), asTime(&s.UpdatedAt),
		nullable(&acl))
	if err == nil && acl != "" {
		err = json.Unmarshal([]byte(acl), &s.ACL)
	}
	return s, err
}

// InsertSecret adds a secret; its times are set to Now. An id that exists is a
// Conflict.
func (tx *Tx) InsertSecret(s block.Secret) error {
	_, err := tx.exec(`INSERT INTO secrets (id, project_id, user_id, name, kind, algorithm, bit_length, mode, content_type,
			sealed, expires_at, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)`,
		s.ID, s.Project, s.User, s.Name, s.Kind, s.Algorithm, s.BitLength, s.Mode, orNull(s.ContentType), s.Sealed,
		micros(s.ExpiresAt), micros(tx.Now))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Secret %s exists already.", s.ID)
	}
	return err
}

// Secret returns a secret, whosever it is.
func (tx *Tx) Secret(id block.SecretID) (block.Secret, error) {
	s, err := scanSecret(tx.queryRow(selectSecrets+" WHERE id = $1", id))
	return s, notFound(err, noSecret, id)
}

// Secrets lists a project's secrets by age, from offset on, and how many there
// are. name "" is any.
func (tx *Tx) Secrets(project block.ProjectID, name string, offset, limit int) (list []block.Secret, total int,
	err error) {
	const where = " WHERE project_id = $1 AND ($2 = '' OR name = $2)"
	if err := tx.queryRow("SELECT COUNT(*) FROM secrets"+where, project, name).Scan(&total); err != nil {
		return nil, 0, err
	}
	list, err = collect(tx, scanSecret, selectSecrets+where+" ORDER BY created_at, id LIMIT $3 OFFSET $4",
		project, name, limit, offset)
	return list, total, err
}

// SetSecretACL says who may read a secret; nil is its project.
func (tx *Tx) SetSecretACL(id block.SecretID, acl *block.SecretACL) error {
	var text any
	if acl != nil {
		kept, err := json.Marshal(acl)
		if err != nil {
			return err
		}
		text = string(kept)
	}
	res, err := tx.exec("UPDATE secrets SET acl = $2 WHERE id = $1", id, text)
	return changed(res, err, noSecret, id)
}

// UpdateSecret writes a secret's owner, payload and what is said of that. Who may
// read it besides ends with a change of the owner.
func (tx *Tx) UpdateSecret(s block.Secret) error {
	if err := tx.removePlaced("id = $1 AND project_id <> $2", s.ID, s.Project); err != nil {
		return err
	}
	res, err := tx.exec(`UPDATE secrets SET placed_as = CASE WHEN project_id = $2 THEN placed_as END,
		acl = CASE WHEN project_id = $2 THEN acl END, project_id = $2, user_id = $3, content_type = $4, sealed = $5,
		updated_at = $6 WHERE id = $1`,
		s.ID, s.Project, s.User, orNull(s.ContentType), s.Sealed, micros(tx.Now))
	return changed(res, err, noSecret, s.ID)
}

// DeleteSecret removes a secret. One that a volume or a backup is encrypted with
// is a Conflict: without it that is lost. One that is gone already stays gone,
// without an error.
func (tx *Tx) DeleteSecret(id block.SecretID) error {
	var users int
	if err := tx.queryRow(`SELECT (SELECT COUNT(*) FROM volumes WHERE encryption_key_id = $1) +
		(SELECT COUNT(*) FROM backups WHERE encryption_key_id = $1) +
		(SELECT COUNT(*) FROM reencryptions WHERE encryption_key_id = $1 AND phase <> 'done'
			AND volume_id IN (SELECT id FROM volumes))`, id).Scan(&users); err != nil {
		return err
	}
	if users > 0 {
		return block.Errorf(block.Conflict, "Secret %s is the key of a volume or a backup, and goes with it.", id)
	}
	if err := tx.removePlaced("id = $1", id); err != nil {
		return err
	}
	_, err := tx.exec("DELETE FROM secrets WHERE id = $1", id)
	return err
}

// deleteKeyOf removes the key that a volume is encrypted with, unless another
// volume is too.
func (tx *Tx) deleteKeyOf(id block.VolumeID) error {
	const its = `id = (SELECT encryption_key_id FROM volumes WHERE id = $1)
		AND NOT EXISTS (SELECT 1 FROM volumes WHERE encryption_key_id = secrets.id AND volumes.id <> $1)`
	if err := tx.removePlaced(its, id); err != nil {
		return err
	}
	_, err := tx.exec("DELETE FROM secrets WHERE "+its, id)
	return err
}
