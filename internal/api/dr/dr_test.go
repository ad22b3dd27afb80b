package dr_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvol/internal/api/dr"
	"kvol/internal/api/openapi/openapitest"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/proof"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2018, 9, 11, 2, 37, 41, 0, time.UTC)

const (
	source = block.VolumeID("b1c8b4d8-29e2-437a-830c-a012aed39c70")
	mine   = block.VolumeID("11111111-1111-4111-8111-111111111111")
)

// people knows three tokens.
type people map[string]block.Caller

func (p people) Authenticate(_ context.Context, token string) (block.Caller, error) {
	c, ok := p[token]
	if !ok {
		return c, block.Errorf(block.Unauthorized, "The token is not known.")
	}
	return c, nil
}

// everybody is who may ask: an administrator, a member and a reader of project p,
// and a member of another one.
var everybody = people{
	"admin": {Project: "ops", Roles: []string{"admin"}}, "owner": {Project: "p", Roles: []string{"member"}},
	"other": {Project: "q", Roles: []string{"member"}}, "reader": {Project: "p", Roles: []string{"reader"}},
}

// silence is other zones that don't answer.
type silence struct{}

func (silence) Call(_ context.Context, zone block.Zone, _, _ string, _, _ any) error {
	return block.Errorf(block.Unavailable, "Zone %s does not answer.", zone)
}

func (silence) Zones() []block.Zone { return []block.Zone{"kilo2", "mitaka1"} }

func clock() time.Time { return now }

