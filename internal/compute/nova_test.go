package compute

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"kvol/internal/block"
)

// Whoever answers that Nova or Keystone is elsewhere gets neither password nor token
// sent there.
func TestRedirects(t *testing.T) {
	var mu sync.Mutex
	var told []string // to the one elsewhere
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		told = append(told, r.Header.Get("X-Auth-Token")+string(body))
		w.WriteHeader(http.StatusOK)
	}))
	defer elsewhere.Close()
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		for _, from := range []string{"/v3", "/v2.1"} {
			here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, from) {
					http.Redirect(w, r, elsewhere.URL+r.URL.Path, status)
					return
				}
				w.Header().Set("X-Subject-Token", "the token")
				w.WriteHeader(http.StatusCreated)
			}))
			n := New(Config{URL: here.URL + "/v2.1", AuthURL: here.URL + "/v3", User: "kvol", Password: "a secret",
				Project: "service", UserDomain: "Default", ProjectDomain: "Default"})
			if err := n.VolumeEvent(t.Context(), Extended, []string{"s"}, "v"); !block.Is(err, block.Unavailable) {
				t.Errorf("%s answers with %d: %v", from, status, err)
			}
			here.Close()
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) > 0 {
		t.Errorf("the one elsewhere was told %q", told)
	}
}
