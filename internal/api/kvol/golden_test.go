package kvol_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// golden reads an example of the document: the request's path and the answer's
// body.
func golden(t *testing.T, name string) (path, body string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".http"))
	if err != nil {
		t.Fatal(err)
	}
	request, response, _ := strings.Cut(string(text), "\n\n")
	line, _, _ := strings.Cut(request, "\n")
	_, body, _ = strings.Cut(response, "\n\n")
	return strings.Fields(line)[1], body
}

func expect(t *testing.T, z *zone, name string) {
	t.Helper()
	path, want := golden(t, name)
	r := z.get(path)
	if r.code != http.StatusOK || r.body != want {
		t.Errorf("%s: %d\n%s\nwant\n%s", path, r.code, r.body, want)
	}
	if ct := r.header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("%s: content type %q", path, ct)
	}
	if cc := r.header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("%s: cache control %q", path, cc)
	}
}

// TestDocument asks what each example of the document asks, of every zone, and
// wants its answer byte for byte.
func TestDocument(t *testing.T) {
	w := newWorld(t)
	k := w.zones["kilo1"]
	k.addReplica("now")
	k.must(func(tx *catalog.Tx) error { // the rowkeys of the examples are the second of their zone
		for _, name := range []string{"dr.create", "dr.recovery"} {
			if _, err := tx.Next(name); err != nil {
				return err
			}
		}
		return nil
	})
	expect(t, w.zones["kilo2"], "create")   // passed on
	expect(t, w.zones["kilo1"], "recovery") // its own
	k.must(func(tx *catalog.Tx) error {
		for _, kind := range []block.DRKind{block.DRCreate, block.DRRecovery} {
			j, err := tx.DRJob(kind, 152)
			if err != nil {
				return err
			}
			j.NewVolume, j.Message, j.Status = "280f3419-2b65-46cf-8b39-6d22ce41eac9", "OK", block.DRSuccess
			j.End = epoch.Add(70 * time.Second)
			if err := tx.UpdateDRJob(j); err != nil {
				return err
			}
		}
		return nil
	})
	for _, z := range w.zones {
		for _, name := range []string{"list", "show", "createlist", "recoverylist"} {
			expect(t, z, name)
		}
	}
}

func TestToken(t *testing.T) {
	z := newWorld(t).zones["kilo1"]
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r := z.ask(method, "/api/token", func(r *http.Request) { r.SetBasicAuth("gabianet", "secret") })
		want := "{\n  \"duration\": 3600,\n  \"expires\": \"2018-09-11 03:37:41\",\n  \"token\": \"the-token\"\n}\n"
		if r.code != http.StatusOK || r.body != want {
			t.Errorf("%s: %d %s", method, r.code, r.body)
		}
	}
	for _, bad := range []func(*http.Request){
		func(r *http.Request) { r.SetBasicAuth("gabianet", "wrong") },
		func(r *http.Request) { r.SetBasicAuth("root", "secret") },
		func(r *http.Request) { r.SetBasicAuth("gabianet", "") },
		func(r *http.Request) { r.Header.Del("Authorization") },
		func(r *http.Request) { r.Header.Set("Authorization", "Bearer the-token") },
	} {
		r := z.ask(http.MethodGet, "/api/token", bad)
		if r.code != http.StatusUnauthorized || r.header.Get("WWW-Authenticate") != `Basic realm="kvol"` {
			t.Errorf("%d %s", r.code, r.body)
		}
	}
}