// service is a zone that is a source of one volume and has a replica of another,
// with what also writes.
func service(t testing.TB, also ...func(*catalog.Tx) error) (s *control.Service, tidy func()) {
	t.Helper()
	c, err := catalog.Open(context.Background(), catalog.Options{Now: clock, Image: catalogtest.Empty()})
	if err != nil {
		t.Fatal(err)
	}
	store := mem.New(mem.Options{})
	set, err := driver.NewSet(map[string]driver.Driver{"s": store}, []block.Backend{{Name: "b", Store: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err = control.New(control.Config{Catalog: c, Backends: set, Zone: "kilo1", ZoneIndex: 24, Region: "r",
		Now: clock, DR: control.DR{URL: "http://kilo1", Peers: silence{},
			Prover: proof.New(proof.Config{Catalog: c, Backends: set, Now: clock})},
		Protections: func() []block.Protection {
			return []block.Protection{{Seq: 7, SourceZone: "kilo1", SourceType: "t", Source: block.Backend{Name: "b"},
				Destination: "kilo2", Backup: block.Backend{Name: "bak"}, Interval: time.Second, Enabled: true}}
		}})
	if err != nil {
		t.Fatal(err)
	}
	from := control.Document{Zone: "mitaka1", At: now, Protections: []control.DocumentProtection{{
		Protection: block.Protection{Seq: 2, SourceZone: "mitaka1", SourceType: "t", Destination: "kilo1",
			Backup: block.Backend{Name: "b"}, Interval: time.Second, Enabled: true, Transport: block.TransportMirror},
		Health: control.PairHealth{LastGood: now}}}}
	if _, err := s.ExchangeDocument(context.Background(), "mitaka1", from); err != nil {
		t.Fatal(err)
	}
	for _, fn := range append([]func(*catalog.Tx) error{fill}, also...) {
		if err := c.Update(context.Background(), fn); err != nil {
			t.Fatal(err)
		}
	}
	return s, func() {
		if err := errors.Join(c.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	}
}

// serve runs a service's API, and holds what it says to its document.
func serve(t *testing.T, also ...func(*catalog.Tx) error) *httptest.Server {
	t.Helper()
	s, tidy := service(t, also...)
	srv := httptest.NewServer(openapitest.Hold(t, dr.Document(), dr.New(dr.Config{Service: s, Auth: everybody,
		Now: clock})))
	t.Cleanup(func() {
		srv.Close()
		tidy()
	})
	return srv
}

func fill(tx *catalog.Tx) error {
	point := block.Point{ID: "point", Epoch: 1, Sequence: 3, At: now, Size: 4096, Root: block.RootHash{0xab}}
	named := block.Point{ID: "snap", Epoch: 1, Sequence: 2, At: now, Size: 4096, Name: "snap"}
	name := "data"
	j := block.DRJob{
		Rowkey:     88,
		Status:     block.DRSuccess,
		Message:    "OK",
		Point:      &point,
		BytesDone:  4096,
		BytesTotal: 4096,
		Start:      now,
		End:        now.Add(1500 * time.Millisecond),
		NewVolume:  mine,
		Request: block.DRRequest{Kind: block.DRRecovery, SourceZone: "mitaka1", SourceVolume: source, Destination: "kilo1",
			Project: "p"},
	}
	op := block.Operation{ID: "op1", Kind: block.OperationRecover, Project: "p", Status: block.OperationRunning}
	steps := []block.OperationStep{{Kind: block.StepRecover, Status: block.StepSucceeded, Source: source, Point: &point,
		Loss: &block.Loss{Since: now, Seconds: 2, Later: 4096}, BytesDone: 4096, BytesTotal: 4096},
		{Seq: 1, Status: block.StepWaiting, BytesTotal: 4096}}
	return errors.Join(
		tx.InsertOperation(&op, steps),
		tx.UpsertType(block.VolumeType{ID: "t", Name: "t"}),
		tx.InsertReplica(block.Replica{ID: "replica", SourceZone: "mitaka1", Source: source, Protection: 2, Backend: "b",
			Epoch: 1, Newest: point, Current: now, Entry: block.Entry{Volume: block.Volume{Project: "p", Name: &name}}}),
		tx.InsertPoint("replica", named, block.RootHash{}),
		tx.InsertPoint("replica", point, block.RootHash{}),
		tx.InsertVolume(block.Volume{ID: mine, Project: "p", TypeID: "t", Status: block.VolumeAvailable, Size: 1}),
		tx.PutLink(catalog.Link{Volume: mine, Protection: 7, State: catalog.LinkError, Error: "dial 10.0.0.1", Current: now,
			BytesSent: 9}),
		tx.Pin(
			mine,
			"p",
			"failover/none",
		),
		tx.InsertDRJob(j),
		tx.InsertAudit(block.Audit{User: "gabianet", Call: "list", Code: 200}),
	)
}

func get(t *testing.T, srv *httptest.Server, method, path, token string) (int, string) {
	t.Helper()
	code, body := send(t, srv, method, "/"+path, token, "")
	if method != http.MethodHead && !json.Valid([]byte(body)) {
		t.Errorf("%s: %s", path, body)
	}
	return code, body
}

// send makes a request with a body; "" for none.
func send(t *testing.T, srv *httptest.Server, method, path, token, content string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, srv.URL+"/api/dr/v1"+path, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if content != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestTransportsOfTwoZones: how bytes are to go under a protection is not taken from
// another zone's protection of the same number.
func TestTransportsOfTwoZones(t *testing.T) {
	const other = block.VolumeID("22222222-2222-4222-8222-222222222222")
	s, tidy := service(t, func(tx *catalog.Tx) error {
		return tx.InsertReplica(block.Replica{ID: "other", SourceZone: "kilo2", Source: other, Protection: 2, Backend: "b",
			Epoch: 1, Entry: block.Entry{Volume: block.Volume{Project: "p"}}})
	})
	defer tidy()
	d := control.Document{Zone: "kilo2", At: now, Protections: []control.DocumentProtection{{Protection: block.Protection{
		Seq: 2, SourceZone: "kilo2", SourceType: "t", Destination: "kilo1", Backup: block.Backend{Name: "b"},
		Interval: time.Second, Enabled: true}}}}
	if _, err := s.ExchangeDocument(t.Context(), "kilo2", d); err != nil {
		t.Fatal(err)
	}
	h := dr.New(dr.Config{Service: s, Auth: everybody, Now: clock})
	srv := httptest.NewServer(openapitest.Hold(t, dr.Document(), h))
	defer srv.Close()
	want := map[string]string{string(source): "rbd-mirror", string(other): "stream"}
	for path, list := range map[string]string{"replicas": "replicas", "health": "volumes"} {
		_, text := get(t, srv, http.MethodGet, path, "admin")
		var body map[string]json.RawMessage
		var rows []struct {
			Volume    string  `json:"volume_id"`
			Transport *string `json:"transport"`
		}
		if err := errors.Join(json.Unmarshal([]byte(text), &body), json.Unmarshal(body[list], &rows)); err != nil {
			t.Fatal(err, text)
		}
		found := 0
		for _, r := range rows {
			if w, ok := want[r.Volume]; ok {
				found++
				if r.Transport == nil || *r.Transport != w {
					t.Errorf("%s: volume %s goes by %v, and its protection says %s", path, r.Volume, r.Transport, w)
				}
			}
		}
		if found != len(want) {
			t.Errorf("%s tells %s", path, text)
		}
	}
}

// TestWhoSeesWhat asks every path as everybody.
func TestWhoSeesWhat(t *testing.T) {
	srv := serve(t)
	const hex = "ab00000000000000000000000000000000000000000000000000000000000000"
	for _, c := range []struct {
		path                string
		admin, owner, other int
		has                 string // in what the administrator sees
	}{
		{"zones", 200, 403, 403, `{"zone":"kilo1","index":24,"region":"r","url":"http://kilo1","own":true`},
		{"protections", 200, 403, 403, `"seq":2,"source_zone":"mitaka1"`},
		{"protections", 200, 403, 403, `"retention":[],"enabled":true,"status":"active","transport":"rbd-mirror"`},
		{"protections", 200, 403, 403, `"retention":[],"enabled":true,"status":"inactive","transport":"stream"`},
		{"protections", 200, 403, 403, `"rpo_target_seconds":15,"retention":[],"enabled":true`},
		{"replicas", 200, 200, 200, `"root":"` + hex + `","newest":true`},
		{"replicas/mitaka1/" + string(source), 200, 200, 404, `{"id":"snap","name":"snap"`},
		{"replicas", 200, 200, 200, `"source_deleted_at":null,"transport":"rbd-mirror"`},
		{"replicas/mitaka1/" + string(source), 200, 200, 404, `"source_deleted_at":null,"transport":"rbd-mirror"`},
		{"replicas/mitaka1/" + string(mine), 404, 404, 404, `"kind":"not found"`},
		{"replicas/mitaka1/x", 400, 400, 400, "must be a UUID"},
		{"links", 200, 200, 200, `"last_error":"dial 10.0.0.1","bytes_sent":9`},
		{"operations/recovery/88", 200, 200, 404, `"seconds":1.5,"copy":false`},
		{"operations/recovery/88", 200, 200, 404, `"root":"` + hex},
		{"operations/create/88", 404, 404, 404, "No create job has rowkey 88."},
		{"operations/create/0", 400, 400, 400, ""},
		{"operations/recovery/x", 400, 400, 400, ""},
		{"operations/drop/1", 404, 404, 404, ""},
		{"audit", 200, 403, 403, `"user":"gabianet"`},
		{"audit?limit=1&call=list", 200, 403, 403, `"call":"list"`},
		{"audit?limit=0", 400, 403, 403, "limit must be"},
		{"audit?before=x", 400, 400, 400, "before is a number"},
		{"audit/records", 200, 403, 403, `"records":[{"seq":1,"hash":"`},
		{"audit/records?after=99", 404, 403, 403, "has no record 99"},
		{"audit/verify", 200, 403, 403, `"whole":true`},
		{"audit/heads", 200, 403, 403, `"told":[],"not_believed":[]`},
		{"failovers", 200, 200, 200, `{"failovers":[]}`},
		{"stale", 200, 200, 200, `{"stale":[]}`},
		{"operations", 200, 200, 200, `"id":"op1","kind":"recover","status":"running"`},
		{"operations?kind=drill", 200, 200, 200, `{"operations":[]}`},
		{"operations/op1", 200, 200, 404, `"loss":{"since":"2018-09-11T02:37:41Z","seconds":2,"later_bytes":4096`},
		{"operations/op1", 200, 200, 404, `"cancelable":true,"bytes_done":4096,"bytes_total":8192`},
		{"operations/x", 404, 404, 404, "Operation x could not be found."},
		{"failovers/x", 404, 404, 404, "Failover x could not be found."},
		{"health", 200, 200, 200, `"state":"stalled","reason":"no point was ever committed"`},
		{"health", 200, 200, 200, `"unreplicated_bytes":null`},
		{"health", 200, 200, 200, `"transport":"rbd-mirror","point_transport":null`},
		{"health", 200, 200, 200, `"transport":"stream","by_transport":{`},
		{"events", 200, 200, 200, `"events":[]`},
		{"events?limit=0", 400, 400, 400, "limit must be"},
		{"events?limit=x", 400, 400, 400, "limit is a number"},
		{"rtos", 200, 403, 403, `"rtos":[]`},
		{"relays", 200, 403, 403, `"relays":[]`},
		{"limits", 200, 403, 403, `"limits":[]`},
		{"doctor", 200, 200, 200, `"kind":"leaked-pin"`},
		{"nothing", 404, 404, 404, "no such path"},
	} {
		for token, want := range map[string]int{"admin": c.admin, "owner": c.owner, "other": c.other} {
			code, body := get(t, srv, http.MethodGet, c.path, token)
			if code != want || token == "admin" && !strings.Contains(body, c.has) {
				t.Errorf("%s as %s: %d %s", c.path, token, code, body)
			}
			if token == "other" && code == http.StatusOK && strings.Contains(body, string(source)) {
				t.Errorf("%s tells a stranger: %s", c.path, body)
			}
			if token != "admin" && strings.Contains(body, "10.0.0.1") {
				t.Errorf("%s tells addresses: %s", c.path, body)
			}
		}
		for _, token := range []string{"", "guess"} {
			if code, _ := get(t, srv, http.MethodGet, c.path, token); code != 401 && c.path != "nothing" {
				t.Errorf("%s with token %q: %d", c.path, token, code)
			}
		}
		want := map[string]int{"nothing": 404, "doctor": 200}[c.path]
		if code, _ := get(t, srv, http.MethodPost, c.path, "admin"); code != cmp.Or(want, 405) {
			t.Errorf("POST %s: %d", c.path, code)
		}
	}
	if code, body := get(t, srv, http.MethodGet, "doctor?last=1", "owner"); code != 404 ||
		!strings.Contains(body, "has not looked by itself yet") {
		t.Errorf("%d %s", code, body)
	}
	_, body := get(t, srv, http.MethodGet, "replicas", "owner")
	if !strings.Contains(body, string(source)) {
		t.Errorf("the owner sees %s", body)
	}
}
