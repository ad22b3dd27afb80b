package catalog

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kvol/internal/block"
)

// LagKey names a meter: which end of the replication of which volume it is of.
type LagKey struct {
	Role       string // source or target
	SourceZone block.Zone
	Volume     block.VolumeID
	Protection int64
}

// KeptLag is a meter as it was kept.
type KeptLag struct {
	LagKey
	Meter []byte // JSON
}

// MaxLags is how many meters PutLags takes: a statement has a limit of parameters.
const MaxLags = 500

// PutLags keeps meters in place of those before, all by one statement. There may be
// MaxLags, each of another key.
func (tx *Tx) PutLags(all []KeptLag) error {
	if len(all) == 0 {
		return nil
	}
	rows, args := make([]string, len(all)), []any{micros(tx.Now)}
	for i, l := range all {
		n := len(args)
		rows[i] = fmt.Sprintf("($%d, $%d, $%d, $%d, $%d, $1)", n+1, n+2, n+3, n+4, n+5)
		args = append(args, l.Role, string(l.SourceZone), string(l.Volume), l.Protection, string(l.Meter))
	}
	_, err := tx.exec(`INSERT INTO dr_lags (role, source_zone, volume_id, protection, meter, kept_at)
		VALUES `+strings.Join(rows, ", ")+` ON CONFLICT (role, source_zone, volume_id, protection)
		DO UPDATE SET meter = excluded.meter, kept_at = excluded.kept_at`, args...)
	return err
}

// Lags returns all meters that were kept.
func (tx *Tx) Lags() ([]KeptLag, error) {
	return collect(tx, func(row scanner) (l KeptLag, err error) {
		err = row.Scan(&l.Role, &l.SourceZone, &l.Volume, &l.Protection, &l.Meter)
		return l, err
	}, `SELECT role, source_zone, volume_id, protection, meter FROM dr_lags
		ORDER BY role, source_zone, volume_id, protection`)
}

// DeleteLag forgets a meter.
func (tx *Tx) DeleteLag(k LagKey) error {
	_, err := tx.exec(`DELETE FROM dr_lags WHERE role = $1 AND source_zone = $2 AND volume_id = $3 AND protection = $4`,
		k.Role, string(k.SourceZone), string(k.Volume), k.Protection)
	return err
}

// ReplicaMark is how far a replica is, without the catalog entry that lies with
// it, so that many can be read often.
type ReplicaMark struct {
	ID         block.VolumeID
	SourceZone block.Zone
	Source     block.VolumeID
	Protection int64
	Backend    string
	Epoch      uint64
	Newest     block.Point
	Current    time.Time
	Pending    bool // a point is under way
	DeletedAt  time.Time
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// Policy names the protection under which the replica is kept.
func (m ReplicaMark) Policy() block.ProtectionKey {
	return block.ProtectionKey{SourceZone: m.SourceZone, Seq: m.Protection}
}

// ReplicaMarks lists how far the replicas of this zone are, by age.
func (tx *Tx) ReplicaMarks() ([]ReplicaMark, error) {
	return collect(tx, func(row scanner) (m ReplicaMark, err error) {
		var newest *block.Point
		err = row.Scan(&m.ID, &m.SourceZone, &m.Source, &m.Protection, &m.Backend, &m.Epoch, asJSON(&newest),
			asTime(&m.Current), &m.Pending, asTime(&m.DeletedAt), asTime(&m.CreatedAt), asTime(&m.UpdatedAt))
		if newest != nil {
			m.Newest = *newest
		}
		return m, err
	}, `SELECT id, source_zone, source_id, protection, backend, epoch, newest, current_at, pending IS NOT NULL,
		deleted_at, created_at, updated_at FROM replicas ORDER BY created_at, id`)
}

// maxOwners is whose replicas are read by one statement.
const maxOwners = 1000

// ReplicaOwners tells whose the volumes are of which there are replicas, by the
// replicas' ids, and with the volumes' own. Those that are gone are left out. It takes
// a statement for each thousand.
func (tx *Tx) ReplicaOwners(ids []block.VolumeID) (map[block.VolumeID]Owner, error) {
	type row struct {
		id    block.VolumeID
		owner Owner
	}
	all := make(map[block.VolumeID]Owner, len(ids))
	for page := range slices.Chunk(ids, maxOwners) {
		rows, err := collect(tx, func(r scanner) (one row, err error) {
			var e struct { // of a block.Entry: the snapshots in it are not looked at
				Volume struct {
					Project block.ProjectID
					Name    string
				}
			}
			err = r.Scan(&one.id, &one.owner.Volume, asJSON(&e))
			one.owner.Project, one.owner.Name = e.Volume.Project, e.Volume.Name
			return one, err
		}, `SELECT id, source_id, entry FROM replicas WHERE `+tx.oneOf("id", "$1"), jsonText(page))
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			all[r.id] = r.owner
		}
	}
	return all, nil
}

// Unprotected lists the volumes of a type that have no link for a protection,
// and are older than an instant.
func (tx *Tx) Unprotected(t block.TypeID, protection int64, before time.Time, limit int) ([]Owner, error) {
	return collect(tx, scanOwner, `SELECT v.id, v.project_id, v.name, FALSE FROM volumes v
		LEFT JOIN links l ON l.volume_id = v.id AND l.protection = $2
		WHERE v.type_id = $1 AND l.volume_id IS NULL AND v.recovered_to IS NULL AND v.created_at < $3
		AND v.status NOT IN ('creating', 'downloading', 'error', 'deleting', 'error_deleting', 'error_restoring')
		ORDER BY v.id LIMIT $4`, string(t), protection, micros(before), limit)
}

// Owner is whose a volume is.
type Owner struct {
	Volume  block.VolumeID
	Project block.ProjectID
	Name    string
	Stale   bool // it lives on in another zone
}

// LinkedOwners lists whose the volumes are that have links.
func (tx *Tx) LinkedOwners() ([]Owner, error) {
	return collect(tx, scanOwner, `SELECT id, project_id, name, recovered_to IS NOT NULL FROM volumes
		WHERE id IN (SELECT volume_id FROM links) ORDER BY id`)
}

// LeftAlone lists volumes that were made by a recovery before an instant, of
// which no link replicates anything.
func (tx *Tx) LeftAlone(before time.Time, limit int) ([]Owner, error) {
	return collect(tx, scanOwner, `SELECT id, project_id, name, FALSE FROM volumes
		WHERE epoch > 1 AND recovered_to IS NULL AND created_at < $1 AND status IN ('available', 'in-use', 'reserved')
		AND id NOT IN (SELECT volume_id FROM links) ORDER BY id LIMIT $2`, micros(before), limit)
}

func scanOwner(row scanner) (o Owner, err error) {
	err = row.Scan(&o.Volume, &o.Project, nullable(&o.Name), &o.Stale)
	return o, err
}
