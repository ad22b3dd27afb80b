package catalog

import "kvol/internal/block"

// PlacedKey is a key of a volume in an external key manager. ID and project are
// those that it was placed under; PlacedAs is "" while nobody knows how far that
// came.
type PlacedKey struct {
	ID       block.SecretID
	Project  block.ProjectID
	PlacedAs block.SecretID
}

func scanPlacedKey(row scanner) (k PlacedKey, err error) {
	return k, row.Scan(&k.ID, &k.Project, &k.PlacedAs)
}

// UnplacedKeys are keys of volumes that the external key manager does not have,
// as far as is known, with ids after a given one.
func (tx *Tx) UnplacedKeys(after block.SecretID, limit int) ([]block.Secret, error) {
	return collect(tx, scanSecret, selectSecrets+` WHERE (placed_as IS NULL OR placed_as = '') AND id > $1
		AND EXISTS (SELECT 1 FROM volumes WHERE encryption_key_id = secrets.id) ORDER BY id LIMIT $2`, after, limit)
}

// BeginPlacing notes that a key may be in the external key manager from now on,
// so that it is removed there when it is deleted.
func (tx *Tx) BeginPlacing(id block.SecretID) error {
	res, err := tx.exec("UPDATE secrets SET placed_as = COALESCE(placed_as, '') WHERE id = $1", id)
	return changed(res, err, noSecret, id)
}

// KeyPlaced notes how the external key manager names a project's key. NotFound if
// it was deleted meanwhile, or became another project's.
func (tx *Tx) KeyPlaced(k PlacedKey) error {
	res, err := tx.exec("UPDATE secrets SET placed_as = $3 WHERE id = $1 AND project_id = $2", k.ID, k.Project,
		k.PlacedAs)
	return changed(res, err, noSecret, k.ID)
}

// PlacedKeys are the keys that the external key manager has.
func (tx *Tx) PlacedKeys() ([]PlacedKey, error) {
	return collect(tx, scanPlacedKey, "SELECT id, project_id, placed_as FROM secrets WHERE placed_as <> ''")
}

// KeyRemovals are keys that are to be removed from the external key manager.
func (tx *Tx) KeyRemovals(limit int) ([]PlacedKey, error) {
	return collect(tx, scanPlacedKey, "SELECT id, project_id, placed_as FROM secret_removals ORDER BY id LIMIT $1", limit)
}

// KeyRemoved notes that a key is gone from the external key manager.
func (tx *Tx) KeyRemoved(k PlacedKey) error {
	_, err := tx.exec("DELETE FROM secret_removals WHERE id = $1 AND project_id = $2", k.ID, k.Project)
	return err
}

// removePlaced notes, in the transaction that deletes secrets or gives them to
// another project, which are to be removed from the external key manager.
func (tx *Tx) removePlaced(where string, args ...any) error {
	_, err := tx.exec(`INSERT INTO secret_removals (id, project_id, placed_as)
		SELECT id, project_id, placed_as FROM secrets WHERE placed_as IS NOT NULL AND `+where+`
		ON CONFLICT (id, project_id) DO UPDATE SET placed_as = excluded.placed_as`, args...)
	return err
}
