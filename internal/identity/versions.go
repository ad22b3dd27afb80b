package identity

import (
	"net/http"

	"kvol/internal/api"
)

type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

type mediaType struct {
	Base string `json:"base"`
	Type string `json:"type"`
}

type version struct {
	ID         string      `json:"id"`
	Status     string      `json:"status"`
	Updated    string      `json:"updated"`
	Links      []link      `json:"links"`
	MediaTypes []mediaType `json:"media-types"`
}

// v3Version is that of Keystone 22, whose answers ours are compared with.
func (s *Service) v3Version(r *http.Request) version {
	return version{ID: "v3.14", Status: "stable", Updated: "2020-04-07T00:00:00Z",
		Links:      []link{{"self", s.base(r) + "/v3/"}},
		MediaTypes: []mediaType{{"application/json", "application/vnd.openstack.identity-v3+json"}}}
}

// v2Version is as Keystone's last release with v2.0 told it.
func (s *Service) v2Version(r *http.Request) version {
	return version{ID: "v2.0", Status: "deprecated", Updated: "2016-08-04T00:00:00Z",
		Links:      []link{{"self", s.base(r) + "/v2.0/"}},
		MediaTypes: []mediaType{{"application/json", "application/vnd.openstack.identity-v2.0+json"}}}
}

func (s *Service) versionRoutes(rt *api.Router) {
	for _, pattern := range []string{"", "/{$}"} {
		s.handle(rt, http.MethodGet, pattern, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Location", s.base(r)+"/v3/")
			api.WriteJSON(w, http.StatusMultipleChoices, map[string]any{"versions": map[string]any{
				"values": []version{s.v3Version(r), s.v2Version(r)}}})
			return nil
		})
		s.handle(rt, http.MethodGet, "/v3"+pattern, func(w http.ResponseWriter, r *http.Request) error {
			api.WriteJSON(w, http.StatusOK, map[string]any{"version": s.v3Version(r)})
			return nil
		})
		s.handle(rt, http.MethodGet, "/v2.0"+pattern, func(w http.ResponseWriter, r *http.Request) error {
			api.WriteJSON(w, http.StatusOK, map[string]any{"version": s.v2Version(r)})
			return nil
		})
	}
}
