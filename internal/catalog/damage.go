package catalog

import "kvol/internal/block"

// maxOldDamages is how many damages that are over are kept as a record.
const maxOldDamages = 10_000

// PutDamage writes what is known of damage at a place of a store now. Found is
// kept while the alarm stands; Changed becomes Now. Of damages that are over
// only the newest maxOldDamages are kept.
func (tx *Tx) PutDamage(d block.Damage) error {
	_, err := tx.exec(`INSERT INTO damages (store, place, what, volume_id, off, length, segment, segment_at, state,
			reason, found_at, changed_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
		ON CONFLICT (store, place) DO UPDATE SET
			found_at = CASE WHEN damages.state = $12 THEN damages.found_at
				WHEN excluded.state = $12 THEN excluded.found_at ELSE damages.found_at END,
			what = excluded.what, volume_id = excluded.volume_id, off = excluded.off, length = excluded.length,
			segment = excluded.segment, segment_at = excluded.segment_at, state = excluded.state,
			reason = excluded.reason, changed_at = excluded.changed_at`,
		d.Store, d.Place, d.What, string(d.Volume), d.Off, d.Len, int64(d.Segment), d.SegmentAt, d.State, d.Reason,
		micros(tx.Now), block.DamageStands)
	if err != nil || d.State == block.DamageStands {
		return err
	}
	_, err = tx.exec(`DELETE FROM damages WHERE state <> $1 AND changed_at < (SELECT MIN(changed_at) FROM
		(SELECT changed_at FROM damages WHERE state <> $1 ORDER BY changed_at DESC LIMIT $2) AS newest)`,
		block.DamageStands, maxOldDamages)
	return err
}

// Damages lists damages of a store, the newest change first, at most limit:
// those whose alarm stands, or with over also those that are healed or gone.
func (tx *Tx) Damages(store string, over bool, limit int) ([]block.Damage, error) {
	return collect(tx, scanDamage, `SELECT store, place, what, volume_id, off, length, segment, segment_at, state,
		reason, found_at, changed_at FROM damages WHERE store = $1 AND ($2 OR state = $3)
		ORDER BY changed_at DESC, place LIMIT $4`, store, over, block.DamageStands, limit)
}

func scanDamage(row scanner) (d block.Damage, err error) {
	err = row.Scan(&d.Store, &d.Place, &d.What, &d.Volume, &d.Off, &d.Len, &d.Segment, &d.SegmentAt, &d.State,
		&d.Reason, asTime(&d.Found), asTime(&d.Changed))
	return d, err
}
