package catalog

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"kvol/internal/block"
)

const (
	noJob = "Job %d could not be found."

	jobColumns = `id, kind, subject, args, state, step, done, total, attempts, error, evidence, run_at, created_at,
		started_at, ended_at, request_id, token, backend, beside`
)

// EnqueueJob adds a job, to run at RunAt or at once. It exists if and only if
// the transaction commits. Of j it reads Kind, Subject, Args, Step, Total, RunAt,
// Backend and Beside; the request is the transaction's (block.RequestID). A job
// without a Backend is on that of its subject, if that tells one, and goes to another
// one with the subject's volume.
func (tx *Tx) EnqueueJob(j block.Job) (block.JobID, error) {
	id, err := tx.Next("jobs")
	if err != nil {
		return 0, err
	}
	if j.RunAt.IsZero() {
		j.RunAt = tx.Now
	}
	_, err = tx.exec(`INSERT INTO jobs (id, kind, subject, args, state, step, done, total, attempts, error, owner,
			due_at, run_at, created_at, request_id, backend, beside, stays)
		VALUES ($1, $2, $3, $4, $5, $6, 0, $7, 0, '', '', $8, $8, $9, $10,
			COALESCE(NULLIF(CAST($11 AS TEXT), ''), `+backendOf("CAST($3 AS TEXT)")+`), $12, $13)`,
		id, j.Kind, j.Subject, document(j.Args), block.JobReady, j.Step, j.Total, micros(j.RunAt), micros(tx.Now),
		block.RequestID(tx.ctx), j.Backend, j.Beside, j.Backend != "")
	tx.jobs = true
	return block.JobID(id), err
}

// backendOf is the backend of the volume that a subject names: its id, which may be
// followed by a word, or that of what belongs to volumes; the empty text for none.
// Migration 0340 does the same for jobs that were there before.
func backendOf(subject string) string {
	return `COALESCE(
	(SELECT backend FROM volumes WHERE id = substr(` + subject + `, 1, 36)),
	(SELECT v.backend FROM snapshots s JOIN volumes v ON v.id = s.volume_id WHERE s.id = ` + subject + `),
	(SELECT v.backend FROM backups b JOIN volumes v ON v.id = b.volume_id WHERE b.id = ` + subject + `),
	(SELECT MIN(backend) FROM volumes WHERE group_id = ` + subject + `),
	(SELECT MIN(v.backend) FROM snapshots s JOIN volumes v ON v.id = s.volume_id
		WHERE s.group_snapshot_id = ` + subject + `), '')`
}

