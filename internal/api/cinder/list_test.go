package cinder_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"kvol/internal/api/cinder"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

type listed struct {
	Volumes []struct {
		ID, Name string
		Size     int
	}
	Links []struct{ Rel, Href string } `json:"volumes_links"`
}

func (f *fixture) list(query string) listed {
	f.Helper()
	var l listed
	f.must(json.Unmarshal(f.want(200, "GET", query, "").body, &l))
	return l
}

func (l listed) names() string {
	var names []string
	for _, v := range l.Volumes {
		names = append(names, v.Name)
	}
	return strings.Join(names, " ")
}

// A client that follows the links sees every volume once, in order, and each
// link is what Cinder would write, to the letter.
func TestPagingWalk(t *testing.T) {
	f := newFixture(t)
	const count = 107
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("v%03d", i))
	}
	f.available(1, names...)
	for _, collection := range []string{"volumes", "volumes/detail"} {
		for _, q := range []string{"limit=10", "limit=107", "limit=50&sort=name%3Aasc", "sort=name:asc,size&limit=13",
			"sort_key=name&sort_dir=asc&limit=106", "bogus=a+b&limit=9&sort=name:asc", "limit=25&sort=size"} {
			var got []string
			query := collection + "?" + q
			for pages := 0; ; pages++ {
				l := f.list(query)
				for _, v := range l.Volumes {
					got = append(got, v.Name)
				}
				if len(l.Links) == 0 {
					break
				}
				last := l.Volumes[len(l.Volumes)-1].ID
				want := publicURL + "/v2/" + project + "/" + collection + "?" + escaped(q) + "&marker=" + last
				if l.Links[0].Href != want || l.Links[0].Rel != "next" || len(l.Links) != 1 {
					t.Fatalf("link %+v, want %s", l.Links, want)
				}
				_, query, _ = strings.Cut(l.Links[0].Href, project+"/")
				if pages > count {
					t.Fatal("the pages do not end")
				}
			}
			if strings.Contains(q, "asc") != slices.IsSorted(got) || len(got) != count {
				t.Errorf("%s: %d items: %v", q, len(got), got)
			}
			slices.Sort(got)
			if !slices.Equal(got, names) {
				t.Errorf("%s: not every volume once", q)
			}
		}
	}
}

// escaped is a query as Python's urlencode writes it.
func escaped(q string) string { return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(q) }

func TestPagingEdges(t *testing.T) {
	f := newFixture(t)
	f.available(3, "a", "b", "c")
	last := f.list("volumes?sort=name:asc&limit=1&offset=2").Volumes[0].ID
	for query, want := range map[string]string{
		"volumes":                                   "c b a",
		"volumes?limit=0":                           "",
		"volumes?limit=2":                           "c b +",
		"volumes?limit=3":                           "c b a +", // a full last page has a link to an empty one
		"volumes?limit=4":                           "c b a",
		"volumes?limit=2000":                        "c b a",
		"volumes?limit=99999999999999999999999":     "c b a",
		"volumes?limit=1&limit=2":                   "c b +",
		"volumes?offset=1":                          "b a",
		"volumes?offset=3":                          "",
		"volumes?offset=2147483647":                 "",
		"volumes?limit=1&offset=1":                  "b +",
		"volumes?marker=" + last:                    "b a",
		"volumes?marker=" + last + "&offset=1":      "a",
		"volumes?marker=" + last + "&limit=1":       "b +",
		"volumes?marker=":                           "c b a",
		"volumes?sort=name":                         "c b a",
		"volumes?sort=name:desc":                    "c b a",
		"volumes?sort=%20name%20:%20asc%20":         "a b c",
		"volumes?sort=size,name:asc":                "a b c",
		"volumes?sort=size:asc":                     "a b c",
		"volumes?sort=display_name:asc":             "a b c",
		"volumes?sort_key=name&sort_dir=asc":        "a b c",
		"volumes?sort_dir=asc":                      "a b c",
		"volumes?sort_key=id&sort_dir=desc&limit=0": "",
		"volumes?name=b":                            "b",
		"volumes?display_name=b":                    "c b a",
		"volumes?name=":                             "",
		"volumes?status=available":                  "c b a",
		"volumes?status=null":                       "",
		"volumes?bootable=false":                    "c b a",
		"volumes?bootable=FALSE":                    "c b a",
		"volumes?bootable=x":                        "",
		"volumes?bootable=0":                        "",
		"volumes?size=3":                            "c b a",
		"volumes?size=x":                            "",
		"volumes?availability_zone=kr-pub-b":        "",
		"volumes?migration_status=x":                "",
		"volumes?group_id=" + noSuchID:              "",
		"volumes?consumes_quota=true":               "c b a",
		"volumes?consumes_quota=false":              "",
		"volumes?created_at=2020-03-03T10:00:01":    "b",
		"volumes?bogus=1&%zz=1&&=":                  "c b a",
		"volumes?project_id=x":                      "c b a",
		"volumes?host=x":                            "c b a",
		"volumes?metadata={}":                       "c b a",
		"volumes?metadata=nope":                     "",
	} {
		l := f.list(query)
		got := l.names()
		if len(l.Links) > 0 {
			got += " +"
		}
		if got != want {
			t.Errorf("%s = %q, want %q", query, got, want)
		}
	}
}

