package store

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"kvol/internal/api/openapi/openapitest"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/upkeep"
	"kvol/internal/vfs"
)

// roles are the tokens of the test: each is the name of a role.
type roles struct{}

func (roles) Authenticate(_ context.Context, token string) (block.Caller, error) {
	if token == "nobody" {
		return block.Caller{}, block.Errorf(block.Unauthorized, "Who are you?")
	}
	return block.Caller{Project: "p", UserName: "u", Roles: []string{token}}, nil
}

// desk is the API on one embedded store with some data in it.
type desk struct {
	t      *testing.T
	server http.Handler
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	ctx := t.Context()
	c, err := catalog.Open(ctx, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := logstore.Open(ctx, logstore.Options{FS: vfs.NewMem(1<<30, nil), Dir: "s", SegmentSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	fill(t, s)
	service := upkeep.New(upkeep.Config{Catalog: c, Stores: map[string]driver.Driver{"main": s}})
	d := &desk{t, openapitest.Hold(t, Document(), New(Config{Service: service, Auth: roles{}, Placements: placed}))}
	life, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(life) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		d.call("POST", "/main/runs", "admin", `{"kind":"check"}`, http.StatusServiceUnavailable)
	})
	return d
}

// placed is where volumes were placed, to administrators.
func placed(_ context.Context, c block.Caller, volume block.VolumeID, limit int) ([]block.Placement, error) {
	if !c.Admin() {
		return nil, block.Errorf(block.Forbidden, "Only an administrator may know where volumes are placed.")
	}
	if volume == "none" {
		return nil, nil
	}
	return []block.Placement{{Volume: volume, What: "create", Size: int64(limit), Failed: "b", Error: "It is full.",
		Refused: []block.BackendRefusal{{Backend: "a", Filter: "CapacityFilter", Reason: "no room"}}}}, nil
}

// TestPlacements: operators alone learn where volumes found no place, and why.
func TestPlacements(t *testing.T) {
	d := newDesk(t)
	get := func(query, token string, want int) string {
		r := httptest.NewRequest(http.MethodGet, "/api/store/v1/placements"+query, nil)
		r.Header.Set("X-Auth-Token", token)
		w := httptest.NewRecorder()
		if d.server.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s as %s: %d %s", query, token, w.Code, w.Body)
		}
		return strings.TrimSpace(w.Body.String())
	}
	get("", "member", http.StatusForbidden)
	get("", "nobody", http.StatusUnauthorized)
	if got := get("?volume=none", "admin", http.StatusOK); got != `{"placements":[]}` {
		t.Errorf("none: %s", got)
	}
	got := get("?volume=v", "admin", http.StatusOK)
	for _, part := range []string{`"volume":"v"`, `"what":"create"`, `"failed":"b"`, `"error":"It is full."`,
		`"refused":[{"backend":"a","filter":"CapacityFilter","reason":"no room"}]`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s lacks %s", got, part)
		}
	}
}

