package catalog

import (
	"time"

	"kvol/internal/block"
)

// Relay is how far a replica of this zone was sent on to a third one.
type Relay struct {
	Replica    block.VolumeID
	Protection int64       // the relay's Seq
	Confirmed  block.Point // the newest that the third zone holds for certain; zero before the first
	Seen       time.Time   // the replica's UpdatedAt of which the third zone knows
	Current    time.Time   // what the third zone was told of the source's clock
	Gone       bool        // it knows that the volume was deleted
	Error      string      // of the last attempt, for operators; "" after one that succeeded
	BytesSent  int64       // on the wire
}

const relayColumns = `replica_id, protection, confirmed, seen_at, current_at, gone, error, bytes_sent`

func scanRelay(row scanner) (r Relay, err error) {
	var confirmed *block.Point
	err = row.Scan(&r.Replica, &r.Protection, asJSON(&confirmed), asTime(&r.Seen), asTime(&r.Current), &r.Gone, &r.Error,
		&r.BytesSent)
	if confirmed != nil {
		r.Confirmed = *confirmed
	}
	return r, err
}

// PutRelay writes how far a replica was sent on, new or not.
func (tx *Tx) PutRelay(r Relay) error {
	_, err := tx.exec(`INSERT INTO relays (`+relayColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (replica_id, protection) DO UPDATE SET confirmed = $3, seen_at = $4, current_at = $5, gone = $6,
		error = $7, bytes_sent = $8`,
		string(r.Replica), r.Protection, pointOrNull(r.Confirmed), micros(r.Seen), micros(r.Current), r.Gone, r.Error,
		r.BytesSent)
	return err
}

// Relays lists how far all replicas were sent on, in order of replica.
func (tx *Tx) Relays() ([]Relay, error) {
	return collect(tx, scanRelay, `SELECT `+relayColumns+` FROM relays ORDER BY replica_id, protection`)
}

// DeleteRelay forgets how far a replica was sent on.
func (tx *Tx) DeleteRelay(replica block.VolumeID, protection int64) error {
	_, err := tx.exec(`DELETE FROM relays WHERE replica_id = $1 AND protection = $2`, string(replica), protection)
	return err
}
