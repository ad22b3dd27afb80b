package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kvol/internal/block"
)

// sortColumns are the columns that the oracle can compare; NULL is the empty
// text, or the oldest time.
var sortColumns = map[string]func(a, b block.Volume) int{
	"id":         func(a, b block.Volume) int { return cmp.Compare(a.ID, b.ID) },
	"size":       func(a, b block.Volume) int { return cmp.Compare(a.Size, b.Size) },
	"status":     func(a, b block.Volume) int { return cmp.Compare(a.Status, b.Status) },
	"created_at": func(a, b block.Volume) int { return a.CreatedAt.Compare(b.CreatedAt) },
	"updated_at": func(a, b block.Volume) int { return a.UpdatedAt.Compare(b.UpdatedAt) },
	"name":       func(a, b block.Volume) int { return comparePointers(a.Name, b.Name) },
	"bootable":   func(a, b block.Volume) int { return strings.Compare(fmt.Sprint(a.Bootable), fmt.Sprint(b.Bootable)) },
	"snapshot_id": func(a, b block.Volume) int {
		return comparePointers((*string)(a.SnapshotID), (*string)(b.SnapshotID))
	},
}

func comparePointers(a, b *string) int {
	var none string
	if a == nil {
		a = &none
	}
	if b == nil {
		b = &none
	}
	return cmp.Compare(*a, *b)
}

// expected is what a list must be, from a slice of all volumes.
func expected(all []block.Volume, q block.ListQuery) []block.Volume {
	keys, desc := slices.Clone(q.Sort), len(q.Sort) == 0 || q.Sort[0].Desc
	keys = append(keys, block.SortKey{Column: "created_at", Desc: desc}, block.SortKey{Column: "id", Desc: desc})
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b block.Volume) int {
		for _, k := range keys {
			if c := sortColumns[k.Column](a, b); c != 0 {
				return c * map[bool]int{false: 1, true: -1}[k.Desc]
			}
		}
		return 0
	})
	if q.Marker != "" {
		at := slices.IndexFunc(all, func(v block.Volume) bool { return string(v.ID) == q.Marker })
		all = all[at+1:]
	}
	all = all[min(q.Offset, len(all)):]
	if q.Limit >= 0 {
		all = all[:min(q.Limit, len(all))]
	}
	return all
}

func drawVolume(t *rapid.T, i int) block.Volume {
	few := rapid.IntRange(0, 2)
	text := func(label string) *string {
		if n := few.Draw(t, label); n > 0 {
			s := strings.Repeat("a", n-1) // "", "a" or nil
			return &s
		}
		return nil
	}
	v := block.Volume{
		ID: block.VolumeID(fmt.Sprintf("%08d", i)), Project: "p", Size: int64(few.Draw(t, "size")),
		Status: block.VolumeAvailable, Name: text("name"), SnapshotID: (*block.SnapshotID)(text("snapshot")),
		Bootable:  rapid.Bool().Draw(t, "bootable"),
		CreatedAt: time.UnixMicro(int64(few.Draw(t, "created") + 1)).UTC(),
	}
	if few.Draw(t, "status") == 0 {
		v.Status = block.VolumeError
	}
	if n := few.Draw(t, "updated"); n > 0 {
		v.UpdatedAt = time.UnixMicro(int64(n)).UTC()
	}
	return v
}

func ids(all []block.Volume) []block.VolumeID {
	found := []block.VolumeID{}
	for _, v := range all {
		found = append(found, v.ID)
	}
	return found
}

