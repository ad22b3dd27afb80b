package catalog

import (
	"time"

	"kvol/internal/block"
)

// LinkState says how a link stands.
type LinkState string

// The states of a link. A link in LinkError is tried again by itself; one in
// LinkFenced never sends again.
const (
	LinkNew     LinkState = "new"     // no point is confirmed yet
	LinkCurrent LinkState = "current" // the newest point that was cut is confirmed
	LinkSending LinkState = "sending" // a point is under way
	LinkError   LinkState = "error"   // the last attempt failed
	LinkFenced  LinkState = "fenced"  // the volume was recovered in another zone
	LinkPaused  LinkState = "paused"  // its group was taken out of replication
)

// Link is the source's side of a volume under a protection.
type Link struct {
	Volume     block.VolumeID
	Protection int64 // Seq
	State      LinkState
	// Confirmed is the newest point that the target holds for certain; zero
	// before the first. Sum is its root sum and Changes the driver's change count
	// when it was cut.
	Confirmed block.Point
	Sum       block.RootHash
	Changes   uint64
	// Target is a point that was cut and is not confirmed; TargetChanges is the
	// driver's change count when it was cut.
	Target        *block.Point
	TargetChanges uint64
	// Current is the instant on this zone's clock as of which the target is known
	// to have the volume's content.
	Current   time.Time
	EntryHash string // of the catalog entry that the target has
	Error     string // of the last attempt, for operators; "" after one that succeeded
	BytesSent int64  // on the wire, since the link was made
	Gone      bool   // the volume was deleted; the target must still be told
	// Whole says why the first copy had to be a whole one though the target's zone
	// is the one that the volume was recovered from; "" if it need not be.
	Whole string
	// Mirrored says that the volume's cluster was told to mirror it for this link.
	// Transport is how the bytes of the confirmed point went.
	Mirrored  bool
	Transport block.Transport
	CreatedAt time.Time
	UpdatedAt time.Time
}

const linkColumns = `volume_id, protection, state, confirmed, sum, changes, target, target_changes, current_at,
	entry_hash, error, bytes_sent, gone, whole, mirrored, transport,
	created_at, updated_at`

func scanLink(row scanner) (l Link, err error) {
	var confirmed *block.Point
	var changes, targetChanges int64 // bits of unsigned numbers
	err = row.Scan(&l.Volume, &l.Protection, &l.State, asJSON(&confirmed), asRoot(&l.Sum), &changes,
		asJSON(&l.Target), &targetChanges, asTime(&l.Current), &l.EntryHash, &l.Error, &l.BytesSent, &l.Gone, &l.Whole,
		&l.Mirrored, &l.Transport, asTime(&l.CreatedAt), asTime(&l.UpdatedAt))
	if confirmed != nil {
		l.Confirmed = *confirmed
	}
	l.Changes, l.TargetChanges = uint64(changes), uint64(targetChanges)
	return l, err
}

