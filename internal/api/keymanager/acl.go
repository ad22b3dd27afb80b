package keymanager

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"unicode/utf8"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/keystore"
)

// aclBody is the body of a PUT or PATCH of an access list, and of its answer.
type aclBody struct {
	Read aclRead `json:"read"`
}

type aclRead struct {
	Created *string        `json:"created,omitempty"`
	Updated *string        `json:"updated,omitempty"`
	Project *bool          `json:"project-access,omitempty"`
	Users   []block.UserID `json:"users,omitempty"`
}

// decodeACL reads what is to become of an access list. Only reading can be
// allowed, as in Barbican.
func decodeACL(from io.Reader) (c keystore.ACLChange, err error) {
	var b struct {
		Read *struct {
			Project *bool          `json:"project-access"`
			Users   []block.UserID `json:"users"`
		} `json:"read"`
	}
	d := json.NewDecoder(from)
	if err := d.Decode(&b); err != nil {
		return c, block.Wrap(block.Invalid, err, "The body must be a JSON object that describes an access list.")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || b.Read == nil {
		return c, block.Errorf(block.Invalid, "The body must be one JSON object with read.")
	}
	for _, u := range b.Read.Users {
		if n := utf8.RuneCountInString(string(u)); n == 0 || n > maxText {
			return c, block.Errorf(block.Invalid, "Ids of users have 1 to %d letters.", maxText)
		}
	}
	return keystore.ACLChange{Users: b.Read.Users, ProjectAccess: b.Read.Project}, nil
}

func (s *Server) showACL(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	acl, err := s.cfg.Service.ACL(r.Context(), c, secretID(r))
	if err != nil {
		return err
	}
	everybody := true
	out := aclBody{aclRead{Project: &everybody}}
	if acl != nil {
		created, updated := acl.CreatedAt.Format(stamp), acl.UpdatedAt.Format(stamp)
		out.Read = aclRead{Created: &created, Updated: &updated, Project: &acl.ProjectAccess, Users: acl.Users}
	}
	api.WriteJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) putACL(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	return s.changeACL(w, r, c, true)
}

func (s *Server) patchACL(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	return s.changeACL(w, r, c, false)
}

func (s *Server) changeACL(w http.ResponseWriter, r *http.Request, c block.Caller, whole bool) error {
	change, err := decodeACL(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = s.cfg.Service.SetACL(r.Context(), c, secretID(r), change, whole)
	}
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, map[string]string{"acl_ref": s.ref(r, secretID(r)) + "/acl"})
	return nil
}

func (s *Server) deleteACL(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	err := s.cfg.Service.DeleteACL(r.Context(), c, secretID(r))
	if err == nil {
		w.WriteHeader(http.StatusOK)
	}
	return err
}
