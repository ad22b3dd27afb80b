package catalog

import (
	"slices"

	"kvol/internal/block"
)

// HeldPin is a pin with what it is on.
type HeldPin struct {
	Volume            block.VolumeID
	Name              block.PointID
	Holder            string
	OfVolume, Replica bool // there is such a volume; such a replica
}

// Pins lists at most limit pins, in order of volume, name and holder.
func (tx *Tx) Pins(limit int) ([]HeldPin, error) {
	return collect(tx, func(row scanner) (p HeldPin, err error) {
		err = row.Scan(&p.Volume, &p.Name, &p.Holder, &p.OfVolume, &p.Replica)
		return p, err
	}, `SELECT p.volume_id, p.name, p.holder, v.id IS NOT NULL, r.id IS NOT NULL FROM pins p
		LEFT JOIN volumes v ON v.id = p.volume_id LEFT JOIN replicas r ON r.id = p.volume_id
		ORDER BY p.volume_id, p.name, p.holder LIMIT $1`, limit)
}

// Cut is a driver snapshot that replication made.
type Cut struct {
	Volume block.VolumeID
	Point  block.PointID
}

// LooseCuts lists cuts that nobody pinned, that no link of the volume names, and
// that are no snapshot of a tenant's, at most limit.
func (tx *Tx) LooseCuts(limit int) ([]Cut, error) {
	return collect(tx, func(row scanner) (c Cut, err error) {
		err = row.Scan(&c.Volume, &c.Point)
		return c, err
	}, `SELECT c.volume_id, c.point_id FROM cuts c
		WHERE NOT EXISTS (SELECT 1 FROM pins p WHERE p.volume_id = c.volume_id AND p.name = c.point_id)
		AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.id = c.point_id)
		AND NOT EXISTS (SELECT 1 FROM links l WHERE l.volume_id = c.volume_id AND
			(l.confirmed ->> '$.ID' = c.point_id OR l.target IS NOT NULL))
		ORDER BY c.volume_id, c.point_id LIMIT $1`, limit)
}

// LostLinks lists links of volumes that are gone, of which the target could not
// be told when that was tried last, at most limit.
func (tx *Tx) LostLinks(limit int) ([]Link, error) {
	return collect(tx, scanLink, `SELECT `+linkColumns+` FROM links
		WHERE state = $1 AND (gone OR volume_id NOT IN (SELECT id FROM volumes))
		ORDER BY volume_id, protection LIMIT $2`, string(LinkError), limit)
}

// LiveSubjects tells on what jobs work or will work.
func (tx *Tx) LiveSubjects() (map[string]bool, error) {
	all, err := collect(tx, func(row scanner) (s string, err error) {
		err = row.Scan(&s)
		return s, err
	}, `SELECT DISTINCT subject FROM jobs WHERE ended_at IS NULL`)
	live := make(map[string]bool, len(all))
	for _, s := range all {
		live[s] = true
	}
	return live, err
}

// Place is where a volume or a replica should lie.
type Place struct {
	ID      block.VolumeID
	Backend string
	Project block.ProjectID
	Replica bool
	Moves   bool // it may be on two stores at a time
}

// Places lists where everything should lie. What drills made counts as replicas:
// those who made it look after it.
func (tx *Tx) Places() ([]Place, error) {
	return collect(tx, func(row scanner) (p Place, err error) {
		err = row.Scan(&p.ID, &p.Backend, &p.Project, &p.Replica, &p.Moves)
		return p, err
	}, `SELECT id, backend, project_id, FALSE, COALESCE(migration_status, '') NOT IN ('', 'none', 'error', 'success')
			FROM volumes
		UNION ALL SELECT id, backend, '', TRUE, FALSE FROM replicas
		UNION ALL SELECT volume_id, backend, '', TRUE, FALSE FROM drill_clones`)
}

// maxKnown is of how many snapshots it is found out by one statement whether they
// are known.
const maxKnown = 500

// KnownSnapshots tells of which snapshots, each of a volume in its store, anything
// in the catalog speaks: of a tenant's, of replication, of a backup, of a move to
// another zone, or of what only a stale volume has.
func (tx *Tx) KnownSnapshots(all []Cut) (map[Cut]bool, error) {
	known := make(map[Cut]bool, len(all))
	of, is := tx.oneOf("volume_id", "$1"), tx.oneOf("id", "$2")
	query := `SELECT volume_id, name FROM pins WHERE ` + of + `
		UNION SELECT volume_id, name FROM released_snapshots WHERE ` + of + `
		UNION SELECT volume_id, point_id FROM cuts WHERE ` + of + `
		UNION SELECT '', id FROM snapshots WHERE ` + is + `
		UNION SELECT '', id FROM backups WHERE ` + is + `
		UNION SELECT '', id FROM volumes WHERE ` + is + `
		UNION SELECT volume_id, stale ->> '$.undo' FROM stale_primaries WHERE ` + of + `
		UNION SELECT volume_id, failover ->> '$.last' FROM failovers WHERE ` + of + ` AND
			failover ->> '$.phase' NOT IN ('done', 'back')`
	for page := range slices.Chunk(all, maxKnown) {
		volumes, names := make([]block.VolumeID, len(page)), make([]block.PointID, len(page))
		for i, c := range page {
			volumes[i], names[i] = c.Volume, c.Point
		}
		found, err := collect(tx, func(row scanner) (c Cut, err error) {
			err = row.Scan(&c.Volume, nullable(&c.Point))
			return c, err
		}, query, jsonText(volumes), jsonText(names))
		if err != nil {
			return nil, err
		}
		said := make(map[Cut]bool, len(found))
		for _, c := range found {
			said[c] = true
		}
		for _, c := range page {
			known[c] = said[c] || said[Cut{Point: c.Point}]
		}
	}
	return known, nil
}