// PutLink writes a link, new or not, and sets UpdatedAt to Now. It never takes
// back that the volume is gone.
func (tx *Tx) PutLink(l Link) error {
	var target any
	if l.Target != nil {
		target = jsonText(l.Target)
	}
	_, err := tx.exec(`INSERT INTO links (`+linkColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)
		ON CONFLICT (volume_id, protection) DO UPDATE SET state = $3, confirmed = $4, sum = $5, changes = $6,
		target = $7, target_changes = $8, current_at = $9, entry_hash = $10, error = $11, bytes_sent = $12,
		gone = links.gone OR $13, whole = $14, mirrored = $15, transport = $16, updated_at = $17`,
		string(l.Volume), l.Protection, string(l.State), pointOrNull(l.Confirmed), l.Sum.String(), int64(l.Changes),
		target, int64(l.TargetChanges), micros(l.Current), l.EntryHash, l.Error, l.BytesSent, l.Gone,
		l.Whole, l.Mirrored, string(l.Transport), tx.Now.UnixMicro())
	if err != nil {
		return err
	}
	return tx.TellReplication(l.Volume)
}

// TellReplication has a volume say how its replication stands: enabled while it
// has links, error while one of them fails. One that is moved to another zone or
// lives there says that, whatever its links.
func (tx *Tx) TellReplication(volume block.VolumeID) error {
	const truth = `CASE
		WHEN EXISTS (SELECT 1 FROM links WHERE volume_id = $1 AND state = 'error' AND NOT gone) THEN 'error'
		WHEN EXISTS (SELECT 1 FROM links WHERE volume_id = $1 AND NOT gone AND state <> 'paused') THEN 'enabled'
		ELSE 'disabled' END`
	_, err := tx.exec(`UPDATE volumes SET replication_status = `+truth+`
		WHERE id = $1 AND recovered_to IS NULL AND switching = '' AND replication_status <> `+truth, string(volume))
	return err
}

// Link returns the link of a volume under a protection.
func (tx *Tx) Link(volume block.VolumeID, protection int64) (Link, error) {
	l, err := scanLink(tx.queryRow(`SELECT `+linkColumns+` FROM links WHERE volume_id = $1 AND protection = $2`,
		string(volume), protection))
	return l, notFound(err, "Volume %s has no link for protection %d.", volume, protection)
}

// Links lists all links in order of volume and protection.
func (tx *Tx) Links() ([]Link, error) {
	return collect(tx, scanLink, `SELECT `+linkColumns+` FROM links ORDER BY volume_id, protection`)
}

// LinksOf lists a volume's links in order of protection.
func (tx *Tx) LinksOf(volume block.VolumeID) ([]Link, error) {
	return collect(tx, scanLink, `SELECT `+linkColumns+` FROM links WHERE volume_id = $1 ORDER BY protection`,
		string(volume))
}

// DeleteLink removes a link.
func (tx *Tx) DeleteLink(volume block.VolumeID, protection int64) error {
	_, err := tx.exec(`DELETE FROM links WHERE volume_id = $1 AND protection = $2`, string(volume), protection)
	if err != nil {
		return err
	}
	return tx.TellReplication(volume)
}

// VolumeGone notes that a volume was deleted. It belongs into the transaction
// that removes the volume's row; the links stay until each target was told.
// The driver's snapshots went with the volume, so nothing is left to be pinned.
func (tx *Tx) VolumeGone(volume block.VolumeID) error {
	_, err := tx.exec(`UPDATE links SET gone = TRUE, updated_at = $2 WHERE volume_id = $1`, string(volume),
		tx.Now.UnixMicro())
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM cuts WHERE volume_id = $1`, string(volume))
	return err
}

// InsertCut notes that replication is about to make a driver snapshot of a
// volume, or made it.
func (tx *Tx) InsertCut(volume block.VolumeID, point block.PointID) error {
	_, err := tx.exec(`INSERT INTO cuts (volume_id, point_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		string(volume), string(point))
	return err
}

// DeleteCut notes that a driver snapshot of replication's is gone.
func (tx *Tx) DeleteCut(volume block.VolumeID, point block.PointID) error {
	_, err := tx.exec(`DELETE FROM cuts WHERE volume_id = $1 AND point_id = $2`, string(volume), string(point))
	return err
}

// Cuts lists the driver snapshots that replication made of a volume.
func (tx *Tx) Cuts(volume block.VolumeID) ([]block.PointID, error) {
	return collect(tx, scanPointID, `SELECT point_id FROM cuts WHERE volume_id = $1 ORDER BY point_id`, string(volume))
}

// Unlinked lists volumes of a type that have no link for a protection yet and
// have bytes that can be copied, at most limit.
func (tx *Tx) Unlinked(t block.TypeID, protection int64, limit int) ([]Held, error) {
	return collect(tx, scanHeld, `SELECT v.id, v.backend FROM volumes v
		LEFT JOIN links l ON l.volume_id = v.id AND l.protection = $2
		WHERE v.type_id = $1 AND l.volume_id IS NULL AND v.recovered_to IS NULL
		AND v.status NOT IN ('creating', 'downloading', 'error', 'deleting', 'error_deleting', 'error_restoring')
		ORDER BY v.id LIMIT $3`, string(t), protection, limit)
}

// Held is a volume and the backend that holds it.
type Held struct {
	Volume  block.VolumeID
	Backend string
}

func scanHeld(row scanner) (h Held, err error) {
	err = row.Scan(&h.Volume, &h.Backend)
	return h, err
}

// LinkedHeld tells where each volume is that has a link, in order; not of those that
// are gone.
func (tx *Tx) LinkedHeld() ([]Held, error) {
	return collect(tx, scanHeld, `SELECT v.id, v.backend FROM volumes v
		WHERE EXISTS (SELECT 1 FROM links l WHERE l.volume_id = v.id) ORDER BY v.id`)
}

func scanVolumeID(row scanner) (id block.VolumeID, err error) {
	err = row.Scan(&id)
	return id, err
}
