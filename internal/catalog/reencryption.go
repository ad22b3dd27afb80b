package catalog

import "kvol/internal/block"

const (
	noReencryption = "Volume %s is not being encrypted anew."

	selectReencryptions = `SELECT volume_id, job_id, copy_id, backend, encryption_key_id, encryption, phase
		FROM reencryptions`
)

func scanReencryption(row scanner) (r block.Reencryption, err error) {
	var key block.SecretID
	err = row.Scan(&r.Volume, &r.Job, &r.Copy, &r.Backend, nullable(&key), asJSON(&r.Encryption), &r.Phase)
	if r.Encryption != nil {
		r.Encryption.Key = key
	}
	return r, err
}

// BeginReencryption notes that a volume is to be encrypted anew. One that is
// noted already is a Conflict.
func (tx *Tx) BeginReencryption(r block.Reencryption) error {
	_, err := tx.exec(`INSERT INTO reencryptions (volume_id, job_id, copy_id, backend, encryption_key_id, encryption,
			phase)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, r.Volume, r.Job, r.Copy, r.Backend, keyOf(r.Encryption),
		jsonOrNull(r.Encryption), string(r.Phase))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Volume %s is being encrypted anew already.", r.Volume)
	}
	return err
}

// Reencryption returns how far a volume's is; NotFound for one that has none.
func (tx *Tx) Reencryption(id block.VolumeID) (block.Reencryption, error) {
	r, err := scanReencryption(tx.queryRow(selectReencryptions+" WHERE volume_id = $1", id))
	return r, notFound(err, noReencryption, id)
}

// ReencryptedAs returns the one of which something in a store is the copy, under
// an id that is not the volume's; NotFound if there is none.
func (tx *Tx) ReencryptedAs(id block.VolumeID) (block.Reencryption, error) {
	r, err := scanReencryption(tx.queryRow(selectReencryptions+" WHERE copy_id = $1 AND copy_id <> volume_id", id))
	return r, notFound(err, "%s is no volume's copy.", id)
}

// SetReencryptionPhase notes that a volume's has come further.
func (tx *Tx) SetReencryptionPhase(id block.VolumeID, to block.ReencryptionPhase) error {
	res, err := tx.exec("UPDATE reencryptions SET phase = $2 WHERE volume_id = $1", id, string(to))
	return changed(res, err, noReencryption, id)
}

// EndReencryption forgets it, with the key that was to be the volume's unless it
// has become that. One that is gone already stays gone, without an error.
func (tx *Tx) EndReencryption(id block.VolumeID) error {
	r, err := tx.Reencryption(id)
	if block.Is(err, block.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.exec("DELETE FROM reencryptions WHERE volume_id = $1", id); err != nil {
		return err
	}
	if r.Encryption == nil || r.Phase == block.ReencryptionDone {
		return nil
	}
	return tx.DeleteSecret(r.Encryption.Key)
}
