package kvol_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

var paths = []string{"list", "show", "create", "createlist", "recovery", "recoverylist"}

// good are parameters that each call takes.
func good(call string) url.Values {
	v := url.Values{}
	switch call {
	case "list":
		v.Set("zone", "mitaka1")
		v.Set("volume-type-id", string(sourceType))
		return v
	case "createlist", "recoverylist":
		return v
	}
	v.Set("src-zone", "mitaka1")
	v.Set("src-volume-type-id", string(sourceType))
	if call == "show" {
		return v
	}
	v.Set("dst-zone", "kilo1")
	v.Set("dst-tenant-id", tenant)
	v.Set("dst-volume-type-id", string(targetType))
	if call == "create" {
		v.Set("src-snapshot-id", string(snapshotID))
	} else {
		v.Set("src-volume-id", string(sourceID))
	}
	return v
}

// jobs counts what calls have started in a zone.
func (z *zone) jobs() (n int) {
	z.must(func(tx *catalog.Tx) error {
		n = 0
		for _, kind := range []block.DRKind{block.DRCreate, block.DRRecovery} {
			jobs, err := tx.DRJobs(kind, 1000)
			if err != nil {
				return err
			}
			n += len(jobs)
		}
		return nil
	})
	return n
}

func TestParameters(t *testing.T) {
	z := newWorld(t).zones["kilo1"]
	z.addReplica("now")
	const id = "6a21db69-dc6b-4423-834c-679ae153a638"
	for _, c := range []struct {
		calls, name, value, message string // value "-" leaves the parameter out
		code                        int
	}{
		{"list", "zone", "-", "zone is required", 400},
		{"list", "zone", "", "zone is required", 400},
		{"list", "zone", "a\x00b", "zone is not the name of a zone", 400},
		{"list", "zone", strings.Repeat("z", 256), "zone is not the name of a zone", 400},
		{"list", "zone", "nowhere", "", 204},
		{"list", "volume-type-id", "-", "volume-type-id is required", 400},
		{"list", "volume-type-id", "", "volume-type-id is required", 400},
		{"list", "volume-type-id", "nfs", "volume-type-id must be a UUID", 400},
		{"list", "volume-type-id", strings.ReplaceAll(id, "-", ""), "", 200},
		{"list", "volume-type-id", strings.ToUpper(id), "", 200},
		{"list", "volume-type-id", string(targetType), "", 204},
		{"list", "unknown", "x", "", 200},
		{"show create recovery", "src-zone", "-", "src-zone is required", 400},
		{"show create recovery", "src-zone", "", "src-zone is required", 400},
		{"show create recovery", "src-zone", "nowhere", "", 204},
		{"show create recovery", "src-volume-type-id", "-", "src-volume-type-id is required", 400},
		{"show create recovery", "src-volume-type-id", "7", "src-volume-type-id must be a UUID", 400},
		{"show create recovery", "src-volume-type-id", string(targetType), "", 204},
		{"show", "dst-zone", "", "", 200},
		{"show", "dst-zone", "None", "", 200},
		{"show", "dst-zone", "kilo2", "", 200},
		{"show", "dst-zone", "none", "", 204},
		{"show", "dst-zone", "\xff", "dst-zone is not the name of a zone", 400},
		{"create recovery", "dst-zone", "-", "dst-zone is required", 400},
		{"create recovery", "dst-zone", "None", "", 204},
		{"create recovery", "dst-zone", "mitaka1", "dst-zone must not be src-zone", 400},
		{"create recovery", "dst-tenant-id", "-", "dst-tenant-id is required", 400},
		{"create recovery", "dst-tenant-id", "demo", "dst-tenant-id must be 32 hexadecimal digits or a UUID", 400},
		{"create recovery", "dst-tenant-id", id, "", 200},
		{"create recovery", "dst-volume-type-id", "-", "dst-volume-type-id is required", 400},
		{"create recovery", "dst-volume-type-id", "nfs", "dst-volume-type-id must be a UUID", 400},
		{"create recovery", "dst-volume-type-id", id, "", 204},
		{"create recovery", "bootable", "yes", "", 200},
		{"create recovery", "bootable", "NO", "", 200},
		{"create recovery", "bootable", "", "bootable must be yes or no", 400},
		{"create recovery", "bootable", "true", "bootable must be yes or no", 400},
		{"create", "src-snapshot-id", "-", "src-snapshot-id is required", 400},
		{"create", "src-snapshot-id", "snap", "src-snapshot-id must be a UUID", 400},
		{"create", "src-snapshot-id", id, "", 204},
		{"recovery", "src-volume-id", "-", "src-volume-id is required", 400},
		{"recovery", "src-volume-id", "vol", "src-volume-id must be a UUID", 400},
		{"recovery", "src-volume-id", id, "", 204},
		{"createlist recoverylist", "rowkey", "-1", "rowkey must be a number that is not negative", 400},
		{"createlist recoverylist", "rowkey", "x", "rowkey must be a number that is not negative", 400},
		{"createlist recoverylist", "rowkey", "", "rowkey must be a number that is not negative", 400},
		{"createlist recoverylist", "rowkey", "9223372036854775808", "rowkey must be a number that is not negative", 400},
		{"createlist recoverylist", "rowkey", "9223372036854775807", "", 204},
		{"createlist recoverylist", "rowkey", "0", "", 200},
		{"createlist recoverylist", "limit", "0", "limit must be a number from 1 to 1000", 400},
		{"createlist recoverylist", "limit", "-5", "limit must be a number from 1 to 1000", 400},
		{"createlist recoverylist", "limit", "1001", "limit must be a number from 1 to 1000", 400},
		{"createlist recoverylist", "limit", "five", "limit must be a number from 1 to 1000", 400},
		{"createlist recoverylist", "limit", "1000", "", 200},
	} {
		for call := range strings.FieldsSeq(c.calls) {
			v := good(call)
			v.Set(c.name, c.value)
			if c.value == "-" {
				v.Del(c.name)
			}
			r := z.get("/api/kvol/" + call + "?" + v.Encode())
			want := ""
			if c.message != "" {
				want = "{\n  \"message\": \"" + c.message + "\"\n}\n"
			}
			if r.code != c.code || r.code != http.StatusOK && r.body != want {
				t.Errorf("%s %s=%q: %d %s, want %d %s", call, c.name, c.value, r.code, r.body, c.code, c.message)
			}
		}
	}
}

