package catalog

import "kvol/internal/block"

// noEncryption is the sentence for a type without encryption.
const noEncryption = "Volume type encryption for type %s does not exist."

// TypeEncryption returns how volumes of a type are encrypted.
func (tx *Tx) TypeEncryption(id block.TypeID) (e block.TypeEncryption, err error) {
	err = tx.queryRow(`SELECT id, type_id, provider, control_location, cipher, key_size, created_at, updated_at
		FROM type_encryptions WHERE type_id = $1`, id).Scan(&e.ID, &e.TypeID, &e.Provider, &e.ControlLocation,
		&e.Cipher, &e.KeySize, asTime(&e.CreatedAt), asTime(&e.UpdatedAt))
	return e, notFound(err, noEncryption, id)
}

// InsertTypeEncryption says how volumes of a type are encrypted. A type that
// has encryption is a Conflict.
func (tx *Tx) InsertTypeEncryption(e block.TypeEncryption) error {
	_, err := tx.exec(`INSERT INTO type_encryptions (type_id, id, provider, control_location, cipher, key_size, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		e.TypeID, e.ID, e.Provider, e.ControlLocation, e.Cipher, e.KeySize, micros(tx.Now))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Volume type encryption for type %s already exists.", e.TypeID)
	}
	return err
}

// UpdateTypeEncryption changes how volumes of a type are encrypted.
func (tx *Tx) UpdateTypeEncryption(e block.TypeEncryption) error {
	res, err := tx.exec(`UPDATE type_encryptions SET provider = $2, control_location = $3, cipher = $4, key_size = $5,
		updated_at = $6 WHERE type_id = $1`, e.TypeID, e.Provider, e.ControlLocation, e.Cipher, e.KeySize, micros(tx.Now))
	return changed(res, err, noEncryption, e.TypeID)
}

// DeleteTypeEncryption makes volumes of a type unencrypted ones.
func (tx *Tx) DeleteTypeEncryption(id block.TypeID) error {
	res, err := tx.exec("DELETE FROM type_encryptions WHERE type_id = $1", id)
	return changed(res, err, noEncryption, id)
}
