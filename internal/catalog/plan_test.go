package catalog

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
)

// listedTable is a lister with what makes its whole query.
type listedTable struct {
	lister
	head string
	more []string
	hot  []string // columns by which the tenant's own view is sorted by an index too
	by   []string // columns that are filtered by an index
}

// listedTables are the collections that grow without a limit.
var listedTables = map[string]listedTable{
	"volumes": {lister: volumeList, head: selectPage,
		hot: []string{"id", "name", "display_name", "size", "status", "created_at", "updated_at", "volume_type_id"},
		by:  []string{"name", "display_name", "status", "size"}},
	"snapshots": {lister: snapshotList, head: "SELECT * FROM snapshots",
		hot: []string{"id", "name", "display_name", "size", "volume_size", "status", "created_at", "updated_at",
			"volume_id"},
		by: []string{"name", "status", "volume_id"}},
	"attachments": {lister: attachmentList, head: "SELECT * FROM attachments",
		hot: []string{"id", "created_at", "volume_id", "status", "attach_status"}, by: []string{"volume_id", "status"}},
	"messages": {lister: messageList, head: "SELECT * FROM messages", more: []string{"+messages.expires_at > 5"},
		hot: []string{"created_at"},
		by:  []string{"resource_uuid", "request_id"}},
	"transfers":       {lister: transferList, head: "SELECT * FROM transfers", hot: []string{"created_at"}},
	"groups":          {lister: groupList, head: "SELECT * FROM volume_groups", hot: []string{"created_at"}},
	"backups":         {lister: backupList, head: "SELECT * FROM backups", hot: []string{"created_at"}},
	"group snapshots": {lister: groupSnapshotList, head: "SELECT * FROM group_snapshots", hot: []string{"created_at"}},
	"types":           {lister: typeList, head: "SELECT * FROM volume_types", hot: []string{"created_at"}},
	"group types":     {lister: groupTypeList, head: "SELECT * FROM group_types", hot: []string{"created_at"}},
	"qos specs":       {lister: qosList, head: "SELECT * FROM qos_specs", hot: []string{"created_at"}},
}

// plan is what SQLite is going to do for a page.
func (l listedTable) plan(t *testing.T, tx *Tx, q block.ListQuery) string {
	t.Helper()
	// The marker's row is not looked for: any values will do.
	marker := q.Marker
	q.Marker = ""
	s := &statement{dialect: tx.dialect, where: slices.Clone(l.more)}
	if marker != "" {
		order, err := l.order(q.Sort)
		if err != nil {
			t.Fatal(err)
		}
		keys, params := make([]string, len(order)), make([]string, len(order))
		for i, o := range order {
			keys[i], params[i] = o.key(), s.arg("1")
		}
		s.and("(" + strings.Join(keys, ", ") + ") < (" + strings.Join(params, ", ") + ")")
	}
	query, args, err := l.pageOf(tx, q, l.head, s)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := collect(tx, func(row scanner) (step string, err error) {
		var n int
		return step, row.Scan(&n, &n, &n, &step)
	}, tx.explain()+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "; ")
}

// bounded reports whether a plan reads no more rows than it returns: it walks
// an index in the order that is wanted, from the marker where there is one, and
// sorts nothing.
func (l listedTable) bounded(plan string, q block.ListQuery) bool {
	walk, _, _ := strings.Cut(plan, ";")
	if strings.Contains(plan, "TEMP B-TREE") || strings.HasPrefix(walk, "SCAN") && !strings.Contains(walk, "USING") {
		return false
	}
	return q.Marker == "" && q.Project == "" && len(q.Filters) == 0 || strings.HasPrefix(walk, "SEARCH") &&
		(q.Marker == "" || strings.Contains(walk, "<") || strings.Contains(walk, "rowid"))
}

// TestListPlans: lists walk an index in order, whatever of what they offer they
// are sorted by, from the start and from a marker, for a tenant and for all.
func TestListPlans(t *testing.T) {
	sqliteOnly(t)
	c := open(t, "")
	look(t, c, func(tx *Tx) error {
		for name, l := range listedTables {
			for _, column := range slices.Sorted(maps.Keys(l.columns)) {
				hot := slices.Contains(l.hot, column)
				if l.columns[column].sql == "" || column == "group_snapshot_id" || // no client may name it
					len(l.hot) == 1 && !hot { // only the default order has its index
					continue
				}
				for _, project := range []block.ProjectID{"", "p"} {
					for _, marker := range []string{"", "m"} {
						if project != "" && (!hot || l.shared) {
							continue
						}
						q := block.ListQuery{Project: project, Marker: marker, Limit: 10,
							Sort: []block.SortKey{{Column: column, Desc: true}}}
						if plan := l.plan(t, tx, q); !l.bounded(plan, q) {
							t.Errorf("%s by %s, project %q, marker %q: %s", name, column, project, marker, plan)
						}
					}
				}
			}
			for _, column := range l.by {
				for _, project := range []block.ProjectID{"", "p"} {
					q := block.ListQuery{Project: project, Limit: 10, Filters: map[string]string{column: "7"}}
					if plan := l.plan(t, tx, q); !l.bounded(plan, q) {
						t.Errorf("%s where %s, project %q: %s", name, column, project, plan)
					}
				}
			}
		}
		return nil
	})
}