// TestMethods shows that only GET and POST do anything.
func TestMethods(t *testing.T) {
	z := newWorld(t).zones["kilo1"]
	z.addReplica("now")
	for _, call := range paths {
		for _, method := range []string{http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, "PATCH"} {
			r := z.ask(method, "/api/kvol/"+call+"?"+good(call).Encode())
			if r.code != http.StatusMethodNotAllowed || r.header.Get("Allow") != "GET, POST" {
				t.Errorf("%s %s: %d, Allow %q", method, call, r.code, r.header.Get("Allow"))
			}
			if r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s may be cached", method, call)
			}
		}
	}
	if n := z.jobs(); n != 0 {
		t.Errorf("%d jobs were started", n)
	}
	for _, path := range []string{
		"/api/kvol/list/", "/api/kvol", "/api/kvol/", "/api/kvol//list", "/api/kvol/drop", "/api/token/",
	} {
		r := z.get(path)
		if r.code != http.StatusNotFound || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, r.code, r.body)
		}
	}
}

func TestWhoAsks(t *testing.T) {
	z := newWorld(t).zones["kilo1"]
	z.addReplica("now")
	for _, call := range paths {
		for _, as := range []func(*http.Request){
			func(r *http.Request) { r.Header.Del("Authorization") },
			func(r *http.Request) { r.SetBasicAuth("gabianet", "old-token") },
			func(r *http.Request) { r.SetBasicAuth("gabianet", "") },
			func(r *http.Request) { r.SetBasicAuth("root", "the-token") },
			func(r *http.Request) { r.SetBasicAuth("gabianet", strings.Repeat("x", 5000)) },
		} {
			for _, query := range []string{"", "?" + good(call).Encode()} { // who comes before what
				r := z.ask(http.MethodGet, "/api/kvol/"+call+query, as)
				if r.code != http.StatusUnauthorized || r.header.Get("WWW-Authenticate") != `Basic realm="kvol"` ||
					!strings.Contains(r.body, `"message"`) {
					t.Errorf("%s: %d %s", call, r.code, r.body)
				}
			}
		}
	}
	if n := z.jobs(); n != 0 {
		t.Errorf("%d jobs were started", n)
	}
}

