package cinder_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// TestFiltersByMicroversion: what lists of volumes may be filtered by, and from
// when on what is not known is refused.
func TestFiltersByMicroversion(t *testing.T) {
	f := newFixture(t)
	f.available(1, "a", "b", "c")
	f.must(f.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
		volumes, err := tx.Volumes(block.ListQuery{Limit: -1, Filters: map[string]string{"name": "b"}})
		f.must(err)
		volumes[0].ImageMetadata = map[string]string{"image_name": "debian"}
		volumes[0].MigrationStatus = "success"
		return tx.UpdateVolume(volumes[0])
	}))
	const refused = "Invalid filters %s are found in query options."
	for _, tt := range []struct {
		minor       int
		token       string
		query, want string // names, or the sentence of a 400
	}{
		{30, "member", "bogus=1&shade=2", "c b a"}, {31, "member", "bogus=1&shade=2", fmt.Sprintf(refused, "bogus,shade")},
		{31, "member", "all_tenants=1", "c b a"}, {31, "member", "all_tenants=1&bogus=1", fmt.Sprintf(refused, "bogus")},
		{0, "admin", "bogus=1", ""}, {31, "admin", "bogus=1", ""}, {71, "admin", "name=b&bogus=1", ""},
		{31, "member", "project_id=" + project, fmt.Sprintf(refused, "project_id")},
		{31, "member", "n%C3%A4me=b", "Filter keys can only contain ASCII characters."},
		{30, "member", "n%C3%A4me=b", "c b a"},
		{44, "member", "with_count=1", fmt.Sprintf(refused, "with_count")}, {45, "member", "with_count=1", "c b a"},
		{33, "admin", "name~=b", ""}, {34, "admin", "name~=b", "b"}, {34, "member", "name~=b", fmt.Sprintf(refused, "name~")},
		{30, "member", "created_at=gte:2020-03-03T10:00:01", "c b a"},
		{31, "member", "created_at=gte:2020-03-03T10:00:01", "c b"},
		{60, "member", "created_at=gte:2020-03-03T10:00:01,lt:2020-03-03T10:00:02", "b"},
		{60, "member", "created_at=gt:2020-03-03T10:00:01,gt:2020-03-03T10:00:00", "c b"}, // the last counts
		{60, "member", "created_at=neq:2020-03-03T10:00:01Z", "c a"},
		{60, "member", "updated_at=lte:2020-03-04T00:00:01", "c a"},
		{60, "member", "created_at=near:2020-03-03T10:00:01", "Invalid near operator"},
		{60, "member", "created_at=gt:noon", "Invalid noon value"},
		{60, "member", "created_at=gt", "Invalid gt value"},
		{3, "admin", "glance_metadata={'image_name':'debian'}", "c b a"},
		{4, "admin", "glance_metadata={'image_name':'debian'}", "b"},
		{4, "member", "glance_metadata={'image_name':'debian'}", "c b a"},
		{31, "member", "glance_metadata={}", fmt.Sprintf(refused, "glance_metadata")},
		{71, "admin", "glance_metadata={'image_name':'other'}", ""}, {71, "admin", "glance_metadata=x", ""},
		{1, "member", "bootable=maybe", ""}, {2, "member", "bootable=maybe",
			"Invalid input received: 'bootable = maybe'"},
		{2, "member", "bootable=0", "c b a"},
		{71, "member", "status=null", ""}, {71, "member", "migration_status=success", "b"},
		{71, "admin", "host=kvol@hdd_general", "c b a"}, {71, "admin", "host=kvol@ssd_general", ""},
		{71, "admin", "sort=launched_at:asc", "a b c"}, {71, "member", "sort=cluster_name:asc", "a b c"},
		{71, "member", "sort=migration_status,name:asc", "b a c"}, {71, "member", "sort=group_id:asc,name:desc", "c b a"},
		{71, "member", "sort=volume_type", "Invalid input received: Invalid sort key"},
	} {
		a := f.at(
			tt.minor,
			tt.token,
			"GET",
			"volumes?"+strings.NewReplacer("{", "%7B", "}", "%7D", "'", "%27").Replace(tt.query),
			"",
		)
		got, code := "", 400
		if a.code == 200 {
			got, code = a.names(t), 200
		} else {
			got = a.text(t, "badRequest.message")
		}
		if got != tt.want || a.code != code {
			t.Errorf("3.%d %s %s = %d %s, want %q", tt.minor, tt.token, tt.query, a.code, got, tt.want)
		}
	}
}

