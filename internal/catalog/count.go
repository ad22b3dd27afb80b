package catalog

import (
	"strings"

	"kvol/internal/block"
)

// CountVolumes says how many volumes a query selects on all its pages.
func (tx *Tx) CountVolumes(q block.ListQuery) (int64, error) {
	if plain(q) {
		n, _, err := tx.counted("volumes", "volume_size", q.Project)
		return n, err
	}
	return volumeList.count(tx, q)
}

// CountSnapshots says how many snapshots a query selects on all its pages.
func (tx *Tx) CountSnapshots(q block.ListQuery) (int64, error) {
	if plain(q) {
		n, _, err := tx.counted("snapshots", "snapshot_size", q.Project)
		return n, err
	}
	return snapshotList.count(tx, q)
}

// plain reports whether a query selects all that a project has.
func plain(q block.ListQuery) bool {
	return len(q.Filters) == 0 && len(q.Like) == 0 && len(q.Times) == 0 && len(q.Metadata) == 0 &&
		len(q.ImageMetadata) == 0
}

// counted is how many there are of a project, of all for "", and their GiB, as
// it is kept for quotas.
func (tx *Tx) counted(n, size string, project block.ProjectID) (count, gib int64, err error) {
	var args []any
	query := "SELECT CAST(COALESCE(SUM(" + n + "), 0) AS BIGINT), " +
		"CAST(COALESCE(SUM(" + size + "), 0) AS BIGINT) FROM usage"
	if project != "" {
		query, args = query+" WHERE project_id = $1", []any{project}
	}
	return count, gib, tx.queryRow(query, args...).Scan(&count, &gib)
}

// count looks at the query's project and filters only.
func (l lister) count(tx *Tx, q block.ListQuery) (n int64, err error) {
	return n, l.total(tx, q, "COUNT(*)").Scan(&n)
}

// total asks for sums over what a query selects on all its pages.
func (l lister) total(tx *Tx, q block.ListQuery, sums string) scanner {
	s := &statement{dialect: tx.dialect}
	if q.Project != "" && !l.shared {
		s.and(l.table + ".project_id = " + s.arg(q.Project))
	}
	l.filter(s, q)
	query := "SELECT " + sums + " FROM " + l.table
	if len(s.where) > 0 {
		query += " WHERE " + strings.Join(s.where, " AND ")
	}
	return tx.queryRow(query, s.args...)
}

// VolumeTotals is what a project's volumes come to.
type VolumeTotals struct {
	Count, GiB int64
	Metadata   map[string][]string // key -> its values, each once, in order
}

// Only volumes that have metadata are read, out of an index.
const (
	metadataOfProject = "SELECT DISTINCT metadata FROM volumes WHERE project_id = $1 AND metadata <> '{}' " +
		"ORDER BY metadata"
	metadataOfAll = "SELECT DISTINCT metadata FROM volumes WHERE metadata <> '{}' ORDER BY metadata"
)

// VolumeTotals adds up the volumes that a query selects on all its pages. The
// metadata are those of all of the query's project, whatever its filters
// (cinder/db/api.py, get_volume_summary).
func (tx *Tx) VolumeTotals(q block.ListQuery) (t VolumeTotals, err error) {
	if plain(q) {
		t.Count, t.GiB, err = tx.counted("volumes", "volume_size", q.Project)
	} else {
		err = volumeList.total(tx, q, "COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT)").Scan(&t.Count, &t.GiB)
	}
	if err != nil {
		return t, err
	}
	query, args := metadataOfAll, []any{}
	if q.Project != "" {
		query, args = metadataOfProject, []any{q.Project}
	}
	documents, err := collect(tx, func(row scanner) (m map[string]string, err error) {
		return m, row.Scan(asJSON(&m))
	}, query, args...)
	t.Metadata = map[string][]string{}
	for _, m := range documents {
		for key, value := range m {
			t.Metadata[key] = withOnce(t.Metadata[key], value)
		}
	}
	return t, err
}

func withOnce(list []string, text string) []string {
	for _, have := range list {
		if have == text {
			return list
		}
	}
	return append(list, text)
}
