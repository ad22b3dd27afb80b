package catalog

import (
	"kvol/internal/block"
)

const pointColumns = `id, epoch, sequence, at, size, root, parent, name, cut`

func scanPoint(row scanner) (p block.Point, err error) {
	err = row.Scan(&p.ID, &p.Epoch, &p.Sequence, asTime(&p.At), &p.Size, asRoot(&p.Root),
		nullable((*string)(&p.Parent)), nullable(&p.Name), asJSON(&p.Cut))
	return p, err
}

// InsertPoint writes a committed recovery point of a replica; sum is its root
// sum, from which the sums of later points are computed. A point that is there
// already is a Conflict.
func (tx *Tx) InsertPoint(replica block.VolumeID, p block.Point, sum block.RootHash) error {
	_, err := tx.exec(`INSERT INTO points (replica_id, id, epoch, sequence, at, size, root, sum, parent, name,
		committed_at, cut, cut_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		string(replica), string(p.ID), p.Epoch, p.Sequence, p.At.UnixMicro(), p.Size, p.Root.String(), sum.String(),
		orNull(p.Parent), orNull(p.Name), tx.Now.UnixMicro(), jsonOrNull(p.Cut), cutOrNull(p.Cut))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "Recovery point %s is committed already.", p.ID)
	}
	return err
}

func cutOrNull(c *block.GroupCut) any {
	if c == nil {
		return nil
	}
	return c.ID
}

// CutPoints counts the committed points that are of one cut of a group.
func (tx *Tx) CutPoints(cut string) (n int, err error) {
	err = tx.queryRow(`SELECT COUNT(DISTINCT r.source_zone || '/' || r.source_id) FROM points p
		JOIN replicas r ON r.id = p.replica_id WHERE p.cut_id = $1`, cut).Scan(&n)
	return n, err
}

// Points lists a replica's committed points from old to new. Their Volume is
// the source volume.
func (tx *Tx) Points(replica block.VolumeID) ([]block.Point, error) {
	var source block.VolumeID
	err := tx.queryRow(`SELECT source_id FROM replicas WHERE id = $1`, string(replica)).Scan(&source)
	if err != nil {
		return nil, notFound(err, "Replica %s could not be found.", replica)
	}
	points, err := collect(tx, scanPoint, `SELECT `+pointColumns+` FROM points WHERE replica_id = $1
		ORDER BY epoch, sequence, id`, string(replica))
	for i := range points {
		points[i].Volume = source
	}
	return points, err
}

// Point returns a committed point of a replica and its root sum.
func (tx *Tx) Point(replica block.VolumeID, id block.PointID) (p block.Point, sum block.RootHash, err error) {
	row := tx.queryRow(`SELECT `+pointColumns+`, sum, (SELECT source_id FROM replicas WHERE id = replica_id)
		FROM points WHERE replica_id = $1 AND id = $2`, string(replica), string(id))
	var volume block.VolumeID
	p, err = scanPoint(withMore{row, []any{asRoot(&sum), &volume}})
	p.Volume = volume
	return p, sum, notFound(err, "Recovery point %s could not be found.", id)
}

// withMore is a row with columns after those that a scan function reads.
type withMore struct {
	scanner
	more []any
}

// Scan reads the row's columns.
func (w withMore) Scan(into ...any) error { return w.scanner.Scan(append(into, w.more...)...) }

// SetPointName changes a point's name; "" makes it one that thins out.
func (tx *Tx) SetPointName(replica block.VolumeID, id block.PointID, name string) error {
	n, err := tx.exec(`UPDATE points SET name = $3 WHERE replica_id = $1 AND id = $2`, string(replica), string(id),
		orNull(name))
	return changed(n, err, "Recovery point %s could not be found.", id)
}

// DeletePoint removes a committed point of a replica. The driver's snapshot is
// the caller's to delete afterwards.
func (tx *Tx) DeletePoint(replica block.VolumeID, id block.PointID) error {
	_, err := tx.exec(`DELETE FROM points WHERE replica_id = $1 AND id = $2`, string(replica), string(id))
	return err
}

// PinnedPoints returns which snapshots of a volume, or points of a replica,
// somebody holds a pin on.
func (tx *Tx) PinnedPoints(volume block.VolumeID) (map[block.PointID]bool, error) {
	names, err := collect(tx, scanPointID, `SELECT DISTINCT name FROM pins WHERE volume_id = $1`, string(volume))
	pinned := make(map[block.PointID]bool, len(names))
	for _, name := range names {
		pinned[name] = true
	}
	return pinned, err
}

func scanPointID(row scanner) (id block.PointID, err error) {
	err = row.Scan(&id)
	return id, err
}

// PinnedBy lists the snapshots of a volume that a holder has a pin on.
func (tx *Tx) PinnedBy(volume block.VolumeID, holder string) ([]block.PointID, error) {
	return collect(tx, scanPointID, `SELECT name FROM pins WHERE volume_id = $1 AND holder = $2 ORDER BY name`,
		string(volume), holder)
}
