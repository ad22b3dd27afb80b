package catalog

import (
	"strings"

	"kvol/internal/block"
)

// CountVolumes says how many volumes a query selects on all its pages.
func (tx *Tx) CountVolumes(q block.ListQuery) (int64, error) { return volumeList.count(tx, q) }

// CountSnapshots says how many snapshots a query selects on all its pages.
func (tx *Tx) CountSnapshots(q block.ListQuery) (int64, error) { return snapshotList.count(tx, q) }

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

// VolumeTotals adds up the volumes that a query selects on all its pages. The
// metadata are those of all of the query's project, whatever its filters
// (cinder/db/api.py, get_volume_summary).
func (tx *Tx) VolumeTotals(q block.ListQuery) (t VolumeTotals, err error) {
	const ofProject = " FROM volumes WHERE ($1 = '' OR project_id = $1)"
	if err := volumeList.total(tx, q, "COUNT(*), COALESCE(SUM(size), 0)").Scan(&t.Count, &t.GiB); err != nil {
		return t, err
	}
	documents, err := collect(tx, func(row scanner) (m map[string]string, err error) {
		return m, row.Scan(asJSON(&m))
	}, "SELECT DISTINCT metadata"+ofProject+" AND metadata <> '{}' ORDER BY metadata", q.Project)
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
