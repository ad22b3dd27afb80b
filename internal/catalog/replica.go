package catalog

import (
	"time"

	"kvol/internal/block"
)

// Progress says how far a replica's pending step durably got.
type Progress struct {
	// Offset is the end of the bytes that are applied and flushed; negative if
	// the volume must be rewound to the step's base before anything is written.
	Offset int64
	Sum    block.RootHash // the root sum of base and step up to Offset
	Stats  block.PointStats
}

// Rewind is the Offset of a step whose replica must be rewound first.
const Rewind = int64(-1)

const replicaColumns = `id, source_zone, source_id, protection, backend, epoch, entry, newest, current_at, pending,
	deleted_at, created_at, updated_at, holders`

func scanReplica(row scanner) (r block.Replica, err error) {
	var newest *block.Point
	err = row.Scan(&r.ID, &r.SourceZone, &r.Source, &r.Protection, &r.Backend, &r.Epoch, asJSON(&r.Entry),
		asJSON(&newest), asTime(&r.Current), asJSON(&r.Pending), asTime(&r.DeletedAt), asTime(&r.CreatedAt),
		asTime(&r.UpdatedAt), asJSON(&r.Holders))
	if newest != nil {
		r.Newest = *newest
	}
	return r, err
}

// InsertReplica writes a new replica; its times are set to Now. A second one of
// the same source and protection is a Conflict.
func (tx *Tx) InsertReplica(r block.Replica) error {
	_, err := tx.exec(`INSERT INTO replicas (`+replicaColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13)`,
		string(r.ID), string(r.SourceZone), string(r.Source), r.Protection, r.Backend, r.Epoch, jsonText(r.Entry),
		pointOrNull(r.Newest), micros(r.Current), stepOrNull(r.Pending), micros(r.DeletedAt), tx.Now.UnixMicro(),
		holdersOrNull(r.Holders))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Volume %s has a replica here already.", r.Source)
	}
	return err
}

// UpdateReplica writes what changes in a replica: epoch, entry, newest point,
// pending step and deletion, and sets UpdatedAt to Now.
func (tx *Tx) UpdateReplica(r block.Replica) error {
	n, err := tx.exec(`UPDATE replicas SET epoch = $2, entry = $3, newest = $4, current_at = $5, pending = $6,
		deleted_at = $7, updated_at = $8, holders = $9 WHERE id = $1`,
		string(r.ID), r.Epoch, jsonText(r.Entry), pointOrNull(r.Newest), micros(r.Current), stepOrNull(r.Pending),
		micros(r.DeletedAt), tx.Now.UnixMicro(), holdersOrNull(r.Holders))
	return changed(n, err, "Replica %s could not be found.", r.ID)
}

// Replica returns a replica by its id.
func (tx *Tx) Replica(id block.VolumeID) (block.Replica, error) {
	r, err := scanReplica(tx.queryRow(`SELECT `+replicaColumns+` FROM replicas WHERE id = $1`, string(id)))
	return r, notFound(err, "Replica %s could not be found.", id)
}

// ReplicaOf returns the replica of a source volume under a protection.
func (tx *Tx) ReplicaOf(zone block.Zone, source block.VolumeID, protection int64) (block.Replica, error) {
	r, err := scanReplica(tx.queryRow(`SELECT `+replicaColumns+` FROM replicas
		WHERE source_zone = $1 AND source_id = $2 AND protection = $3`, string(zone), string(source), protection))
	return r, notFound(err, "A replica of volume %s of zone %s could not be found.", source, zone)
}

// ReplicasOf lists the replicas of a source volume, one for each protection.
func (tx *Tx) ReplicasOf(zone block.Zone, source block.VolumeID) ([]block.Replica, error) {
	return collect(tx, scanReplica, `SELECT `+replicaColumns+` FROM replicas
		WHERE source_zone = $1 AND source_id = $2 ORDER BY protection`, string(zone), string(source))
}

// Replicates reports whether a volume, of whatever other zone, has a replica here:
// what a store has under the volume's own id is then the copy out of which the
// replica is made, where clusters mirror it.
func (tx *Tx) Replicates(source block.VolumeID) (there bool, err error) {
	err = tx.queryRow(`SELECT EXISTS (SELECT 1 FROM replicas WHERE source_id = $1)`, string(source)).Scan(&there)
	return there, err
}

// Replicas lists the replicas of a source zone's volumes, or all for "", by age.
func (tx *Tx) Replicas(zone block.Zone) ([]block.Replica, error) {
	return collect(tx, scanReplica, `SELECT `+replicaColumns+` FROM replicas
		WHERE $1 = '' OR source_zone = $1 ORDER BY created_at, id`, string(zone))
}

// DeleteReplica removes a replica's row and those of its points.
func (tx *Tx) DeleteReplica(id block.VolumeID) error {
	if _, err := tx.exec(`DELETE FROM points WHERE replica_id = $1`, string(id)); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM replicas WHERE id = $1`, string(id))
	return err
}

// StepProgress returns how far a replica's pending step got. It means nothing
// where no step is pending.
func (tx *Tx) StepProgress(id block.VolumeID) (p Progress, err error) {
	err = tx.queryRow(`SELECT pending_offset, pending_sum, pending_stats FROM replicas WHERE id = $1`, string(id)).
		Scan(&p.Offset, asRoot(&p.Sum), asJSON(&p.Stats))
	return p, notFound(err, "Replica %s could not be found.", id)
}

// SetStepProgress notes how far a replica's pending step got. Nothing else of
// the replica changes.
func (tx *Tx) SetStepProgress(id block.VolumeID, p Progress) error {
	n, err := tx.exec(`UPDATE replicas SET pending_offset = $2, pending_sum = $3, pending_stats = $4 WHERE id = $1`,
		string(id), p.Offset, p.Sum.String(), jsonText(p.Stats))
	return changed(n, err, "Replica %s could not be found.", id)
}

// TouchReplica notes that the source's content is that of the newest point as
// of an instant on the source's clock.
func (tx *Tx) TouchReplica(id block.VolumeID, current time.Time) error {
	n, err := tx.exec(`UPDATE replicas SET current_at = $2 WHERE id = $1`, string(id), micros(current))
	return changed(n, err, "Replica %s could not be found.", id)
}

// holdersOrNull keeps apart what was never told and what is nobody.
func holdersOrNull(zones []block.Zone) any {
	if zones == nil {
		return nil
	}
	return jsonText(zones)
}

func pointOrNull(p block.Point) any {
	if p.ID == "" {
		return nil
	}
	return jsonText(p)
}

func stepOrNull(s *block.Step) any {
	if s == nil {
		return nil
	}
	return jsonText(s)
}

// asRoot reads a column with a hash in hexadecimal digits; NULL is zero.
func asRoot(h *block.RootHash) column {
	return func(src any) error {
		text, ok := src.(string)
		if !ok {
			*h = block.RootHash{}
			return nil
		}
		return h.UnmarshalText([]byte(text))
	}
}