// TestListPages compares single pages, and whole lists read page by page, with
// a sorted slice. Columns have few values, so that pages end amid equal ones.
func TestListPages(t *testing.T) {
	names := []string{"id", "size", "status", "created_at", "updated_at", "name", "bootable", "snapshot_id"}
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		c, err := Open(t.Context(), options(outer, ""))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var all []block.Volume
		for i := range rapid.IntRange(1, 25).Draw(t, "volumes") {
			all = append(all, drawVolume(t, i))
		}
		q := block.ListQuery{Limit: -1}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 3, rapid.ID).Draw(t, "sort") {
			q.Sort = append(q.Sort, block.SortKey{Column: name, Desc: rapid.Bool().Draw(t, "desc")})
		}
		err = c.Update(t.Context(), func(tx *Tx) error {
			for _, v := range all {
				if err := tx.InsertVolume(v); err != nil {
					return err
				}
			}
			return checkLists(t, tx, all, q)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func checkLists(t *rapid.T, tx *Tx, all []block.Volume, q block.ListQuery) error {
	want := ids(expected(all, q))
	pages := q
	pages.Limit = rapid.IntRange(1, 7).Draw(t, "page")
	var found []block.VolumeID
	for {
		page, err := tx.Volumes(pages)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		found = append(found, ids(page)...)
		if len(found) > len(all) {
			t.Fatalf("more than all: %v", found)
		}
		pages.Marker = string(page[len(page)-1].ID)
	}
	if !slices.Equal(found, want) {
		t.Fatalf("page by page:\n%v, want\n%v", found, want)
	}
	q.Limit = rapid.IntRange(-1, 9).Draw(t, "limit")
	q.Offset = rapid.IntRange(0, 9).Draw(t, "offset")
	if rapid.Bool().Draw(t, "from a marker") {
		q.Marker = string(rapid.SampledFrom(want).Draw(t, "marker"))
	}
	page, err := tx.Volumes(q)
	if want := ids(expected(all, q)); err == nil && !slices.Equal(ids(page), want) {
		t.Fatalf("one page: %v, want %v", ids(page), want)
	}
	return err
}

func TestListErrors(t *testing.T) {
	c := memory(t)
	commit(t, c, func(tx *Tx) error { return tx.InsertVolume(block.Volume{ID: "v", Project: "other"}) })
	look(t, c, func(tx *Tx) error {
		_, err := tx.Volumes(block.ListQuery{Marker: "x", Limit: 0})
		wantError(t, err, block.NotFound, "Volume x could not be found.")
		_, err = tx.Volumes(block.ListQuery{Marker: "v", Project: "p"})
		wantError(t, err, block.NotFound, "Volume v could not be found.")
		_, err = tx.Snapshots(block.ListQuery{Marker: "x"})
		wantError(t, err, block.NotFound, "Snapshot x could not be found.")
		_, err = tx.Types(block.ListQuery{Marker: "x"}, true)
		wantError(t, err, block.NotFound, "Volume type x could not be found.")
		for _, key := range []string{"id; DROP TABLE volumes", "volume_type"} {
			_, err = tx.Volumes(block.ListQuery{Sort: []block.SortKey{{Column: key}}})
			wantError(t, err, block.Invalid, "Sort key supplied is invalid: "+key)
		}
		return nil
	})
}

func TestVolumeFilters(t *testing.T) {
	c := memory(t)
	name, odd := "n", `q"uo'te $.[0]`
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	commit(t, c, func(tx *Tx) error {
		errs := []error{tx.UpsertType(block.VolumeType{ID: "t1", Name: "gold"})}
		for _, v := range []block.Volume{
			{ID: "1", Project: "p", Name: &name, Status: block.VolumeAvailable, Size: 5, Bootable: true, CreatedAt: at},
			{ID: "2", Project: "p", TypeID: "t1", AvailabilityZone: "z", Metadata: map[string]string{odd: odd, "k": "5"}},
			{ID: "3", Project: "r", Name: &name, TypeID: "t1", Metadata: map[string]string{"k": "v", "l": "w"}},
		} {
			errs = append(errs, tx.InsertVolume(v))
		}
		errs = append(errs, tx.InsertAttachment(block.Attachment{ID: "a", VolumeID: "2", Status: "attached"}))
		return cmp.Or(errs...)
	})
	type filters = map[string]string
	for _, test := range []struct {
		filters, metadata filters
		project           block.ProjectID
		want              string
	}{
		{want: "1 2 3"},
		{project: "p", want: "1 2"},
		{filters: filters{"name": "n"}, want: "1 3"},
		{filters: filters{"name": "n"}, project: "p", want: "1"},
		{filters: filters{"name": ""}, want: ""},
		{filters: filters{"status": "available"}, want: "1"},
		{filters: filters{"id": "2"}, want: "2"},
		{filters: filters{"size": "5"}, want: "1"},
		{filters: filters{"size": "five"}, want: ""},
		{filters: filters{"bootable": "true"}, want: "1"},
		{filters: filters{"bootable": "false"}, want: "2 3"},
		{filters: filters{"bootable": "perhaps"}, want: ""},
		{filters: filters{"availability_zone": "z"}, want: "2"},
		{filters: filters{"volume_type": "gold"}, want: "2 3"},
		{filters: filters{"volume_type": "t1"}, want: "2 3"},
		{filters: filters{"volume_type_id": "t1"}, want: "2 3"},
		{filters: filters{"project_id": "r"}, want: "3"},
		{filters: filters{"created_at": "2026-01-02T03:04:05"}, want: "1"},
		{filters: filters{"created_at": "yesterday"}, want: ""},
		{filters: filters{"attach_status": "attached"}, want: "2"},
		{filters: filters{"attach_status": "detached"}, want: "1 3"},
		{filters: filters{"migration_status": "x"}, want: ""},
		{filters: filters{"nonsense": "x"}, want: ""},
		{metadata: filters{odd: odd}, want: "2"},
		{metadata: filters{"k": "5"}, want: "2"},
		{metadata: filters{"k": "v", "l": "w"}, want: "3"},
		{metadata: filters{"k": "v", "l": "x"}, want: ""},
		{metadata: filters{"v": "k"}, want: ""},
	} {
		q := block.ListQuery{
			Project: test.project, Limit: -1, Filters: test.filters, Metadata: test.metadata,
			Sort: []block.SortKey{{Column: "id"}},
		}
		look(t, c, func(tx *Tx) error {
			all, err := tx.Volumes(q)
			if got := strings.Trim(fmt.Sprint(ids(all)), "[]"); got != test.want {
				t.Errorf("%v %v %v: volumes %q, want %q", test.project, test.filters, test.metadata, got, test.want)
			}
			return err
		})
	}
}

// TestPlans asks SQLite how it answers the common questions: none may look at
// all rows, or sort.
func TestPlans(t *testing.T) {
	sqliteOnly(t)
	c := memory(t)
	commit(t, c, func(tx *Tx) error {
		return tx.InsertVolume(block.Volume{ID: "m", Project: "p", CreatedAt: time.UnixMicro(5)})
	})
	for name, test := range map[string]struct {
		q     block.ListQuery
		index string
	}{
		"a project's list": {block.ListQuery{Project: "p", Limit: 1000}, "volumes_by_project (project_id=?)"},
		"a project's next page": {block.ListQuery{Project: "p", Marker: "m"},
			"volumes_by_project (project_id=? AND (created_at,id)<(?,?))"},
		"all projects' list": {block.ListQuery{Limit: 1000}, "SCAN volumes USING INDEX volumes_by_age"},
		"all, next page":     {block.ListQuery{Marker: "m"}, "volumes_by_age ((created_at,id)<(?,?))"},
	} {
		look(t, c, func(tx *Tx) error {
			query, args, err := volumeList.page(tx, test.q, selectPage)
			if err != nil {
				return err
			}
			wantPlan(t, tx, name, test.index, query, args)
			return nil
		})
	}
	look(t, c, func(tx *Tx) error {
		wantPlan(t, tx, "an initiator's targets", "connections_by_initiator (initiator=?)", connectionsOf, []any{"i"})
		wantPlan(t, tx, "usage", "SEARCH usage USING PRIMARY KEY (project_id=?)", typedUsage, []any{"p"})
		wantPlan(t, tx, "claim", "jobs_open (due_at<?)", tx.dueJob(), []any{1, 1, 1, 1, "[]"})
		wantPlan(t, tx, "next", "jobs_open", "SELECT MIN(due_at) FROM jobs WHERE ended_at IS NULL", nil)
		return nil
	})
}

func wantPlan(t *testing.T, tx *Tx, name, index, query string, args []any) {
	t.Helper()
	plan, err := collect(tx, func(row scanner) (detail string, err error) {
		var n int
		return detail, row.Scan(&n, &n, &n, &detail)
	}, tx.explain()+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan, "\n")
	if !strings.Contains(text, index) || strings.Contains(text, "TEMP B-TREE FOR ORDER") {
		t.Errorf("%s: the plan lacks %q, or sorts:\n%s", name, index, text)
	}
}

// TestSortByAttachments: volumes are ordered by the furthest of their
// attachments, which follows each change of those.
func TestSortByAttachments(t *testing.T) {
	c := memory(t)
	order := func(tx *Tx, want ...block.VolumeID) {
		t.Helper()
		all, err := tx.Volumes(block.ListQuery{Limit: -1, Sort: []block.SortKey{{Column: "attach_status"}}})
		if err != nil || !slices.Equal(ids(all), want) {
			t.Errorf("the order is %v, %v, want %v", ids(all), err, want)
		}
	}
	commit(t, c, func(tx *Tx) error {
		for _, id := range []block.VolumeID{"1", "2", "3"} {
			if err := tx.InsertVolume(block.Volume{ID: id, Project: "p"}); err != nil {
				return err
			}
		}
		a := block.Attachment{ID: "a", VolumeID: "3", Status: "reserved"}
		if err := tx.InsertAttachment(a); err != nil {
			return err
		}
		order(tx, "1", "2", "3")
		a.Status = "attaching"
		if err := tx.UpdateAttachment(a); err != nil {
			return err
		}
		if err := tx.InsertAttachment(block.Attachment{ID: "b", VolumeID: "2", Status: "attached"}); err != nil {
			return err
		}
		order(tx, "2", "3", "1")
		if err := tx.DeleteAttachment("b"); err != nil {
			return err
		}
		order(tx, "3", "1", "2")
		return nil
	})
}
