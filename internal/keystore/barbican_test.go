package keystore_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"kvol/internal/api/keymanager"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/keystore"
)

// people are who may use the key manager of the test: a token is a project and a
// user.
type people struct{}

func (people) Authenticate(_ context.Context, token string) (block.Caller, error) {
	project, user, _ := strings.Cut(token, "/")
	return block.Caller{Project: block.ProjectID(project), User: block.UserID(user), Roles: []string{"member"}}, nil
}

// manager is a key manager with its identity service. Each request is told to
// seen, before it is carried out and after that.
type manager struct {
	url  string
	keys *keystore.Service
	ca   []byte
	seen func(after bool)
}

func newCatalog(t *testing.T) (*catalog.Catalog, *keystore.Sealer) {
	t.Helper()
	c, err := catalog.Open(t.Context(), catalog.Options{})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	s, err := keystore.NewSealer([32]byte{1})
	must(t, err)
	return c, s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newManager(t *testing.T) *manager {
	t.Helper()
	c, sealer := newCatalog(t)
	m := &manager{keys: keystore.NewService(c, sealer), seen: func(bool) {}}
	mux := http.NewServeMux()
	mux.Handle("/key-manager/", keymanager.New(keymanager.Config{Service: m.keys, Auth: people{}}))
	mux.HandleFunc("POST /v3/auth/tokens", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Subject-Token", "p/keeper")
		w.WriteHeader(http.StatusCreated)
	})
	// One request at a time: what a client that was killed still asked for is
	// done before what comes after it.
	var one sync.Mutex
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one.Lock()
		defer one.Unlock()
		m.seen(false)
		answer := httptest.NewRecorder()
		if mux.ServeHTTP(answer, r); r.Context().Err() == nil {
			m.seen(true)
		}
		for k, v := range answer.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // a client that is gone needs no answer
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(s.Close)
	m.url, m.ca = s.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return m
}

func (m *manager) config() keystore.BarbicanConfig {
	return keystore.BarbicanConfig{URL: m.url + "/key-manager", AuthURL: m.url + "/v3", User: "keeper", Password: "x",
		CA: m.ca}
}

// held lists the keys that the manager has.
func (m *manager) held(t *testing.T) (keys [][]byte) {
	t.Helper()
	c := block.Caller{Project: "p", User: "keeper", Roles: []string{"member"}}
	list, _, err := m.keys.Secrets(t.Context(), c, "", 0, 100)
	must(t, err)
	for _, s := range list {
		_, key, err := m.keys.Payload(t.Context(), c, s.ID)
		must(t, err)
		keys = append(keys, key)
	}
	return keys
}

// TestOwnAuthority: the authority that is configured is believed, and no other.
func TestOwnAuthority(t *testing.T) {
	m := newManager(t)
	b, err := keystore.NewBarbican(m.config())
	must(t, err)
	id, err := b.Put(t.Context(), "p", "k", []byte("0123456789abcdef"))
	must(t, err)
	if key, err := b.Payload(t.Context(), "p", id); err != nil || string(key) != "0123456789abcdef" {
		t.Errorf("the key is %q, %v", key, err)
	}
	c := m.config()
	c.CA = nil
	b, err = keystore.NewBarbican(c)
	must(t, err)
	if _, err := b.Put(t.Context(), "p", "k", []byte("x")); !block.Is(err, block.Unavailable) {
		t.Errorf("an authority that nobody configured: %v", err)
	}
	c.CA = []byte("no certificate")
	if _, err := keystore.NewBarbican(c); !block.Is(err, block.Invalid) {
		t.Errorf("a CA that is none: %v", err)
	}
}

// TestReaders: hosts' users and, where all keys lie in one project, the volume's
// own user may read a key by their tokens.
func TestReaders(t *testing.T) {
	m := newManager(t)
	c := m.config()
	c.Project, c.Readers = "safe", []string{"nova"}
	b, err := keystore.NewBarbican(c)
	must(t, err)
	id, err := b.Put(t.Context(), "tenant", "k", []byte("0123456789abcdef"))
	must(t, err)
	read := func(user string) error {
		_, _, err := m.keys.Payload(t.Context(), block.Caller{Project: "tenant", User: block.UserID(user),
			Roles: []string{"reader"}}, id)
		return err
	}
	if err := read("alice"); !block.Is(err, block.NotFound) {
		t.Errorf("before she was let to: %v", err)
	}
	must(t, b.Permit(t.Context(), "tenant", id, "alice"))
	must(t, read("alice"))
	must(t, read("nova"))
	if err := read("mallory"); !block.Is(err, block.NotFound) {
		t.Errorf("somebody else: %v", err)
	}
}