func TestListErrors(t *testing.T) {
	f := newFixture(t)
	const key, dir = "Invalid input received: Invalid sort key",
		"Invalid input received: Unknown sort direction, must be 'desc' or 'asc'."
	const both = "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter."
	for _, collection := range []string{"volumes", "volumes/detail", "snapshots", "snapshots/detail"} {
		noun := "Volume"
		if strings.HasPrefix(collection, "snap") {
			noun = "Snapshot"
		}
		for query, want := range map[string]string{
			"limit=bad":              "limit param must be an integer",
			"limit=":                 "limit param must be an integer",
			"limit=1.5":              "limit param must be an integer",
			"limit=-1":               "limit param must be positive",
			"offset=bad":             "offset must be an integer",
			"offset=":                "offset must be an integer",
			"offset=-1":              "offset must be >= 0",
			"offset=2147483648":      "offset must be <= 2147483647",
			"sort=badkey":            key,
			"sort=":                  key,
			"sort=name,,size":        key,
			"sort=name:sideways":     dir,
			"sort_dir=up":            dir,
			"sort_key=zz":            key,
			"sort_key=size&sort=id":  both,
			"sort_dir=asc&sort=id":   both,
			"all_tenants=maybe":      "Value 'maybe' for 'all_tenants' is not a boolean.",
			"limit=bad&sort=badkey":  "limit param must be an integer",
			"sort=name&marker=nope!": "404 " + noun + " nope! could not be found.",
			"marker=" + noSuchID:     "404 " + noun + " " + noSuchID + " could not be found.",
		} {
			code := 400
			if message, ok := strings.CutPrefix(want, "404 "); ok {
				code, want = 404, message
			}
			f.wantFault(t, f.do("GET", collection+"?"+query, "member", ""), code, want)
		}
	}
}

func TestMetadataFilter(t *testing.T) {
	f := newFixture(t)
	f.want(202, "POST", "volumes", `{"volume":{"size":1,"name":"a","metadata":{"c":"d","e":"f"}}}`)
	f.want(202, "POST", "volumes", `{"volume":{"size":1,"name":"b","metadata":{"c":"it's"}}}`)
	for filter, want := range map[string]string{
		`{'c': 'd'}`: "a", `{"c":"d"}`: "a", `{'c':'d','e':'f'}`: "a", `{'c':'d','e':'x'}`: "", `{u'c': u'd'}`: "a",
		`{'c':'d',}`: "a", `{"c": "it's"}`: "b", `{'c': 'it\'s'}`: "b", `{'c': 1}`: "", `{'c'}`: "", `{'c':'d'} x`: "",
	} {
		if got := f.list("volumes?metadata=" + url.QueryEscape(filter)).names(); got != want {
			t.Errorf("metadata=%s = %q, want %q", filter, got, want)
		}
	}
}

func TestAllTenants(t *testing.T) {
	f := newFixture(t)
	f.available(1, "mine")
	f.wantAs("other", 202, "POST", "volumes", `{"volume":{"size":1,"name":"theirs"}}`)
	for query, want := range map[string]string{
		"volumes": "mine", "volumes?all_tenants=1": "theirs mine", "volumes?all_tenants=0": "mine",
		"volumes?all_tenants=true&project_id=" + other: "theirs", "volumes?project_id=" + other: "mine",
		"volumes?all_tenants=1&display_name=mine": "mine",
	} {
		var l listed
		f.must(json.Unmarshal(f.wantAs("admin", 200, "GET", query, "").body, &l))
		if got := l.names(); got != want {
			t.Errorf("%s = %q, want %q", query, got, want)
		}
	}
}

