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
	s := &statement{dialect: tx.dialect}
	if q.Project != "" && !l.shared {
		s.and(l.table + ".project_id = " + s.arg(q.Project))
	}
	l.filter(s, q)
	query := "SELECT COUNT(*) FROM " + l.table
	if len(s.where) > 0 {
		query += " WHERE " + strings.Join(s.where, " AND ")
	}
	return n, tx.queryRow(query, s.args...).Scan(&n)
}

// VolumeTotals is what a project's volumes come to.
type VolumeTotals struct {
	Count, GiB int64
	Metadata   map[string][]string // key -> its values, each once, in order
}

// VolumeTotals adds up the volumes of a project, of all projects for "".
func (tx *Tx) VolumeTotals(project block.ProjectID) (t VolumeTotals, err error) {
	const ofProject = " FROM volumes WHERE ($1 = '' OR project_id = $1)"
	err = tx.queryRow("SELECT COUNT(*), COALESCE(SUM(size), 0)"+ofProject, project).Scan(&t.Count, &t.GiB)
	if err != nil {
		return t, err
	}
	documents, err := collect(tx, func(row scanner) (m map[string]string, err error) {
		return m, row.Scan(asJSON(&m))
	}, "SELECT DISTINCT metadata"+ofProject+" AND metadata <> '{}' ORDER BY metadata", project)
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