// TestKilledPlacer kills the zone at each request that it makes of the key
// manager, when a key is placed and when it is removed. In the end the manager
// has the key once, and then not at all.
func TestKilledPlacer(t *testing.T) {
	for n := 1; ; n++ {
		died := false
		for _, after := range []bool{false, true} {
			for _, gone := range []bool{false, true} {
				died = killedPlacer(t, n, after, gone) || died
			}
		}
		if !died {
			if n < 8 {
				t.Errorf("%d requests only", n-1)
			}
			return
		}
	}
}

// killedPlacer is one such case. gone: the volume is deleted as soon as the zone
// is back.
func killedPlacer(t *testing.T, n int, after, gone bool) (died bool) {
	m := newManager(t)
	c, sealer := newCatalog(t)
	var key []byte
	must(t, c.Update(t.Context(), func(tx *catalog.Tx) error {
		id, err := sealer.NewKey(tx, "p", "alice", "aes", 256)
		if err != nil {
			return err
		}
		if key, err = sealer.Key(tx, id); err != nil {
			return err
		}
		return tx.InsertVolume(block.Volume{ID: "v", Project: "p", Encrypted: true,
			Encryption: &block.VolumeEncryption{Key: id, Provider: "luks"}})
	}))
	config := m.config()
	config.Readers = []string{"nova"}
	placer := func() *keystore.Placer {
		b, err := keystore.NewBarbican(config)
		must(t, err)
		return keystore.NewPlacer(c, sealer, b, slog.New(slog.DiscardHandler))
	}
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	requests := 0
	m.seen = func(is bool) {
		if !is {
			requests++
		}
		if requests == n && is == after && ctx.Err() == nil {
			died = true
			kill()
		}
	}
	what := fmt.Sprintf("killed at request %d, after %v", n, after)
	_ = placer().Round(ctx) // what it says when it is killed nobody hears
	if !gone && ctx.Err() != nil {
		ctx = t.Context()
		must(t, placer().Round(ctx))
	}
	if held := m.held(t); !gone && (len(held) != 1 || !bytes.Equal(held[0], key)) {
		t.Errorf("%s: the manager has %d keys", what, len(held))
	}
	must(t, c.Update(t.Context(), func(tx *catalog.Tx) error { return tx.DeleteVolume("v") }))
	if ctx.Err() == nil {
		_ = placer().Round(ctx)
	}
	must(t, placer().Round(t.Context()))
	if held := m.held(t); len(held) != 0 {
		t.Errorf("%s: the manager has %d keys of no volume", what, len(held))
	}
	must(t, c.View(t.Context(), func(tx *catalog.Tx) error {
		left, err := tx.KeyRemovals(10)
		if len(left) > 0 {
			t.Errorf("%s: left to remove %v", what, left)
		}
		return err
	}))
	return died
}

// FuzzBarbican gives the client answers of all kinds: it says what is wrong with
// them, takes no key that it was not given, and follows none to another place.
func FuzzBarbican(f *testing.F) {
	f.Add(uint16(0), "t", []byte(`{"secrets": [{"name": "k", "secret_ref": "http://x/v1/secrets/`+block.NewID()+`"}]}`))
	f.Add(uint16(1), "t", []byte(`{"secret_ref": "http://x/v1/secrets/`+block.NewID()+`"}`))
	f.Add(uint16(107), "t", []byte(`{"secret_ref": 1}`))
	f.Add(uint16(201), "", []byte(`{"secrets": null}`))
	f.Add(uint16(0), "\n", []byte(`{"secrets": [{"name": null, "secret_ref": "../../x"}]}`))
	f.Fuzz(func(t *testing.T, status uint16, token string, body []byte) {
		code := 200 + int(status)%400 // 1xx are no answers
		strayed := false
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				strayed = true
			}
			if r.URL.Path == "/v3/auth/tokens" {
				w.Header().Set("X-Subject-Token", token)
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
			_, _ = w.Write(body) // refused where a status has no body
		}))
		defer s.Close()
		b, err := keystore.NewBarbican(keystore.BarbicanConfig{URL: s.URL, AuthURL: s.URL + "/v3", User: "u", Password: "p"})
		must(t, err)
		id, err := b.Put(t.Context(), "p", "k", []byte("0123456789abcdef"))
		if _, ok := block.ParseID(string(id)); err == nil && !ok {
			t.Errorf("a secret has the id %q", id)
		}
		key, second := b.Payload(t.Context(), "p", "i")
		if second == nil && !bytes.Equal(key, body) {
			t.Errorf("the key is %q, the answer %q", key, body)
		}
		for _, err := range []error{err, second, b.Remove(t.Context(), "p", "i"), b.Permit(t.Context(), "p", "i", "u")} {
			if err != nil && block.KindOf(err) == block.Internal {
				t.Errorf("an error of no kind: %v", err)
			}
		}
		if strayed {
			t.Error("it followed to another place")
		}
	})
}
