package identity

import (
	"net/http"
	"strings"

	"kvol/internal/api"
	"kvol/internal/block"
)

// Endpoint is a service that the service catalog names, under one address for
// the interfaces public, internal and admin.
type Endpoint struct {
	Type string // "volumev3", "image", ...
	Name string // "cinderv3", "glance", ...
	ID   string // derived from Type if empty

	// URL may hold $(project_id), which stands for the token's project; a token
	// without one is not told such an address. A URL that begins with "/" is on
	// this zone's own address.
	URL string
}

var interfaces = []string{"public", "internal", "admin"}

// projectPlaces are the ways to write the project's place in a URL, ours and
// Keystone's.
var projectPlaces = []string{"$(project_id)s", "$(tenant_id)s", "%(project_id)s", "%(tenant_id)s",
	"$(project_id)", "$(tenant_id)"}

func (e Endpoint) id() string {
	if e.ID != "" {
		return e.ID
	}
	return derivedID("service", e.Type)
}

// url is the endpoint's address for a project; ok is false if it needs one and
// there is none.
func (e Endpoint) url(public string, project block.ProjectID) (url string, ok bool) {
	url = e.template(public)
	for _, place := range projectPlaces {
		if strings.Contains(url, place) && project == "" {
			return "", false
		}
		url = strings.ReplaceAll(url, place, string(project))
	}
	return url, true
}

// template is the endpoint's address with the project's place as it is.
func (e Endpoint) template(public string) string {
	if strings.HasPrefix(e.URL, "/") {
		return public + e.URL
	}
	return e.URL
}

// public is the address under which this request's sender reaches the zone.
func (s *Service) public(r *http.Request) string { return api.PublicURL(r, s.config.PublicURL) }

// base is the address of the identity service itself.
func (s *Service) base(r *http.Request) string {
	return s.public(r) + strings.TrimRight(s.config.Prefix, "/")
}

// v3Endpoint is an endpoint in v3's catalog.
type v3Endpoint struct {
	ID        string `json:"id"`
	Interface string `json:"interface"`
	RegionID  string `json:"region_id"`
	URL       string `json:"url"`
	Region    string `json:"region"`
}

type v3Service struct {
	Endpoints []v3Endpoint `json:"endpoints"`
	ID        string       `json:"id"`
	Type      string       `json:"type"`
	Name      string       `json:"name"`
}

func (s *Service) v3Catalog(r *http.Request, project block.ProjectID) []v3Service {
	services := make([]v3Service, 0, len(s.config.Catalog))
	for _, e := range s.config.Catalog {
		v := v3Service{Endpoints: []v3Endpoint{}, ID: e.id(), Type: e.Type, Name: e.Name}
		if url, ok := e.url(s.public(r), project); ok {
			for _, i := range interfaces {
				v.Endpoints = append(v.Endpoints, v3Endpoint{ID: derivedID("endpoint", e.Type+" "+i), Interface: i,
					RegionID: s.config.Region, URL: url, Region: s.config.Region})
			}
		}
		services = append(services, v)
	}
	return services
}

type v2Endpoint struct {
	Region      string `json:"region"`
	PublicURL   string `json:"publicURL"`
	InternalURL string `json:"internalURL"`
	AdminURL    string `json:"adminURL"`
}

type v2Service struct {
	Endpoints []v2Endpoint `json:"endpoints"`
	Links     []string     `json:"endpoints_links"`
	Type      string       `json:"type"`
	Name      string       `json:"name"`
}

func (s *Service) v2Catalog(r *http.Request, project block.ProjectID) []v2Service {
	services := make([]v2Service, 0, len(s.config.Catalog))
	if project == "" {
		return services
	}
	for _, e := range s.config.Catalog {
		url, ok := e.url(s.public(r), project)
		if !ok {
			continue
		}
		if e.Type == "identity" { // who came by v2.0 is to come so again
			if root, ok := strings.CutSuffix(strings.TrimRight(url, "/"), "/v3"); ok {
				url = root + "/v2.0"
			}
		}
		services = append(services, v2Service{Links: []string{}, Type: e.Type, Name: e.Name, Endpoints: []v2Endpoint{
			{Region: s.config.Region, PublicURL: url, InternalURL: url, AdminURL: url}}})
	}
	return services
}
