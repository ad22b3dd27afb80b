package cinder

import (
	"net/http"
	"strconv"
	"strings"

	"kvol/internal/api"
)

type versionDocument struct {
	Versions []version `json:"versions"`
}

// version is an API version as clients discover it. Version and MinVersion
// must be there even where there are no microversions: nova and cinderclient
// look into them (cinder/api/versions.py).
type version struct {
	ID         string      `json:"id"`
	Status     string      `json:"status"`
	Version    string      `json:"version"`
	MinVersion string      `json:"min_version"`
	Updated    string      `json:"updated"`
	Links      []link      `json:"links"`
	MediaTypes []mediaType `json:"media-types"`
}

type link struct {
	Rel  string `json:"rel"`
	Type string `json:"type,omitempty"`
	Href string `json:"href"`
}

type mediaType struct {
	Base string `json:"base"`
	Type string `json:"type"`
}

// versions answers with what is served here, and says so of a microversion as any
// answer does. Nobody needs a token for it.
func (s *server) versions(w http.ResponseWriter, r *http.Request, status int) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		s.fail(w, r, errBadMethod)
		return
	}
	if !strings.HasPrefix(r.URL.Path, "/v2") {
		if _, err := negotiate(w, r); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	base := api.PublicURL(r, s.cfg.PublicURL)
	v2 := describe(base, 2, version{ID: "v2.0", Status: "DEPRECATED", Updated: "2014-06-28T12:20:21Z"})
	v3 := describe(base, 3, version{ID: "v3.0", Status: "CURRENT", Version: maxVersion, MinVersion: minVersion,
		Updated: "2022-08-31T00:00:00Z"})
	var served []version
	switch strings.Trim(r.URL.Path, "/") {
	case "v2":
		served = []version{v2}
	case "v3":
		served = []version{v3}
	default:
		served = []version{v2, v3}
	}
	api.WriteJSON(w, status, versionDocument{served})
}

// describe adds what is the same for all versions but for their number.
func describe(base string, major int, v version) version {
	number := strconv.Itoa(major)
	v.Links = []link{
		{Rel: "describedby", Type: "text/html", Href: "https://docs.openstack.org/"},
		{Rel: "self", Href: base + "/v" + number + "/"},
	}
	v.MediaTypes = []mediaType{{"application/json", "application/vnd.openstack.volume+json;version=" + number}}
	return v
}

// healthcheck is what load balancers in front of Cinder ask, who need no token
// (oslo.middleware, healthcheck): a text, or an object for those who want JSON.
func healthcheck(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		noPath(w, r)
	case strings.Contains(r.Header.Get("Accept"), "application/json"):
		api.WriteJSON(w, http.StatusOK, health{Reasons: []string{"OK"}})
	default:
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		_, _ = w.Write([]byte("OK")) // whoever asked may be gone
	}
}

type health struct {
	Detailed bool     `json:"detailed"`
	Reasons  []string `json:"reasons"`
}
