package identity

import (
	"net/http"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// projectBody is the body of requests that make or change a project.
type projectBody struct {
	Project *struct {
		Name        *string `json:"name"`
		Description *string `json:"description"`
		Enabled     *bool   `json:"enabled"`
		DomainID    *string `json:"domain_id"`
		ParentID    *string `json:"parent_id"`
	} `json:"project"`
}

type projectView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	DomainID    string            `json:"domain_id"`
	Description string            `json:"description"`
	Enabled     bool              `json:"enabled"`
	ParentID    string            `json:"parent_id"`
	IsDomain    bool              `json:"is_domain"`
	Tags        []string          `json:"tags"`
	Options     struct{}          `json:"options"`
	Links       map[string]string `json:"links"`
}

func (s *Service) projectView(r *http.Request, p Project) projectView {
	return projectView{ID: string(p.ID), Name: p.Name, DomainID: domainID, Description: p.Description,
		Enabled: !p.Disabled, ParentID: domainID, Tags: []string{}, Links: s.self(r, "/projects/"+string(p.ID))}
}

func (s *Service) writeProjects(w http.ResponseWriter, r *http.Request, projects []catalog.Project) {
	q := r.URL.Query()
	views := []projectView{}
	for _, p := range projects {
		other := q.Has("parent_id") && q.Get("parent_id") != domainID ||
			q.Get("is_domain") == "true" || q.Get("is_domain") == "True"
		if !other && wanted(q, p.Name, p.Enabled) {
			views = append(views, s.projectView(r, projectOf(p)))
		}
	}
	s.writeList(w, r, "projects", views)
}

// inProject reports whether who asks has a role in the path's project.
func inProject(r *http.Request, a session) bool {
	return r.PathValue("project") == string(a.project.ID)
}

func (s *Service) projectRoutes(rt *api.Router) {
	s.handle(rt, http.MethodGet, "/v3/projects", s.admin("identity:list_projects", s.listProjects))
	s.handle(rt, http.MethodPost, "/v3/projects", s.admin("identity:create_project", s.createProject))
	s.handle(rt, http.MethodGet, "/v3/projects/{project}", s.admin("identity:get_project", s.showProject, inProject))
	s.handle(rt, http.MethodPatch, "/v3/projects/{project}", s.admin("identity:update_project", s.updateProject))
	s.handle(rt, http.MethodDelete, "/v3/projects/{project}", s.admin("identity:delete_project", s.deleteProject))
}

func (s *Service) listProjects(w http.ResponseWriter, r *http.Request, _ session) error {
	var projects []catalog.Project
	err := s.catalog.View(r.Context(), func(tx *catalog.Tx) (err error) {
		projects, err = tx.Projects()
		return err
	})
	if err != nil {
		return err
	}
	s.writeProjects(w, r, projects)
	return nil
}

func (s *Service) createProject(w http.ResponseWriter, r *http.Request, _ session) error {
	var body projectBody
	if err := decode(r, &body); err != nil {
		return err
	}
	if body.Project == nil || body.Project.Name == nil {
		return block.Errorf(block.Invalid, "'name' is a required property")
	}
	for _, d := range []*string{body.Project.DomainID, body.Project.ParentID} {
		if d != nil && *d != domainID {
			return block.Errorf(block.NotFound, "Could not find domain: %s.", *d)
		}
	}
	p := Project{Name: *body.Project.Name, Disabled: body.Project.Enabled != nil && !*body.Project.Enabled}
	set(&p.Description, body.Project.Description)
	p, err := s.CreateProject(r.Context(), p)
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusCreated, map[string]any{"project": s.projectView(r, p)})
	return nil
}

func (s *Service) showProject(w http.ResponseWriter, r *http.Request, _ session) error {
	var row catalog.Project
	err := s.catalog.View(r.Context(), func(tx *catalog.Tx) (err error) {
		row, err = tx.Project(block.ProjectID(r.PathValue("project")))
		return err
	})
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"project": s.projectView(r, projectOf(row))})
	return nil
}

func (s *Service) updateProject(w http.ResponseWriter, r *http.Request, _ session) error {
	var body projectBody
	if err := decode(r, &body); err != nil {
		return err
	}
	if body.Project == nil {
		return expecting("project", "request body")
	}
	p, err := s.UpdateProject(r.Context(), block.ProjectID(r.PathValue("project")), Change{Name: body.Project.Name,
		Description: body.Project.Description, Enabled: body.Project.Enabled})
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"project": s.projectView(r, p)})
	return nil
}

func (s *Service) deleteProject(w http.ResponseWriter, r *http.Request, _ session) error {
	if err := s.DeleteProject(r.Context(), block.ProjectID(r.PathValue("project"))); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
