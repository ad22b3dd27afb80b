package catalog

import "kvol/internal/block"

// InsertDRJob writes a new job of the kvol API. A rowkey that is taken, or an
// idempotency key that another job of the kind was started with, is a
// Conflict.
func (tx *Tx) InsertDRJob(j block.DRJob) error {
	res, err := tx.exec(`INSERT INTO dr_jobs (kind, rowkey, started_at, idempotency_key, job)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		string(j.Request.Kind), j.Rowkey, micros(j.Start), j.Request.IdempotencyKey, jsonText(j))
	err = changed(res, err, "taken")
	if block.Is(err, block.NotFound) {
		return block.Errorf(block.Conflict, "A %s job with rowkey %d or with this idempotency key exists.",
			j.Request.Kind, j.Rowkey)
	}
	return err
}

// UpdateDRJob writes what may change of a job: all but its kind, rowkey, start
// and idempotency key. It is NotFound if there is none.
func (tx *Tx) UpdateDRJob(j block.DRJob) error {
	res, err := tx.exec(`UPDATE dr_jobs SET job = $1 WHERE kind = $2 AND rowkey = $3`,
		jsonText(j), string(j.Request.Kind), j.Rowkey)
	return changed(res, err, noDRJob, j.Request.Kind, j.Rowkey)
}

const noDRJob = "No %s job has rowkey %d."

// DRJob returns a job by its rowkey, NotFound if this zone has none.
func (tx *Tx) DRJob(kind block.DRKind, rowkey int64) (block.DRJob, error) {
	j, err := scanDRJob(tx.queryRow(`SELECT job FROM dr_jobs WHERE kind = $1 AND rowkey = $2`, string(kind), rowkey))
	return j, notFound(err, noDRJob, kind, rowkey)
}

// DRJobWithKey returns the job that was started with an idempotency key,
// NotFound if there is none.
func (tx *Tx) DRJobWithKey(kind block.DRKind, key string) (block.DRJob, error) {
	j, err := scanDRJob(tx.queryRow(`SELECT job FROM dr_jobs
		WHERE kind = $1 AND idempotency_key = $2 AND idempotency_key <> ''`, string(kind), key))
	return j, notFound(err, "No %s job was started with this idempotency key.", kind)
}

// DRJobs returns at most limit jobs of a kind, the newest first.
func (tx *Tx) DRJobs(kind block.DRKind, limit int) ([]block.DRJob, error) {
	return collect(tx, scanDRJob, `SELECT job FROM dr_jobs WHERE kind = $1
		ORDER BY started_at DESC, rowkey DESC LIMIT $2`, string(kind), limit)
}

func scanDRJob(row scanner) (j block.DRJob, err error) {
	err = row.Scan(asJSON(&j))
	return j, err
}
