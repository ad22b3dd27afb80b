package catalog

import (
	"time"

	"kvol/internal/block"
)

// Proof returns the account of reading a replica; that of one that was never
// read is zero.
func (tx *Tx) Proof(replica block.VolumeID) (p block.Proof, err error) {
	err = notFound(tx.queryRow(`SELECT proof FROM proofs WHERE replica_id = $1`, string(replica)).Scan(asJSON(&p)), "none")
	if block.Is(err, block.NotFound) {
		err = nil
	}
	return p, err
}

// Proofs returns the accounts of all replicas that were ever read.
func (tx *Tx) Proofs() (map[block.VolumeID]block.Proof, error) {
	type row struct {
		id block.VolumeID
		p  block.Proof
	}
	rows, err := collect(tx, func(r scanner) (one row, err error) {
		err = r.Scan(&one.id, asJSON(&one.p))
		return one, err
	}, `SELECT replica_id, proof FROM proofs`)
	all := make(map[block.VolumeID]block.Proof, len(rows))
	for _, r := range rows {
		all[r.id] = r.p
	}
	return all, err
}

// SetProof writes the account of reading a replica. That of one that is gone is
// forgotten.
func (tx *Tx) SetProof(replica block.VolumeID, p block.Proof) error {
	_, err := tx.exec(`INSERT INTO proofs (replica_id, proof) VALUES ($1, $2)
		ON CONFLICT (replica_id) DO UPDATE SET proof = $2`, string(replica), jsonText(p))
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM proofs WHERE replica_id NOT IN (SELECT id FROM replicas)`)
	return err
}

// MarkPoint notes why a point is not what was committed; "" for one that is.
func (tx *Tx) MarkPoint(replica block.VolumeID, id block.PointID, why string) error {
	_, err := tx.exec(`UPDATE points SET damaged = $3 WHERE replica_id = $1 AND id = $2`, string(replica), string(id),
		orNull(why))
	return err
}

// DamagedPoints returns which points of a replica are not what was committed, and
// why.
func (tx *Tx) DamagedPoints(replica block.VolumeID) (map[block.PointID]string, error) {
	type row struct {
		id  block.PointID
		why string
	}
	rows, err := collect(tx, func(r scanner) (one row, err error) {
		err = r.Scan(&one.id, &one.why)
		return one, err
	}, `SELECT id, damaged FROM points WHERE replica_id = $1 AND damaged IS NOT NULL`, string(replica))
	all := make(map[block.PointID]string, len(rows))
	for _, r := range rows {
		all[r.id] = r.why
	}
	return all, err
}

// AllDamagedPoints is DamagedPoints of every replica that has some.
func (tx *Tx) AllDamagedPoints() (map[block.VolumeID]map[block.PointID]string, error) {
	type row struct {
		replica block.VolumeID
		id      block.PointID
		why     string
	}
	rows, err := collect(tx, func(r scanner) (one row, err error) {
		err = r.Scan(&one.replica, &one.id, &one.why)
		return one, err
	}, `SELECT replica_id, id, damaged FROM points WHERE damaged IS NOT NULL`)
	all := map[block.VolumeID]map[block.PointID]string{}
	for _, r := range rows {
		if all[r.replica] == nil {
			all[r.replica] = map[block.PointID]string{}
		}
		all[r.replica][r.id] = r.why
	}
	return all, err
}

// LeasePoint keeps a point of a volume of this zone until an instant, for another
// zone that compares its replica with it.
func (tx *Tx) LeasePoint(volume block.VolumeID, point block.PointID, holder string, until time.Time) error {
	if err := tx.Pin(volume, point, holder); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO proof_leases (volume_id, point_id, holder, until_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (volume_id, point_id, holder) DO UPDATE SET until_at = $4`, string(volume), string(point), holder,
		micros(until))
	return err
}

// EndLeases lets go of points whose leases were over at an instant, or of one
// holder's where holder is not "".
func (tx *Tx) EndLeases(now time.Time, holder string) error {
	type row struct {
		volume block.VolumeID
		point  block.PointID
		holder string
	}
	over, err := collect(tx, func(r scanner) (one row, err error) {
		err = r.Scan(&one.volume, &one.point, &one.holder)
		return one, err
	}, `SELECT volume_id, point_id, holder FROM proof_leases WHERE until_at <= $1 OR holder = $2`, micros(now), holder)
	for _, l := range over {
		deleteNow, err := tx.Unpin(l.volume, l.point, l.holder)
		if err == nil && deleteNow {
			err = tx.InsertCut(l.volume, l.point) // replication deletes it
		}
		if err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM proof_leases WHERE volume_id = $1 AND point_id = $2 AND holder = $3`,
			string(l.volume), string(l.point), l.holder); err != nil {
			return err
		}
	}
	return err
}
