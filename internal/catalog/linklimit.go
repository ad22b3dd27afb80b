package catalog

import (
	"encoding/json"
	"time"

	"kvol/internal/block"
)

// LinkLimit is how much may be sent to a zone, in all or under one protection.
type LinkLimit struct {
	Zone       block.Zone // the destination
	Protection int64      // Seq; 0 for all together
	Limits     json.RawMessage
	By         string // who set it
	UpdatedAt  time.Time
}

// PutLinkLimit writes a limit, new or not, and sets UpdatedAt to Now.
func (tx *Tx) PutLinkLimit(l LinkLimit) error {
	_, err := tx.exec(`INSERT INTO link_limits (zone, protection, limits, changed_by, updated_at)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (zone, protection) DO UPDATE SET limits = $3, changed_by = $4, updated_at = $5`,
		string(l.Zone), l.Protection, string(l.Limits), l.By, tx.Now.UnixMicro())
	return err
}

// DeleteLinkLimit removes a limit; NotFound where there is none.
func (tx *Tx) DeleteLinkLimit(zone block.Zone, protection int64) error {
	n, err := tx.exec(`DELETE FROM link_limits WHERE zone = $1 AND protection = $2`, string(zone), protection)
	return changed(n, err, "No limit is set there.")
}

// LinkLimits lists all limits in order of zone and protection.
func (tx *Tx) LinkLimits() ([]LinkLimit, error) {
	return collect(tx, func(row scanner) (l LinkLimit, err error) {
		var text string
		err = row.Scan(&l.Zone, &l.Protection, &text, &l.By, asTime(&l.UpdatedAt))
		l.Limits = json.RawMessage(text)
		return l, err
	}, `SELECT zone, protection, limits, changed_by, updated_at FROM link_limits ORDER BY zone, protection`)
}