// TestPost sends the parameters as a form.
func TestPost(t *testing.T) {
	z := newWorld(t).zones["kilo1"]
	z.addReplica("now")
	body := good("recovery").Encode()
	res, err := http.NewRequest(http.MethodPost, z.api.URL+"/api/kvol/recovery", strings.NewReader(body))
	z.ok(err)
	res.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res.SetBasicAuth("gabianet", "the-token")
	answer, err := z.api.Client().Do(res)
	z.ok(err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || z.jobs() != 1 {
		t.Errorf("%d, %d jobs", answer.StatusCode, z.jobs())
	}
	if r := z.ask(http.MethodPost, "/api/kvol/list?"+good("list").Encode()); r.code != http.StatusOK {
		t.Errorf("posted query: %d", r.code)
	}
	if r := z.get("/api/kvol/list?zone=%zz"); r.code != http.StatusBadRequest {
		t.Errorf("broken escape: %d", r.code)
	}
}

// TestAudit shows that all calls are written down, and no secret is.
func TestAudit(t *testing.T) {
	z := newWorld(t).zones["kilo1"]
	z.addReplica("now")
	z.get("/api/kvol/recovery?token=the-token&" + good("recovery").Encode())
	z.get("/api/kvol/list?zone=nowhere&volume-type-id=" + string(sourceType))
	z.ask(http.MethodGet, "/api/token", func(r *http.Request) { r.SetBasicAuth("gabianet", "secret") })
	z.ask(http.MethodGet, "/api/kvol/show", func(r *http.Request) { r.SetBasicAuth("mallory", "guess") })
	calls, err := z.service.Audits(
		context.Background(),
		block.Caller{Roles: []string{"admin"}},
		catalog.AuditQuery{Limit: 10},
	)
	z.ok(err)
	calls = slices.DeleteFunc(calls, func(a block.Audit) bool { return a.Call == "recovery begins" && a.Rowkey == 88 })
	want := []struct {
		call, user string
		code       int
		rowkey     int64
	}{
		{"show", "mallory", 401, 0}, {"token", "gabianet", 200, 0}, {"list", "gabianet", 204, 0},
		{"recovery", "gabianet", 200, 88},
	}
	if len(calls) != len(want) {
		t.Fatalf("%+v", calls)
	}
	for i, w := range want {
		a := calls[i]
		if a.Call != w.call || a.User != w.user || a.Code != w.code || a.Rowkey != w.rowkey || a.Remote != "127.0.0.1" ||
			!a.At.Equal(epoch) {
			t.Errorf("%+v, want %+v", a, w)
		}
		for _, secret := range []string{"the-token", "secret", "guess"} {
			if strings.Contains(a.Params, secret) {
				t.Errorf("the audit log holds %q: %s", secret, a.Params)
			}
		}
	}
	if p := calls[3].Params; p != good("recovery").Encode() {
		t.Errorf("parameters %s", p)
	}
	if _, err := z.service.Audits(context.Background(), block.Caller{}, catalog.AuditQuery{Limit: 10}); !block.Is(
		err,
		block.Forbidden,
	) {
		t.Errorf("a tenant reads the audit log: %v", err)
	}
}