// TestPoolFilters: administrators, too, filter pools by what is configured only.
func TestPoolFilters(t *testing.T) {
	f := newFixture(t)
	f.wantAt(30, "admin", 200, "GET", "scheduler-stats/get_pools?vendor_name=x", "")
	f.wantAt(31, "admin", 200, "GET", "scheduler-stats/get_pools?detail=1&name=x&all_tenants=1", "")
	f.wantFault(t, f.at(31, "admin", "GET", "scheduler-stats/get_pools?vendor_name=x&b=1", ""), 400,
		"Invalid filters vendor_name,b are found in query options.")
}

// TestSummaryFilters: a summary is of the volumes that a list with the same
// filters would have.
func TestSummaryFilters(t *testing.T) {
	f := newFixture(t)
	f.available(3, "a", "b")
	f.wantAs("other", 202, "POST", "volumes", `{"volume":{"size":5}}`)
	for _, tt := range []struct {
		token, query string
		count, size  float64
	}{{"member", "", 2, 6}, {"member", "name=a", 1, 3}, {"member", "bogus=1&all_tenants=1", 2, 6},
		{"admin", "all_tenants=1", 3, 11}, {"admin", "all_tenants=1&status=available", 2, 6}, {"admin", "bogus=1", 0, 0}} {
		a := f.wantAt(36, tt.token, 200, "GET", "volumes/summary?"+tt.query, "")
		count, size := a.get(t, "volume-summary.total_count"), a.get(t, "volume-summary.total_size")
		if count != tt.count || size != tt.size {
			t.Errorf("%s %s: %v volumes of %v GiB", tt.token, tt.query, count, size)
		}
	}
}

// TestLinksLiterally: links are what Cinder writes, to the letter: parameters in
// their order, quoted as Python does, and the project only where the request
// names it.
func TestLinksLiterally(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	for path, want := range map[string]string{
		"/v3/" + project + "/volumes?limit=1": "/v3/" + project + "/volumes?limit=1&marker=",
		"/v3/volumes?limit=1":                 "/v3/volumes?limit=1&marker=",
		"/v3/volumes/detail?sort=name:asc,size&limit=1&bogus=%zz~*%20-": "/v3/volumes/detail?sort=name%3Aasc%2Csize&limit=1" +
			"&bogus=%25zz~%2A+-&marker=",
		"/v3/volumes?marker=&limit=1&bogus":   "/v3/volumes?limit=1&bogus=&marker=",
		"/v3/volumes?bogus=1&limit=1&bogus=2": "/v3/volumes?bogus=1&limit=1&bogus=2&marker=",
	} {
		a := f.do("GET", path, "member", "")
		links, _ := a.get(t, "volumes_links").([]any)
		if len(links) != 1 {
			t.Fatalf("%s: %s", path, a.body)
		}
		if got := fmt.Sprint(links[0].(map[string]any)["href"]); got != publicURL+want+id {
			t.Errorf("%s\n got %s\nwant %s", path, got, publicURL+want+id)
		}
	}
	a := f.do("GET", "/v3/volumes/"+id, "member", "")
	for _, want := range []string{"/v3/volumes/" + id, "/volumes/" + id} {
		if !strings.Contains(string(a.body), `"`+publicURL+want+`"`) {
			t.Errorf("no %s in %s", want, a.body)
		}
	}
	if u, err := url.Parse("/v3/" + project + "/volumes/" + id); err != nil ||
		!strings.Contains(string(f.do("GET", u.Path, "member", "").body), publicURL+u.Path) {
		t.Error("a request with the project has links without it")
	}
}

// TestFilterByManyPairs: more than anything can have fit nothing.
func TestFilterByManyPairs(t *testing.T) {
	f := newFixture(t)
	f.available(1)
	pairs := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "'%d':'',", i)
		}
		return url.QueryEscape("{" + b.String() + "}")
	}
	many := pairs(1500)
	most := "bootable=true&metadata=" + pairs(60) + "&glance_metadata=" + pairs(900)
	f.wantAt(newestMinor(), "admin", 200, "GET", "volumes?"+most, "")
	for _, query := range []string{"metadata=", "glance_metadata="} {
		a := f.wantAt(newestMinor(), "admin", 200, "GET", "volumes?"+query+many, "")
		if list, _ := a.get(t, "volumes").([]any); len(list) != 0 {
			t.Errorf("%s: %v", query, list)
		}
	}
	if list := f.list("volumes?metadata=" + many).names(); list != "" {
		t.Errorf("/v2: %s", list)
	}
}
