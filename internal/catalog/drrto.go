package catalog

import (
	"cmp"
	"strconv"

	"kvol/internal/block"
)

// MaxRTOs is how many are kept.
const MaxRTOs = 5000

// InsertRTO keeps how long a recovery took, once for each kind and subject (or
// rowkey, where it has no subject), and lets the oldest go that are too many.
func (tx *Tx) InsertRTO(r block.RTO) error {
	r.Subject = cmp.Or(r.Subject, strconv.FormatInt(r.Rowkey, 10))
	_, err := tx.exec(`INSERT INTO dr_rtos (kind, subject, at, rto) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		r.Kind, r.Subject, micros(r.At), jsonText(r))
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
	}, `SELECT rto FROM dr_rtos ORDER BY at DESC, kind, subject LIMIT $1`, limit)
}

// UnkeptRTOs returns jobs that ended well and of which it is not kept how long
// they took, at most limit, the newest first.
func (tx *Tx) UnkeptRTOs(limit int) ([]block.DRJob, error) {
	return collect(tx, scanDRJob, `SELECT j.job FROM dr_jobs j
		LEFT JOIN dr_rtos r ON r.kind = j.kind AND r.subject = CAST(j.rowkey AS TEXT)
		WHERE r.kind IS NULL AND j.job LIKE $1 ORDER BY j.started_at DESC LIMIT $2`,
		`%"status":"`+string(block.DRSuccess)+`"%`, limit)
}

// UnkeptFailovers is the same of planned failovers.
func (tx *Tx) UnkeptFailovers(limit int) ([]block.Failover, error) {
	return collect(tx, scanFailover, `SELECT f.failover FROM failovers f
		LEFT JOIN dr_rtos r ON r.kind = $1 AND r.subject = f.id
		WHERE r.kind IS NULL AND f.failover ->> '$.phase' = $2 ORDER BY f.started_at DESC LIMIT $3`,
		block.RTOFailover, string(block.FailoverDone), limit)
}
