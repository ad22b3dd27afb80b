package identity

import (
	"net/http"

	"kvol/internal/api"
	"kvol/internal/block"
)

// catalogRoutes tell about domains, regions, services and endpoints. They are
// what the configuration says and can only be read.
func (s *Service) catalogRoutes(rt *api.Router) {
	s.handle(rt, http.MethodGet, "/v3/domains", s.admin("identity:list_domains", s.listDomains))
	s.handle(rt, http.MethodGet, "/v3/domains/{domain}", s.authenticated(s.showDomain))
	s.handle(rt, http.MethodGet, "/v3/regions", s.authenticated(s.listRegions))
	s.handle(rt, http.MethodGet, "/v3/services", s.admin("identity:list_services", s.listServices))
	s.handle(rt, http.MethodGet, "/v3/endpoints", s.admin("identity:list_endpoints", s.listEndpoints))
}

type domainView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Enabled     bool              `json:"enabled"`
	Tags        []string          `json:"tags"`
	Options     struct{}          `json:"options"`
	Links       map[string]string `json:"links"`
}

func (s *Service) domainView(r *http.Request) domainView {
	return domainView{ID: domainID, Name: domainName, Description: "The default domain", Enabled: true,
		Tags: []string{}, Links: s.self(r, "/domains/"+domainID)}
}

func (s *Service) listDomains(w http.ResponseWriter, r *http.Request, _ session) error {
	views := []domainView{}
	if wanted(r.URL.Query(), domainName, true) {
		views = append(views, s.domainView(r))
	}
	s.writeList(w, r, "domains", views)
	return nil
}

func (s *Service) showDomain(w http.ResponseWriter, r *http.Request, _ session) error {
	if id := r.PathValue("domain"); id != domainID {
		return block.Errorf(block.NotFound, "Could not find domain: %s.", id)
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"domain": s.domainView(r)})
	return nil
}

func (s *Service) listRegions(w http.ResponseWriter, r *http.Request, _ session) error {
	s.writeList(w, r, "regions", []any{struct {
		ID          string            `json:"id"`
		Description string            `json:"description"`
		Parent      *string           `json:"parent_region_id"`
		Links       map[string]string `json:"links"`
	}{ID: s.config.Region, Links: s.self(r, "/regions/"+s.config.Region)}})
	return nil
}

type serviceView struct {
	Name    string            `json:"name"`
	ID      string            `json:"id"`
	Type    string            `json:"type"`
	Enabled bool              `json:"enabled"`
	Links   map[string]string `json:"links"`
}

func (s *Service) listServices(w http.ResponseWriter, r *http.Request, _ session) error {
	q := r.URL.Query()
	views := []serviceView{}
	for _, e := range s.config.Catalog {
		if q.Has("type") && q.Get("type") != e.Type || q.Has("name") && q.Get("name") != e.Name {
			continue
		}
		views = append(views, serviceView{Name: e.Name, ID: e.id(), Type: e.Type, Enabled: true,
			Links: s.self(r, "/services/"+e.id())})
	}
	s.writeList(w, r, "services", views)
	return nil
}

type endpointView struct {
	ID        string            `json:"id"`
	Interface string            `json:"interface"`
	RegionID  string            `json:"region_id"`
	ServiceID string            `json:"service_id"`
	URL       string            `json:"url"`
	Enabled   bool              `json:"enabled"`
	Region    string            `json:"region"`
	Links     map[string]string `json:"links"`
}

func (s *Service) listEndpoints(w http.ResponseWriter, r *http.Request, _ session) error {
	q := r.URL.Query()
	views := []endpointView{}
	for _, e := range s.config.Catalog {
		for _, i := range interfaces {
			if q.Has("service_id") && q.Get("service_id") != e.id() || q.Has("interface") && q.Get("interface") != i {
				continue
			}
			id := derivedID("endpoint", e.Type+" "+i)
			views = append(views, endpointView{ID: id, Interface: i, RegionID: s.config.Region, ServiceID: e.id(),
				URL: e.template(s.public(r)), Enabled: true, Region: s.config.Region,
				Links: s.self(r, "/endpoints/"+id)})
		}
	}
	s.writeList(w, r, "endpoints", views)
	return nil
}
