package cinder

import (
	"net/http"

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

// versions answers with what is served here. Nobody needs a token for it.
func (s *server) versions(w http.ResponseWriter, r *http.Request, status int) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		s.fail(w, r, errBadMethod)
		return
	}
	api.WriteJSON(w, status, versionDocument{[]version{{
		ID: "v2.0", Status: "CURRENT", Updated: "2014-06-28T12:20:21Z",
		Links: []link{
			{Rel: "describedby", Type: "text/html", Href: "https://docs.openstack.org/"},
			{Rel: "self", Href: api.PublicURL(r, s.cfg.PublicURL) + "/v2/"},
		},
		MediaTypes: []mediaType{{"application/json", "application/vnd.openstack.volume+json;version=2"}},
	}}})
}
