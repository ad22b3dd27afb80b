package image

import (
	"net/http"
	"strconv"

	"kvol/internal/api"
)

func statusLine(status int) string { return strconv.Itoa(status) + " " + http.StatusText(status) }

// versions of the API, newest first; what is asked of them is the same
// (glance/api/versions.py).
var versions = []string{"v2.9", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"}

type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

type version struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Links  []link `json:"links"`
}

func (s *Service) versionRoutes(rt *api.Router) {
	for pattern, status := range map[string]int{
		"": http.StatusMultipleChoices, "/{$}": http.StatusMultipleChoices,
		"/versions": http.StatusOK, "/versions/{$}": http.StatusOK,
	} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			list := make([]version, len(versions))
			for i, id := range versions {
				list[i] = version{ID: id, Status: "SUPPORTED", Links: []link{{"self",
					api.PublicURL(r, s.config.PublicURL) + s.config.Prefix + "/v2/"}}}
			}
			list[0].Status = "CURRENT"
			api.WriteJSON(w, status, map[string]any{"versions": list})
		})
		rt.Handle(http.MethodGet, s.config.Prefix+pattern, h)
		rt.Handle(http.MethodHead, s.config.Prefix+pattern, h)
	}
}
