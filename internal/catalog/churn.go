package catalog

import "kvol/internal/block"

// SetPointStats notes what a point changed.
func (tx *Tx) SetPointStats(replica block.VolumeID, id block.PointID, s block.PointStats) error {
	res, err := tx.exec(`UPDATE points SET stats = $3 WHERE replica_id = $1 AND id = $2`, string(replica), string(id),
		jsonText(s))
	return changed(res, err, "Recovery point %s could not be found.", id)
}

// PointStats returns what a replica's points changed, as far as it was noted.
func (tx *Tx) PointStats(replica block.VolumeID) (map[block.PointID]block.PointStats, error) {
	type row struct {
		id    block.PointID
		stats block.PointStats
	}
	rows, err := collect(tx, func(r scanner) (one row, err error) {
		err = r.Scan(&one.id, asJSON(&one.stats))
		return one, err
	}, `SELECT id, stats FROM points WHERE replica_id = $1 AND stats IS NOT NULL`, string(replica))
	all := make(map[block.PointID]block.PointStats, len(rows))
	for _, r := range rows {
		all[r.id] = r.stats
	}
	return all, err
}

// Churn reads what is known of how a replica's volume changes into meter, which
// is left alone where nothing is, and whether that looks suspicious; nil if not.
func (tx *Tx) Churn(replica block.VolumeID, meter any) (s *block.Suspicion, err error) {
	err = tx.queryRow(`SELECT churn, suspicion FROM replicas WHERE id = $1`, string(replica)).
		Scan(asJSON(meter), asJSON(&s))
	return s, notFound(err, "Replica %s could not be found.", replica)
}

// SetChurn writes what Churn reads.
func (tx *Tx) SetChurn(replica block.VolumeID, meter any, s *block.Suspicion) error {
	var suspicion any
	if s != nil {
		suspicion = jsonText(s)
	}
	res, err := tx.exec(`UPDATE replicas SET churn = $2, suspicion = $3 WHERE id = $1`, string(replica),
		jsonText(meter), suspicion)
	return changed(res, err, "Replica %s could not be found.", replica)
}

// Suspicions tells which replicas look suspicious.
func (tx *Tx) Suspicions() (map[block.VolumeID]block.Suspicion, error) {
	type row struct {
		id block.VolumeID
		s  block.Suspicion
	}
	rows, err := collect(tx, func(r scanner) (one row, err error) {
		err = r.Scan(&one.id, asJSON(&one.s))
		return one, err
	}, `SELECT id, suspicion FROM replicas WHERE suspicion IS NOT NULL`)
	all := make(map[block.VolumeID]block.Suspicion, len(rows))
	for _, r := range rows {
		all[r.id] = r.s
	}
	return all, err
}
