package catalog

import (
	"time"

	"kvol/internal/block"
)

// InsertAudit appends a call to the audit log. Its id is given by the catalog;
// its time is the transaction's where a.At is zero.
func (tx *Tx) InsertAudit(a block.Audit) error {
	if a.At.IsZero() {
		a.At = tx.Now
	}
	_, err := tx.exec(`INSERT INTO audit (at, caller, remote, call, params, code, rowkey)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		micros(a.At), a.User, a.Remote, a.Call, a.Params, a.Code, a.Rowkey)
	return err
}

// Audits returns at most limit calls, the newest first.
func (tx *Tx) Audits(limit int) ([]block.Audit, error) {
	return collect(tx, func(row scanner) (a block.Audit, err error) {
		err = row.Scan(&a.ID, asTime(&a.At), &a.User, &a.Remote, &a.Call, &a.Params, &a.Code, &a.Rowkey)
		return a, err
	}, `SELECT id, at, caller, remote, call, params, code, rowkey FROM audit
		ORDER BY id DESC LIMIT $1`, limit)
}

// PruneAudit forgets the calls before a time.
func (tx *Tx) PruneAudit(before time.Time) error {
	_, err := tx.exec(`DELETE FROM audit WHERE at < $1`, micros(before))
	return err
}