func fill(t *testing.T, s *logstore.Store) {
	t.Helper()
	if err := s.CreateVolume(t.Context(), "v", 64<<20); err != nil {
		t.Fatal(err)
	}
	d, err := s.OpenVolume(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := make([]byte, 64<<10)
	for i := range p {
		p[i] = byte(i * 7)
	}
	for i := range int64(64) {
		if _, err := d.WriteAt(p, i<<16); err != nil {
			t.Fatal(err)
		}
	}
}

// call makes a request and wants a status; "" is no token at all.
func (d *desk) call(method, path, token, body string, want int) map[string]json.RawMessage {
	d.t.Helper()
	r := httptest.NewRequest(method, "/api/store/v1/stores"+path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	w := httptest.NewRecorder()
	d.server.ServeHTTP(w, r)
	var out map[string]json.RawMessage
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != want {
		d.t.Fatalf("%s %s as %q: %d %s, %v; want %d", method, path, token, w.Code, w.Body, err, want)
	}
	return out
}

func (d *desk) run(method, path, body string, want int) (r runBody) {
	d.t.Helper()
	if err := json.Unmarshal(d.call(method, path, "admin", body, want)["run"], &r); err != nil {
		d.t.Fatal(err)
	}
	return r
}

// TestWhoMay: nobody but an administrator learns anything, and what is not
// there or not meant is refused.
func TestWhoMay(t *testing.T) {
	d := newDesk(t)
	for _, route := range [][2]string{{"GET", ""}, {"GET", "/main"}, {"GET", "/main/damages"}, {"GET", "/main/runs"},
		{"POST", "/main/runs"}, {"GET", "/main/runs/1"}, {"DELETE", "/main/runs/1"}} {
		d.call(route[0], route[1], "", "", http.StatusUnauthorized)
		d.call(route[0], route[1], "nobody", "", http.StatusUnauthorized)
		d.call(route[0], route[1], "member", `{"kind":"check"}`, http.StatusForbidden)
	}
	for path, want := range map[string]int{"/other": 404, "/other/damages": 404, "/main/runs/7": 404, "/main/runs/x": 400,
		"/main/damages?state=sad": 400, "/main/else": 404} {
		d.call("GET", path, "admin", "", want)
	}
	d.call("PUT", "/main", "admin", "", http.StatusMethodNotAllowed)
	for _, body := range []string{"", "{}", `{"kind":"mend"}`, `{"kind":"check","mib_s":-1}`, `{"kind":"check"}{}`,
		`{"kind":"check","mib_s":99999999}`, `{"kind":"check","fast":true}`, `{"kind":7}`,
		`{"kind":"check","mib_s":` + strings.Repeat("1", 5000) + `}`} {
		d.call("POST", "/main/runs", "admin", body, http.StatusBadRequest)
	}
	var stores []storeBody
	if err := json.Unmarshal(d.call("GET", "", "admin", "", 200)["stores"], &stores); err != nil {
		t.Fatal(err)
	}
	if len(stores) != 1 || stores[0].Name != "main" || stores[0].Status.Volumes != 1 || stores[0].Run != nil {
		t.Errorf("stores %+v", stores)
	}
}

// TestRunAndCancel: a slow run is under way until it is cancelled, keeps a
// second one out, and tells how far it is; a fast one ends by itself.
func TestRunAndCancel(t *testing.T) {
	d := newDesk(t)
	slow := d.run("POST", "/main/runs", `{"kind":"scrub","mib_s":1}`, http.StatusAccepted)
	d.call("POST", "/main/runs", "admin", `{"kind":"check"}`, http.StatusConflict)
	for now := slow; now.Done == 0; { // ends with the test's time limit where it never tells
		if now = d.run("GET", "/main/runs/1", "", 200); now.State != upkeep.Running {
			t.Fatalf("the slow run is %+v", now)
		}
	}
	ended := d.run("DELETE", "/main/runs/1", "", 200)
	if ended.State != upkeep.Cancelled || ended.Ended == nil || ended.Total < ended.Done || ended.By != "u" {
		t.Errorf("cancelled: %+v", ended)
	}
	if again := d.run("DELETE", "/main/runs/1", "", 200); again.State != upkeep.Cancelled {
		t.Errorf("cancelled again: %+v", again)
	}
	fast := d.run("POST", "/main/runs", `{"kind":"check"}`, http.StatusAccepted)
	for fast.State == upkeep.Running {
		fast = d.run("GET", "/main/runs/2", "", 200)
	}
	if fast.State != upkeep.Done || fast.Examined == nil || fast.Examined.Bytes != 64<<16 || fast.Done != 64<<16 ||
		fast.Found != 0 {
		t.Errorf("the check: %+v, %+v", fast, fast.Examined)
	}
	var all []runBody
	if err := json.Unmarshal(d.call("GET", "/main/runs", "admin", "", 200)["runs"], &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].ID != 2 || all[0].Began.Before(all[1].Began.Add(-time.Second)) {
		t.Errorf("runs %+v", all)
	}
}

// FuzzBegin: what asks for a run is one object with known keys.
func FuzzBegin(f *testing.F) {
	f.Add(`{"kind":"check","mib_s":5}`)
	f.Add(`{"kind":"scrub"} x`)
	f.Fuzz(func(t *testing.T, body string) {
		b, err := decodeBegin(strings.NewReader(body))
		if err != nil && !block.Is(err, block.Invalid) {
			t.Fatalf("%q: %v", body, err)
		}
		if err == nil && !json.Valid([]byte(body)) {
			t.Fatalf("%q was taken as %+v", body, b)
		}
	})
}