// TestFilterPlans: what tenants look for goes by an index, not through all that
// they have.
func TestFilterPlans(t *testing.T) {
	sqliteOnly(t)
	c := open(t, "")
	at := []block.TimeBound{{Column: "updated_at", Operator: "gt", At: time.UnixMicro(5)}}
	created := []block.TimeBound{{Column: "created_at", Operator: "lte", At: time.UnixMicro(5)}}
	look(t, c, func(tx *Tx) error {
		for _, tt := range []struct {
			table, index string
			q            block.ListQuery
		}{
			{"volumes", "volumes_of_project_with_metadata (project_id=?)",
				block.ListQuery{Metadata: map[string]string{"a": "b"}}},
			{"snapshots", "snapshots_of_project_with_metadata (project_id=?)",
				block.ListQuery{Metadata: map[string]string{"a": "b"}}},
			{"volumes", "volumes_of_project_by_update (project_id=? AND updated_at_sorted>?)", block.ListQuery{Times: at}},
			{"snapshots", "snapshots_of_project_by_update (project_id=? AND updated_at_sorted>?)", block.ListQuery{Times: at}},
			{"volumes", "volumes_by_project (project_id=? AND created_at<?)", block.ListQuery{Times: created}},
			{"groups", "volume_groups_of_project_by_name",
				block.ListQuery{Filters: map[string]string{"name": "a"}}},
			{"group snapshots", "group_snapshots_of_project_by_name",
				block.ListQuery{Filters: map[string]string{"name": "a"}}},
			{"group snapshots", "group_snapshots_of_project_by_group",
				block.ListQuery{Filters: map[string]string{"group_id": "a"}}},
			{"transfers", "transfers_of_project_by_name",
				block.ListQuery{Filters: map[string]string{"name": "a"}}},
			{"backups", "backups_of_project_by_name",
				block.ListQuery{Filters: map[string]string{"name": "a"}}},
			{"backups", "backups_of_project_by_status", block.ListQuery{Filters: map[string]string{"status": "a"}}},
			{"backups", "backups_of_project_by_volume", block.ListQuery{Filters: map[string]string{"volume_id": "a"}}},
		} {
			tt.q.Project, tt.q.Limit = "p", 10
			if plan := listedTables[tt.table].plan(t, tx, tt.q); !strings.Contains(plan, tt.index) {
				t.Errorf("%s: the plan lacks %s: %s", tt.table, tt.index, plan)
			}
		}
		wantPlan(t, tx, "summary", "COVERING INDEX volumes_by_metadata (project_id=?)", metadataOfProject,
			[]any{"p"})
		wantPlan(t, tx, "summary of all", "COVERING INDEX volumes_by_metadata", metadataOfAll, nil)
		return nil
	})
}

// many is a catalog on disk with so many volumes of each of two projects, made
// by SQL and indexed at the end.
func many(b *testing.B, volumes int) *Catalog {
	b.Helper()
	c := open(b, filepath.Join(b.TempDir(), "catalog.db"))
	commit(b, c, func(tx *Tx) error {
		indexes, err := collect(tx, func(row scanner) (sql [2]string, err error) {
			return sql, row.Scan(&sql[0], &sql[1])
		}, "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'volumes' AND sql IS NOT NULL")
		if err != nil {
			return err
		}
		for _, index := range indexes {
			if _, err := tx.exec("DROP INDEX " + index[0]); err != nil {
				return err
			}
		}
		if err := tx.UpsertType(block.VolumeType{ID: "t", Name: "gold"}); err != nil {
			return err
		}
		_, err = tx.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			INSERT INTO volumes (id, project_id, user_id, name, size, status, type_id, backend, availability_zone, bootable,
				multiattach, encrypted, readonly, metadata, image_metadata, replication_status, epoch, created_at)
			SELECT printf('v%08d', i), 'p' || (i % 2), 'u', 'volume-' || (i * 7919 % 1000003), i % 100,
				CASE i % 10 WHEN 0 THEN 'in-use' ELSE 'available' END, 't', 'b', 'z', FALSE, FALSE, FALSE, FALSE, '{}', '{}',
				'', 1, 1700000000000000 + i FROM n`, 2*volumes)
		for _, index := range indexes {
			if err == nil {
				_, err = tx.exec(index[1])
			}
		}
		return err
	})
	return c
}

// BenchmarkPages reads pages of 50 volumes out of a thousand, a hundred
// thousand and a million of a project's, from the start and from the middle.
// Flat means that the times are alike.
func BenchmarkPages(b *testing.B) {
	for _, volumes := range []int{1_000, 100_000, 1_000_000} {
		c := many(b, volumes)
		middle := fmt.Sprintf("v%08d", volumes|1)
		for name, q := range map[string]block.ListQuery{
			"first":          {Project: "p1"},
			"middle":         {Project: "p1", Marker: middle},
			"name, middle":   {Project: "p1", Marker: middle, Sort: []block.SortKey{{Column: "name"}}},
			"status, middle": {Project: "p1", Marker: middle, Sort: []block.SortKey{{Column: "status", Desc: true}}},
			"in use":         {Project: "p1", Filters: map[string]string{"status": "available"}},
			"all tenants":    {Marker: middle},
			"all by size":    {Marker: middle, Sort: []block.SortKey{{Column: "size"}}},
		} {
			q.Limit = 50
			b.Run(fmt.Sprintf("%d/%s", volumes, name), func(b *testing.B) {
				for b.Loop() {
					look(b, c, func(tx *Tx) error {
						all, err := tx.Volumes(q)
						if len(all) != 50 {
							b.Fatalf("%d volumes", len(all))
						}
						return err
					})
				}
			})
		}
	}
}
