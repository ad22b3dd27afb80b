package catalog

import (
	"time"

	"kvol/internal/audit"
	"kvol/internal/block"
)

// AuditTold is a record of another zone's audit log that this one was told of.
type AuditTold struct {
	Zone block.Zone `json:"zone"`
	audit.Head
	At time.Time `json:"at"` // when, on this zone's clock
}

const (
	// toldInFull are how many of the newest heads of a zone are kept; of older ones
	// the last of each day, and maxTold in all.
	toldInFull = 64
	maxTold    = 1000
	microsADay = 24 * 60 * 60 * 1000000
)

// PutAuditTold keeps a head of another zone's audit log beside those from before.
func (tx *Tx) PutAuditTold(zone block.Zone, h audit.Head) error {
	if _, err := tx.exec(`INSERT INTO audit_told (zone, seq, hash, at) VALUES ($1, $2, $3, $4)`,
		string(zone), h.Seq, h.Hash.String(), micros(tx.Now)); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM audit_told WHERE zone = $1 AND
		seq < COALESCE((SELECT seq FROM audit_told WHERE zone = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2), 0) AND
		(EXISTS (SELECT 1 FROM audit_told n WHERE n.zone = $1 AND n.seq > audit_told.seq AND n.at / $3 = audit_told.at / $3)
		OR seq < COALESCE((SELECT seq FROM audit_told WHERE zone = $1 ORDER BY seq DESC LIMIT 1 OFFSET $4), 0))`,
		string(zone), toldInFull-1, microsADay, maxTold-1)
	return err
}

// AuditTold lists what a zone told of its audit log, the newest first, at most
// limit; of all zones for "".
func (tx *Tx) AuditTold(zone block.Zone, limit int) ([]AuditTold, error) {
	return collect(tx, func(row scanner) (t AuditTold, err error) {
		err = row.Scan(&t.Zone, &t.Seq, asTold(&t.Hash), asTime(&t.At))
		return t, err
	}, `SELECT zone, seq, hash, at FROM audit_told WHERE ($1 = '' OR zone = $1) ORDER BY zone, seq DESC LIMIT $2`,
		string(zone), limit)
}

// AuditBroken says why the audit log of another zone is not believed.
type AuditBroken struct {
	Zone block.Zone
	At   time.Time
	Why  string
}

// AuditBroken lists the zones whose audit logs are not believed, by name.
func (tx *Tx) AuditBroken() ([]AuditBroken, error) {
	return collect(tx, func(row scanner) (b AuditBroken, err error) {
		err = row.Scan(&b.Zone, asTime(&b.At), &b.Why)
		return b, err
	}, `SELECT zone, at, why FROM audit_broken ORDER BY zone`)
}

// BreakAudit notes why a zone's audit log is not believed any more; the first
// reason stays.
func (tx *Tx) BreakAudit(zone block.Zone, why string) error {
	_, err := tx.exec(`INSERT INTO audit_broken (zone, at, why) VALUES ($1, $2, $3) ON CONFLICT (zone) DO NOTHING`,
		string(zone), micros(tx.Now), why)
	return err
}

// ForgetAuditTold begins anew with a zone's audit log.
func (tx *Tx) ForgetAuditTold(zone block.Zone) error {
	if _, err := tx.exec(`DELETE FROM audit_told WHERE zone = $1`, string(zone)); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM audit_broken WHERE zone = $1`, string(zone))
	return err
}
