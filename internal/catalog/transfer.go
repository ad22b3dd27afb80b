package catalog

import "kvol/internal/block"

const (
	noTransfer = "Transfer %s could not be found."

	selectTransfers = `SELECT transfers.id, transfers.project_id, transfers.volume_id, transfers.name,
		transfers.no_snapshots, transfers.salt, transfers.key_hash, transfers.created_at FROM transfers`
)

var transferList = lister{
	table: "transfers", missing: noTransfer,
	columns: map[string]listColumn{
		"id":                {sql: "transfers.id"},
		"project_id":        {sql: "transfers.project_id"},
		"source_project_id": {sql: "transfers.project_id"},
		"volume_id":         {sql: "transfers.volume_id"},
		"name":              {sql: "transfers.name", nullable: true},
		"display_name":      {sql: "transfers.name", nullable: true},
		"no_snapshots":      {sql: "transfers.no_snapshots", kind: boolColumn},
		"created_at":        {sql: "transfers.created_at", kind: timeColumn},
	},
}

// InsertTransfer adds an offer, in the place of an older one of the same volume.
// CreatedAt is Now unless it is given.
func (tx *Tx) InsertTransfer(t block.Transfer) error {
	if t.CreatedAt.IsZero() {
		t.CreatedAt = tx.Now
	}
	if _, err := tx.exec("DELETE FROM transfers WHERE volume_id = $1", t.VolumeID); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO transfers (id, project_id, volume_id, name, no_snapshots, salt, key_hash, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		t.ID, t.Project, t.VolumeID, t.Name, t.NoSnapshots, t.Lock.Salt, t.Lock.Hash, micros(t.CreatedAt))
	return err
}

// Transfer returns an offer.
func (tx *Tx) Transfer(id block.TransferID) (block.Transfer, error) {
	t, err := scanTransfer(tx.queryRow(selectTransfers+" WHERE id = $1", id))
	return t, notFound(err, noTransfer, id)
}

// Transfers lists offers; its errors are those of Volumes.
func (tx *Tx) Transfers(q block.ListQuery) ([]block.Transfer, error) {
	query, args, err := transferList.page(tx, q, selectTransfers)
	if err != nil {
		return nil, err
	}
	return collect(tx, scanTransfer, query, args...)
}

// DeleteTransfer removes an offer. One that is gone already stays gone, without
// an error.
func (tx *Tx) DeleteTransfer(id block.TransferID) error {
	_, err := tx.exec("DELETE FROM transfers WHERE id = $1", id)
	return err
}

func scanTransfer(row scanner) (block.Transfer, error) {
	var t block.Transfer
	err := row.Scan(&t.ID, &t.Project, &t.VolumeID, &t.Name, &t.NoSnapshots, &t.Lock.Salt, &t.Lock.Hash,
		asTime(&t.CreatedAt))
	return t, err
}
