package cinder_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/transfers"
)

func TestTransferKeys(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{"os-volume-transfer", "volume-transfers"} {
		for minor, more := range map[int]string{0: "", 54: "", 55: " no_snapshots",
			57: " accepted destination_project_id no_snapshots source_project_id"} {
			if path == "volume-transfers" && minor < 55 {
				f.wantAt(minor, "member", 404, "GET", path, "")
				continue
			}
			body := fmt.Sprintf(`{"transfer":{"volume_id":%q,"name":" t "}}`, f.available(1))
			a := f.wantAt(minor, "member", 202, "POST", path, body)
			wantKeys(t, a.keys(t, "transfer"), "auth_key created_at id links name volume_id"+more)
			id := a.text(t, "transfer.id")
			if name := a.text(t, "transfer.name"); name != "t" {
				t.Errorf("the name is %q", name)
			}
			a = f.wantAt(minor, "member", 200, "GET", path+"/"+id, "")
			wantKeys(t, a.keys(t, "transfer"), "created_at id links name volume_id"+more)
			f.wantAt(minor, "other", 404, "GET", path+"/"+id, "")
			f.wantAt(minor, "member", 202, "DELETE", path+"/"+id, "")
			f.wantAt(minor, "member", 404, "DELETE", path+"/"+id, "")
		}
	}
	id := f.available(1)
	f.wantAt(54, "member", 400, "POST", "os-volume-transfer",
		fmt.Sprintf(`{"transfer":{"volume_id":%q,"no_snapshots":true}}`, id))
	f.wantAt(0, "reader", 403, "POST", "os-volume-transfer", fmt.Sprintf(`{"transfer":{"volume_id":%q}}`, id))
	f.wantAt(0, "other", 404, "POST", "os-volume-transfer", fmt.Sprintf(`{"transfer":{"volume_id":%q}}`, id))
	for _, body := range []string{`{}`, `{"transfer":{}}`,
		`{"transfer":{"volume_id":"x"}}`, `{"transfer":{"volume_id":null}}`} {
		f.wantAt(0, "member", 400, "POST", "os-volume-transfer", body)
	}
	f.want(202, "POST", "os-volume-transfer", fmt.Sprintf(`{"transfer":{"volume_id":%q}}`, id)) // on /v2
}

// wantKeys compares members in whatever order.
func wantKeys(t testing.TB, got []string, want string) {
	t.Helper()
	list := strings.Fields(want)
	slices.Sort(list)
	if !slices.Equal(got, list) {
		t.Errorf("members %v, want %v", got, list)
	}
}

func TestTransferPages(t *testing.T) {
	f := newFixture(t)
	var ids []string
	for i := range 3 {
		body := fmt.Sprintf(`{"transfer":{"volume_id":%q,"name":"t%d"}}`, f.available(1), i)
		ids = append(ids, f.wantAt(55, "member", 202, "POST", "volume-transfers", body).text(t, "transfer.id"))
	}
	for query, want := range map[string][]string{
		"55 volume-transfers":                                ids,
		"55 volume-transfers/detail?sort=name":               ids, // from 3.59
		"59 volume-transfers?sort=name:desc":                 {ids[2], ids[1], ids[0]},
		"59 volume-transfers?limit=2&sort=name:asc":          ids[:2],
		"59 volume-transfers?sort=name:asc&marker=" + ids[0]: ids[1:],
		"59 volume-transfers/detail?name=t1":                 {ids[1]},
		"0 os-volume-transfer/detail":                        ids,
	} {
		version, path, _ := strings.Cut(query, " ")
		minor, err := strconv.Atoi(version)
		f.must(err)
		a := f.wantAt(minor, "member", 200, "GET", path, "")
		var body struct {
			Transfers []struct{ ID string }
			Links     []struct{ Href string } `json:"transfers_links"`
		}
		f.must(json.Unmarshal(a.body, &body))
		var got []string
		for _, t := range body.Transfers {
			got = append(got, t.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
		if strings.Contains(query, "limit") != (len(body.Links) == 1) {
			t.Errorf("%s: links %v", query, body.Links)
		}
		for _, l := range body.Links {
			if !strings.Contains(l.Href, "/volume-transfers?") || !strings.Contains(l.Href, "marker="+ids[1]) {
				t.Errorf("the next page is %s", l.Href)
			}
		}
	}
	a := f.wantAt(59, "other", 200, "GET", "volume-transfers?all_tenants=1", "")
	if string(a.body) != `{"transfers":[]}` {
		t.Errorf("another tenant sees %s", a.body)
	}
	f.wantAt(59, "member", 400, "GET", "volume-transfers?sort=salt", "")
}

func TestGophercloud3Transfers(t *testing.T) {
	f := newClientFixture(t)
	ctx := t.Context()
	from, to := f.client3("member", ""), f.client3("other", "")
	to.Endpoint = strings.ReplaceAll(to.Endpoint, project, other)
	id := f.volume(`{"volume":{"size":1}}`)
	offer, err := transfers.Create(ctx, from, transfers.CreateOpts{VolumeID: id, Name: "t"}).Extract()
	f.must(err)
	pages, err := transfers.List(from, transfers.ListOpts{}).AllPages(ctx)
	f.must(err)
	list, err := transfers.ExtractTransfers(pages)
	f.must(err)
	if len(list) != 1 || list[0].ID != offer.ID || list[0].AuthKey != "" || len(offer.AuthKey) != 16 {
		t.Errorf("offered %+v, listed %+v", offer, list)
	}
	accepted, err := transfers.Accept(ctx, to, offer.ID, transfers.AcceptOpts{AuthKey: offer.AuthKey}).Extract()
	f.must(err)
	if accepted.VolumeID != id {
		t.Errorf("accepted %+v", accepted)
	}
	f.wantAt(0, "member", 404, "GET", "volumes/"+id, "")
	f.wantAt(0, "other", 200, "GET", "volumes/"+id, "")
}
