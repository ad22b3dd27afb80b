package glance_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/glance"
	"kvol/internal/keystone"
)

const imageID = "0f3a5b0e-6d1c-4a53-9d8e-7f5a4c2b1e00"

// service is a client of a server that answers as fn does, and logs in there.
func service(t testing.TB, stall time.Duration, fn http.HandlerFunc) *glance.Service {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v3/auth/tokens" {
			w.Header().Set("X-Subject-Token", "own")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{"token":{"expires_at":"2100-01-01T00:00:00Z"}}`))
			return
		}
		fn(w, r)
	}))
	t.Cleanup(server.Close)
	k, err := keystone.New(keystone.Config{AuthURL: server.URL + "/v3", User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	g, err := glance.New(glance.Config{URL: server.URL, Keystone: k, Stall: stall})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var alice = block.Caller{Project: "p", Token: "hers"}

// TestStalled: a Glance that stops in the middle, in either direction, is waited for
// no longer than it may stall.
func TestStalled(t *testing.T) {
	hang := make(chan struct{})
	g := service(t, 50*time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/file") {
			_, _ = w.Write([]byte(`{"id":"` + imageID + `","status":"active","size":1000}`))
			return
		}
		if r.Method == http.MethodGet {
			_, _ = w.Write(make([]byte, 10))
			_ = http.NewResponseController(w).Flush() // and no more
		}
		<-hang
	})
	defer close(hang)
	body, err := g.Open(t.Context(), alice, imageID)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if n, err := io.Copy(io.Discard, body); !block.Is(err, block.Unavailable) || n > 10 {
		t.Errorf("a download: %d bytes, %v", n, err)
	}
	if err := g.Upload(t.Context(), alice, imageID, endless{}); !block.Is(err, block.Unavailable) {
		t.Errorf("an upload: %v", err)
	}
	broken := errors.New("the disk is broken")
	err = g.Upload(t.Context(), alice, imageID, io.MultiReader(bytes.NewReader(make([]byte, 10)), failing{broken}))
	if !errors.Is(err, broken) {
		t.Errorf("an upload of what can't be read: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzGlance gives the client answers of all kinds: what it opens is as long as it
// is said to be and has the hash that it is said to have, no error is without a kind,
// and it follows to no other place.
func FuzzGlance(f *testing.F) {
	f.Add(uint16(0), []byte(`{"id":"`+imageID+`","name":"n","status":"active","size":3,"os_hash_algo":"md5",`+
		`"os_hash_value":"900150983cd24fb0d6963f7d28e17f72","hw":"x","tags":["a"]}`), []byte("abc"))
	f.Add(uint16(0), []byte(`{"id":"`+imageID+`","status":"active","size":4,"checksum":"x"}`), []byte("abc"))
	f.Add(uint16(0), []byte(`{"images":[{"id":"`+imageID+`","name":"n"}]}`), []byte(""))
	f.Add(uint16(104), []byte(`{"id":1}`), []byte("abc"))
	f.Add(uint16(201), []byte(`null`), []byte("abc"))
	f.Fuzz(func(t *testing.T, status uint16, about, content []byte) {
		strayed := false
		g := service(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
			strayed = strayed || r.URL.Path == "/elsewhere"
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(200 + int(status)%400)
			text := about
			if strings.HasSuffix(r.URL.Path, "/file") {
				text = content
			}
			_, _ = w.Write(text) // refused where a status has no body
		})
		ctx := context.Background()
		img, err := g.Find(ctx, alice, imageID)
		_, byName := g.Find(ctx, alice, "n")
		_, made := g.Create(ctx, alice, control.Image{Name: "n", Properties: map[string]string{"a": "b"}})
		body, opened := g.Open(ctx, alice, imageID)
		if opened == nil {
			got, read := io.ReadAll(body)
			if read == nil && int64(len(got)) != img.Size {
				t.Errorf("%d bytes of %d", len(got), img.Size)
			}
			opened = errors.Join(read, body.Close())
		}
		for _, err := range []error{err, byName, made, opened, g.Delete(ctx, alice, imageID)} {
			if err != nil && block.KindOf(err) == block.Internal {
				t.Errorf("an error of no kind: %v", err)
			}
		}
		if strayed {
			t.Error("it followed to another place")
		}
	})
}
