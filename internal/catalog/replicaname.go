package catalog

import "kvol/internal/block"

// ReplicasNaming lists the replicas of a source zone that hold a point, or
// whose entry names a tenant's snapshot of that id that is not replicated yet,
// by age.
func (tx *Tx) ReplicasNaming(zone block.Zone, id block.PointID) ([]block.Replica, error) {
	return collect(tx, scanReplica, `SELECT `+replicaColumns+` FROM replicas WHERE source_zone = $1
		AND (EXISTS (SELECT 1 FROM points WHERE replica_id = replicas.id AND points.id = $2) OR entry LIKE $3)
		ORDER BY created_at, id`, string(zone), string(id), "%"+string(id)+"%")
}
