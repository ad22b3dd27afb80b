package catalog

import (
	"cmp"
	"context"
	"strings"
	"time"

	"kvol/internal/audit"
	"kvol/internal/block"
)

// maxAuditParams is how much of a record's Params is kept, in bytes.
const maxAuditParams = 4096

// InsertAudit appends a record to the audit log, after all that are there. Its
// number and hash are given by the catalog; its time is the transaction's where
// a.At is zero. Who asks, from where and with which roles is taken from the
// transaction's context as far as a does not say it.
func (tx *Tx) InsertAudit(a block.Audit) error {
	if a.At.IsZero() {
		a.At = tx.Now
	}
	if r, ok := block.RequesterOf(tx.ctx); ok && (a.User == "" || a.User == string(r.User)) {
		a.User, a.Remote, a.Project = string(r.User), cmp.Or(a.Remote, r.Remote), cmp.Or(a.Project, r.Project)
		if a.Roles == nil {
			a.Roles = r.Roles
		}
	}
	a.User = cmp.Or(a.User, "kvol")
	a.Params = strings.ToValidUTF8(a.Params[:min(len(a.Params), maxAuditParams)], "")
	head, err := tx.AuditHead()
	if err != nil {
		return err
	}
	r, err := head.Add(a)
	if err != nil {
		return err
	}
	if _, err := tx.exec(`INSERT INTO audit_log (seq, at, call, operation_id, body, hash) VALUES ($1, $2, $3, $4, $5, $6)`,
		r.Seq, micros(r.At), r.Call, r.Op, r.Body, r.Hash.String()); err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE audit_head SET seq = $1, hash = $2`, r.Seq, r.Hash.String())
	return err
}

// AuditHead is the last record of the audit log as it is kept beside the
// records.
func (tx *Tx) AuditHead() (h audit.Head, err error) {
	err = tx.queryRow(`SELECT seq, hash FROM audit_head`).Scan(&h.Seq, asHash(&h.Hash))
	return h, err
}

func asHash(into *audit.Hash) column {
	return func(src any) error {
		var text string
		if err := assign(&text, src); err != nil {
			return err
		}
		return into.UnmarshalText([]byte(text))
	}
}

// asTold is asHash for what may have been changed by hand: what is no hash is
// one that fits nothing.
func asTold(into *audit.Hash) column {
	return func(src any) error {
		var text string
		if err := assign(&text, src); err != nil || into.UnmarshalText([]byte(text)) != nil {
			*into = audit.Hash{}
		}
		return nil
	}
}

// AuditQuery chooses records of the audit log.
type AuditQuery struct {
	Before    int64  // only records with a lower number; 0 for all
	Operation string // only those about an operation or failover; "" for all
	Call      string // only those of calls that begin with it; "" for all
	Limit     int
}

const auditColumns = `seq, at, call, operation_id, body, hash`

func scanAudit(row scanner) (r audit.Row, err error) {
	err = row.Scan(&r.Seq, asTime(&r.At), &r.Call, &r.Op, &r.Body, asTold(&r.Hash))
	return r, err
}

// Audits returns the newest records first. One that can't be read says so in its
// Outcome.
func (tx *Tx) Audits(q AuditQuery) ([]block.Audit, error) {
	rows, err := collect(tx, scanAudit, `SELECT `+auditColumns+` FROM audit_log
		WHERE ($1 <= 0 OR seq < $1) AND ($2 = '' OR operation_id = $2) AND ($3 = '' OR substr(call, 1, length($3)) = $3)
		ORDER BY seq DESC LIMIT $4`, q.Before, q.Operation, q.Call, q.Limit)
	all := make([]block.Audit, 0, len(rows))
	for _, r := range rows {
		a, err := r.Record()
		if err != nil {
			a = block.Audit{ID: r.Seq, At: r.At, Call: r.Call, Operation: r.Op, Outcome: "It is not what was written."}
		}
		all = append(all, a)
	}
	return all, err
}

// AuditRows returns records as they are kept, after one, the oldest first.
func (tx *Tx) AuditRows(after int64, limit int) ([]audit.Row, error) {
	return collect(tx, scanAudit, `SELECT `+auditColumns+` FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT $2`,
		after, limit)
}

// AuditSeal tells of records that went into a file and out of the catalog.
type AuditSeal struct {
	First   int64      `json:"first"`
	Last    audit.Head `json:"last"`
	File    string     `json:"file"`
	Sum     string     `json:"sha256"` // of the file, in hexadecimal digits
	Records int64      `json:"records"`
	At      time.Time  `json:"at"`
}

// AuditSeals lists what was sealed, the oldest first.
func (tx *Tx) AuditSeals() ([]AuditSeal, error) {
	return collect(tx, func(row scanner) (s AuditSeal, err error) {
		err = row.Scan(&s.First, &s.Last.Seq, asTold(&s.Last.Hash), &s.File, &s.Sum, asTime(&s.At))
		s.Records = s.Last.Seq - s.First + 1
		return s, err
	}, `SELECT first, last, hash, file, sha256, at FROM audit_seals ORDER BY last`)
}

// SealAudit notes that records are in a file, and lets them go. The note is
// itself in the log: what says that records may be absent is in the chain.
func (tx *Tx) SealAudit(s AuditSeal, note block.Audit) error {
	if err := tx.InsertAudit(note); err != nil {
		return err
	}
	if _, err := tx.exec(`INSERT INTO audit_seals (first, last, hash, file, sha256, at) VALUES ($1, $2, $3, $4, $5, $6)`,
		s.First, s.Last.Seq, s.Last.Hash.String(), s.File, s.Sum, micros(tx.Now)); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM audit_log WHERE seq <= $1`, s.Last.Seq)
	return err
}

// AuditBefore returns the newest record of before a time, or, where there are a
// tenth more than most, the newest that is too many; 0 for none. The tenth is so
// that the note that something was sealed is no reason to seal more.
func (tx *Tx) AuditBefore(before time.Time, most int64) (seq int64, err error) {
	var last, oldest int64
	err = tx.queryRow(`SELECT COALESCE((SELECT MAX(seq) FROM audit_log WHERE at < $1), 0), seq,
		COALESCE((SELECT MIN(seq) FROM audit_log), 1) FROM audit_head`, micros(before)).Scan(&seq, &last, &oldest)
	if last-most-max(seq, oldest-1) > most/10 {
		seq = last - most
	}
	return seq, err
}

// oldCalls are how many calls of the log of before there was a chain are taken
// over in one transaction.
const oldCalls = 5000

// adoptCalls takes calls of the kvol API that were written down before there was
// a chain into it.
func (c *Catalog) adoptCalls(ctx context.Context) error {
	for more := true; more; {
		err := c.Update(ctx, func(tx *Tx) error {
			old, err := collect(tx, func(row scanner) (a block.Audit, err error) {
				err = row.Scan(&a.ID, asTime(&a.At), &a.User, &a.Remote, &a.Call, &a.Params, &a.Code, &a.Rowkey)
				return a, err
			}, `SELECT id, at, caller, remote, call, params, code, rowkey FROM audit ORDER BY id LIMIT $1`, oldCalls)
			for _, a := range old {
				a.Params = strings.ToValidUTF8(a.Params, "")
				if err := tx.InsertAudit(a); err != nil {
					return err
				}
			}
			if more = len(old) == oldCalls; err != nil || len(old) == 0 {
				return err
			}
			_, err = tx.exec(`DELETE FROM audit WHERE id <= $1`, old[len(old)-1].ID)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