func TestSnapshotPaging(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	for _, name := range []string{"a", "b"} {
		f.want(202, "POST", "snapshots", `{"snapshot":{"volume_id":"`+id+`","name":"`+name+`"}}`)
	}
	if a := f.want(200, "GET", "snapshots", ""); strings.Contains(string(a.body), "snapshots_links") {
		t.Errorf("a link without limit: %s", a.body)
	}
	a := f.want(200, "GET", "snapshots/detail?limit=1&volume_id="+id, "")
	var l struct {
		Snapshots []struct{ ID, Name string }
		Links     []struct{ Rel, Href string } `json:"snapshots_links"`
	}
	f.must(json.Unmarshal(a.body, &l))
	want := publicURL + "/v2/" + project + "/snapshots/detail?limit=1&volume_id=" + id + "&marker=" + l.Snapshots[0].ID
	if len(l.Links) != 1 || l.Links[0].Href != want || l.Snapshots[0].Name != "b" {
		t.Errorf("%+v, want %s", l, want)
	}
	if a = f.want(200, "GET", "snapshots?volume_id="+noSuchID, ""); string(a.body) != `{"snapshots":[]}` {
		t.Errorf("snapshots of no volume = %s", a.body)
	}
}

// The guide's snapshot lists have no links, however long they are.
func TestSnapshotsWithoutLimit(t *testing.T) {
	f := newFixture(t)
	id := f.available(1)
	f.must(f.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
		for range 1000 {
			err := tx.InsertSnapshot(block.Snapshot{ID: block.SnapshotID(block.NewID()), VolumeID: block.VolumeID(id),
				Project: project, Size: 1, Status: block.SnapshotAvailable, Progress: "100%"})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	a := f.want(200, "GET", "snapshots", "")
	list, _ := a.get(t, "snapshots").([]any)
	if len(list) != 1000 || strings.Contains(string(a.body), "snapshots_links") {
		t.Errorf("%d snapshots, or a link", len(list))
	}
}

// Where a thousand is reached without limit, there is a link too.
func TestDefaultLimit(t *testing.T) {
	f := newFixture(t)
	f.available(1, make([]string, 1001)...)
	l := f.list("volumes")
	if len(l.Volumes) != 1000 || len(l.Links) != 1 {
		t.Fatalf("%d volumes, links %v", len(l.Volumes), l.Links)
	}
	_, next, _ := strings.Cut(l.Links[0].Href, project+"/")
	if l := f.list("volumes?limit=2000"); len(l.Volumes) != 1000 || !strings.Contains(l.Links[0].Href, "?limit=2000&") {
		t.Errorf("limit=2000: %d volumes, links %v", len(l.Volumes), l.Links)
	}
	if l = f.list(next); len(l.Volumes) != 1 || len(l.Links) != 0 {
		t.Errorf("%s: %d volumes, links %v", next, len(l.Volumes), l.Links)
	}
}

// The public address is what the request says where none is configured.
func TestPublicAddress(t *testing.T) {
	f := newFixture(t, func(c *cinder.Config) { c.PublicURL = "" })
	f.available(1)
	a := f.do("GET", "volumes?limit=1", "member", "", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "vol.example:8776")
	if got := strings.Count(string(a.body), `"https://vol.example:8776/`); got != 3 {
		t.Errorf("%d links: %s", got, a.body)
	}
}

// BenchmarkDetail lists a thousand volumes in full.
func BenchmarkDetail(b *testing.B) {
	f := newFixture(b)
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("volume-%d", i)
	}
	f.available(50, names...)
	f.must(f.catalog.Update(b.Context(), func(tx *catalog.Tx) error {
		volumes, err := tx.Volumes(block.ListQuery{Limit: -1})
		for _, v := range volumes {
			v.Metadata = map[string]string{"a": "b", "owner": "someone"}
			if err := tx.UpdateVolume(v); err != nil {
				return err
			}
		}
		return err
	}))
	b.ReportAllocs()
	for b.Loop() {
		a := f.do("GET", "volumes/detail", "member", "")
		b.SetBytes(int64(len(a.body)))
	}
}
