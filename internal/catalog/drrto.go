package catalog

import (
	"kvol/internal/block"
)

// MaxRTOs is how many are kept.
const MaxRTOs = 5000

// InsertRTO keeps how long a recovery took, once for each kind and rowkey, and
// lets the oldest go that are too many.
func (tx *Tx) InsertRTO(r block.RTO) error {
	_, err := tx.exec(`INSERT INTO dr_rtos (kind, rowkey, at, rto) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		r.Kind, r.Rowkey, micros(r.At), jsonText(r))
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM dr_rtos WHERE at < (SELECT MIN(at) FROM
		(SELECT at FROM dr_rtos ORDER BY at DESC LIMIT $1) AS newest)`, MaxRTOs)
	return err
}

// RTOs returns at most limit of them, the newest first.
func (tx *Tx) RTOs(limit int) ([]block.RTO, error) {
	return collect(tx, func(row scanner) (r block.RTO, err error) {
		err = row.Scan(asJSON(&r))
		return r, err
	}, `SELECT rto FROM dr_rtos ORDER BY at DESC, rowkey DESC LIMIT $1`, limit)
}

// UnkeptRTOs returns jobs that ended well and
// of which it is not kept how long they took, at most limit, the newest first.
func (tx *Tx) UnkeptRTOs(limit int) ([]block.DRJob, error) {
	return collect(tx, scanDRJob, `SELECT j.job FROM dr_jobs j
		LEFT JOIN dr_rtos r ON r.kind = j.kind AND r.rowkey = j.rowkey
		WHERE r.kind IS NULL AND j.job LIKE $1 ORDER BY j.started_at DESC LIMIT $2`,
		`%"status":"`+string(block.DRSuccess)+`"%`, limit)
}