// ClaimJob takes the job that is due longest, of the given kinds: one that is
// ready, or one that runs and whose lease is over. It is then running and held
// by owner until the lease ends, the attempt is counted, and the job has a token
// that nobody had before, for Holding. Jobs that need the same as others in busy are
// left alone; they cost a claim nothing, however many are due. ok is false if none is
// due.
func (tx *Tx) ClaimJob(
	owner string, lease time.Duration, kinds []string, busy ...block.Needs,
) (j block.Job, ok bool, err error) {
	due, args := tx.dueJob(), []any{
		block.JobRunning, owner, micros(tx.Now.Add(lease)), micros(tx.Now), jsonText(kinds),
	}
	if len(busy) > 0 {
		var needs []string
		for _, n := range busy {
			needs = append(needs, n.Backend+"\n"+n.Beside)
		}
		due, args = tx.dueBeside(), append(args, jsonText(needs))
	}
	j, err = scanJob(tx.queryRow(`UPDATE jobs SET state = $1, owner = $2, due_at = $3, started_at = $4,
			attempts = attempts + 1, token = token + 1
		WHERE id = (`+due+`)
		RETURNING `+jobColumns, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return block.Job{}, false, nil
	}
	return j, err == nil, err
}

// dueOf are the jobs of some kinds, $5, that are due at $4, and of which more is true,
// the one that is due longest first. The empty text keeps it off the index of kinds, by
// which all open jobs would be sorted.
func (tx *Tx) dueOf(more string) string {
	return "SELECT id FROM jobs WHERE ended_at IS NULL AND due_at <= $4 AND " + more +
		tx.oneOf("kind || ''", "$5") + " ORDER BY due_at, id LIMIT 1"
}

// dueJob finds the job that is due longest.
func (tx *Tx) dueJob() string { return tx.dueOf("") }

// dueBeside finds the job that is due longest of those that need other backends than $6
// has, the two of each with a line's end between them. It goes from one pair of
// backends that open jobs need to the next, by the index, and looks at the first job of
// each.
func (tx *Tx) dueBeside() string {
	// One comparison of both columns SQLite would make by the first of them alone.
	next := func(column string) string {
		from := "(SELECT " + column + " FROM jobs WHERE ended_at IS NULL AND "
		return "COALESCE(" + from + "backend = pairs.of AND beside > pairs.other ORDER BY beside LIMIT 1), " +
			from + "backend > pairs.of ORDER BY backend, beside LIMIT 1))"
	}
	return `WITH RECURSIVE pairs (of, other) AS (
		SELECT backend, beside FROM (SELECT backend, beside FROM jobs WHERE ended_at IS NULL
			ORDER BY backend, beside LIMIT 1) AS least
		UNION ALL SELECT ` + next("backend") + ", " + next("beside") + ` FROM pairs WHERE pairs.of IS NOT NULL)
	SELECT id FROM jobs WHERE id IN (
		SELECT (` + tx.dueOf("backend = pairs.of AND beside = pairs.other AND ") + `) FROM pairs
		WHERE pairs.of IS NOT NULL AND NOT ` + tx.oneOf("(pairs.of || '\n' || pairs.other)", "$6") + `)
	ORDER BY due_at, id LIMIT 1`
}

// RenewJob lets the owner hold a job for another lease from Now. This and all
// other methods with an owner fail with Stale where the owner does not hold
// the job: it ended, or somebody else claimed it after the lease was over.
func (tx *Tx) RenewJob(id block.JobID, owner string, lease time.Duration) error {
	return held(id, owner)(tx.exec("UPDATE jobs SET due_at = $4 WHERE id = $1 AND owner = $2 AND state = $3",
		id, owner, block.JobRunning, micros(tx.Now.Add(lease))))
}

// JobProgress notes what a job is doing, and how much of it is done, in bytes.
func (tx *Tx) JobProgress(id block.JobID, owner, step string, done, total int64) error {
	return held(id, owner)(tx.exec(`UPDATE jobs SET step = $4, done = $5, total = $6
		WHERE id = $1 AND owner = $2 AND state = $3`, id, owner, block.JobRunning, step, done, total))
}

// FinishJob ends a job as done or failed, with what was seen.
func (tx *Tx) FinishJob(
	id block.JobID, owner string, to block.JobState, errText string, evidence json.RawMessage,
) error {
	return held(id, owner)(tx.exec(`UPDATE jobs SET state = $4, error = $5, evidence = $6, ended_at = $7, owner = ''
		WHERE id = $1 AND owner = $2 AND state = $3`,
		id, owner, block.JobRunning, to, errText, document(evidence), micros(tx.Now)))
}

// RetryJob gives a job back, to be run again not before a time. The attempt
// stays counted.
func (tx *Tx) RetryJob(id block.JobID, owner string, at time.Time, errText string) error {
	return tx.giveBack(id, owner, at, errText, 0)
}

// SnoozeJob gives a job back, to be run again not before a time. The attempt
// is not counted.
func (tx *Tx) SnoozeJob(id block.JobID, owner string, until time.Time, errText string) error {
	return tx.giveBack(id, owner, until, errText, 1)
}

func (tx *Tx) giveBack(id block.JobID, owner string, at time.Time, errText string, uncount int) error {
	tx.jobs = true
	return held(id, owner)(tx.exec(`UPDATE jobs SET state = $4, owner = '', due_at = $5, run_at = $5, error = $6,
			attempts = attempts - $7 WHERE id = $1 AND owner = $2 AND state = $3`,
		id, owner, block.JobRunning, block.JobReady, micros(at), errText, uncount))
}

// ReclaimJobs makes all jobs that an owner holds due at once. A process calls
// it when it starts under the name of one that was killed. The attempts stay
// counted, so that a job that kills its process is given up at last.
func (tx *Tx) ReclaimJobs(owner string) error {
	tx.jobs = true
	_, err := tx.exec(`UPDATE jobs SET state = $3, owner = '', due_at = $4
		WHERE ended_at IS NULL AND owner = $1 AND state = $2`,
		owner, block.JobRunning, block.JobReady, micros(tx.Now))
	return err
}

// Job returns a job.
func (tx *Tx) Job(id block.JobID) (block.Job, error) {
	j, err := scanJob(tx.queryRow("SELECT "+jobColumns+" FROM jobs WHERE id = $1", id))
	return j, notFound(err, noJob, id)
}

// JobsOf returns the jobs that worked or will work on a thing, the oldest
// first.
func (tx *Tx) JobsOf(subject string) ([]block.Job, error) {
	return collect(tx, scanJob, "SELECT "+jobColumns+" FROM jobs WHERE subject = $1 ORDER BY id", subject)
}

// OpenJobs returns the jobs of a kind that have not ended, the oldest first.
func (tx *Tx) OpenJobs(kind string) ([]block.Job, error) {
	return collect(tx, scanJob, "SELECT "+jobColumns+" FROM jobs WHERE ended_at IS NULL AND kind = $1 ORDER BY id", kind)
}

// NextJobAt tells when the next job can be claimed, as far as is known now; ok
// is false if there is none.
func (tx *Tx) NextJobAt() (at time.Time, ok bool, err error) {
	err = tx.queryRow("SELECT MIN(due_at) FROM jobs WHERE ended_at IS NULL").Scan(asTime(&at))
	return at, !at.IsZero(), err
}

// NextJobAfter is NextJobAt without what is due already.
func (tx *Tx) NextJobAfter(now time.Time) (at time.Time, ok bool, err error) {
	err = tx.queryRow("SELECT MIN(due_at) FROM jobs WHERE ended_at IS NULL AND due_at > $1", micros(now)).Scan(asTime(&at))
	return at, !at.IsZero(), err
}

// PruneJobs forgets jobs that ended before a time, at most limit of them, and
// tells how many it forgot.
func (tx *Tx) PruneJobs(before time.Time, limit int) (int64, error) {
	res, err := tx.exec(`DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE ended_at < $1
		ORDER BY ended_at LIMIT $2)`, micros(before), limit)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// held turns an exec that touched no job into a Stale error.
func held(id block.JobID, owner string) func(sql.Result, error) error {
	return func(res sql.Result, err error) error {
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err == nil && n == 0 {
			return block.Errorf(block.Stale, "Job %d is not held by %s.", id, owner)
		}
		return err
	}
}

// document is the form of JSON that exists already in a TEXT column.
func document(text json.RawMessage) any {
	if len(text) == 0 {
		return nil
	}
	return string(text)
}

func scanJob(row scanner) (block.Job, error) {
	var j block.Job
	var args, evidence []byte
	err := row.Scan(&j.ID, &j.Kind, &j.Subject, &args, &j.State, &j.Step, &j.Done, &j.Total, &j.Attempts, &j.Error,
		&evidence, asTime(&j.RunAt), asTime(&j.Created), asTime(&j.Started), asTime(&j.Ended), &j.RequestID, &j.Token,
		&j.Backend, &j.Beside)
	j.Args, j.Evidence = args, evidence
	return j, err
}
