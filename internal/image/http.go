package image

import (
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Page sizes (Glance's limit_param_default and api_limit_max).
const (
	pageDefault = 25
	pageMax     = 1000
)

func (s *Service) list(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	q.Viewer, q.All = c.Project, c.Admin()
	limit := q.Limit
	q.Limit++ // one more tells whether there is a next page
	var images []catalog.Image
	err = s.catalog.View(r.Context(), func(tx *catalog.Tx) (err error) {
		if q.Marker != "" {
			if _, err := visible(tx, c, string(q.Marker)); block.Is(err, block.NotFound) {
				return block.Errorf(block.Invalid, "Invalid marker. Image could not be found.")
			} else if err != nil {
				return err
			}
		}
		images, err = tx.Images(q)
		return err
	})
	if err != nil {
		return err
	}
	body := map[string]any{"schema": "/v2/schemas/images", "first": pageLink(r, "")}
	if len(images) > limit {
		images = images[:limit]
		if limit > 0 {
			body["next"] = pageLink(r, string(images[limit-1].ID))
		}
	}
	views := make([]map[string]any, len(images))
	for i, image := range images {
		views[i] = view(image)
	}
	body["images"] = views
	api.WriteJSON(w, http.StatusOK, body)
	return nil
}

// pageLink is relative to the service's own address, as Glance's are.
func pageLink(r *http.Request, marker string) string {
	q := r.URL.Query()
	q.Del("marker")
	if marker != "" {
		q.Set("marker", marker)
	}
	if len(q) == 0 {
		return "/v2/images"
	}
	return "/v2/images?" + q.Encode()
}

func (s *Service) post(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	var body map[string]json.RawMessage
	if err := decode(r, &body); err != nil {
		return err
	}
	i, err := parseImage(c, body)
	if err != nil {
		return err
	}
	if i, err = s.create(r.Context(), c, i); err != nil {
		return err
	}
	w.Header().Set("Location", api.PublicURL(r, s.config.PublicURL)+s.config.Prefix+"/v2/images/"+string(i.ID))
	api.WriteJSON(w, http.StatusCreated, view(i))
	return nil
}

// parseImage reads the body of POST /v2/images.
func parseImage(c block.Caller, body map[string]json.RawMessage) (catalog.Image, error) {
	var i catalog.Image
	if body == nil {
		return i, block.Errorf(block.Invalid, "The request body must be an object.")
	}
	for _, name := range slices.Sorted(maps.Keys(body)) {
		if err := set(c, &i, name, body[name]); err != nil {
			return catalog.Image{}, err
		}
	}
	i.Tags = unique(i.Tags)
	return i, nil
}

func unique(tags []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(tags)))
}

func (s *Service) show(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	i, err := s.get(r.Context(), c, r.PathValue("image"))
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, view(i))
	return nil
}

func (s *Service) remove(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	if err := s.delete(r.Context(), c, r.PathValue("image")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// patchType is the media type of a change (glance/api/v2/images.py).
const patchType = "application/openstack-images-v2.1-json-patch"

// operation is one step of a change (RFC 6902; Glance knows these members).
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// maxOperations bound a change.
const maxOperations = 1000

func (s *Service) patch(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != patchType {
		return block.Errorf(block.Unsupported, "The Content-Type of a change must be %s.", patchType)
	}
	var operations []operation
	if err := decode(r, &operations); err != nil {
		return err
	}
	i, err := s.change(r.Context(), c, r.PathValue("image"), func(i *catalog.Image) error {
		return apply(c, i, operations)
	})
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, view(i))
	return nil
}

// apply does the operations of a change, all or none.
func apply(c block.Caller, i *catalog.Image, operations []operation) error {
	if len(operations) > maxOperations {
		return block.Errorf(block.OverLimit, "A change has at most %d operations.", maxOperations)
	}
	was := i.Visibility
	for _, o := range operations {
		name, err := pathName(o.Path)
		if err != nil {
			return err
		}
		switch o.Op {
		case "remove":
			err = unset(i, name)
		case "add", "replace":
			_, known := i.Properties[name]
			if _, attribute := setters[name]; o.Op == "replace" && !known && !attribute && !isReadOnly(name) {
				return block.Errorf(block.Conflict, "Property %s does not exist.", name)
			}
			if o.Value == nil {
				return block.Errorf(block.Invalid, "Operation \"%s\" requires a member named \"value\".", o.Op)
			}
			err = set(c, i, name, o.Value)
		default:
			return block.Errorf(block.Invalid, "Operations must be add, replace or remove.")
		}
		if err != nil {
			return err
		}
	}
	i.Tags = unique(i.Tags)
	if i.Visibility == was && was == "public" {
		// It was an administrator who made it so; its owner may change the rest.
		held := *i
		held.Visibility = "shared"
		return check(c, held)
	}
	return check(c, *i)
}

func isReadOnly(name string) bool { return name == "owner" || slices.Contains(readOnly, name) }

// pathName reads a JSON pointer of one step (RFC 6901).
func pathName(path string) (string, error) {
	name, ok := strings.CutPrefix(path, "/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return "", block.Errorf(block.Invalid, "Pointer `%s` does not name an attribute.", path)
	}
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(name), nil
}

func (s *Service) download(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	f, i, err := s.open(r.Context(), c, r.PathValue("image"))
	if block.Is(err, block.Conflict) {
		w.WriteHeader(http.StatusNoContent) // as Glance: there are no bytes yet
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if value(i.Size) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-MD5", value(i.Checksum))
	http.ServeContent(w, r, "", i.UpdatedAt, f)
	return nil
}

func (s *Service) put(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil ||
		kind != "application/octet-stream" {
		return block.Errorf(block.Unsupported, "The Content-Type of an upload must be application/octet-stream.")
	}
	if r.ContentLength > s.config.MaxSize {
		return block.Errorf(block.OverLimit, "The image is too large: at most %d bytes are allowed.", s.config.MaxSize)
	}
	if err := s.upload(r.Context(), c, r.PathValue("image"), r.Body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) deactivate(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	return s.turn(w, r, c, "deactivate", active, deactivated)
}

func (s *Service) reactivate(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	return s.turn(w, r, c, "reactivate", deactivated, active)
}

// turn moves an image's status; only administrators may (Glance's policies
// deactivate and reactivate).
func (s *Service) turn(w http.ResponseWriter, r *http.Request, c block.Caller, what, from, to string) error {
	_, err := s.change(r.Context(), c, r.PathValue("image"), func(i *catalog.Image) error {
		if !c.Admin() {
			return block.Errorf(block.Forbidden, "You are not authorized to complete %s action.", what)
		}
		if i.Status != from && i.Status != to {
			return block.Errorf(block.Forbidden, "Not allowed to %s image in status '%s'", what, i.Status)
		}
		i.Status = to
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) addTag(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	return s.changeTags(w, r, c, func(tags []string, tag string) ([]string, error) {
		return unique(append(slices.Clone(tags), tag)), nil
	})
}

func (s *Service) removeTag(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	return s.changeTags(w, r, c, func(tags []string, tag string) ([]string, error) {
		at := slices.Index(tags, tag)
		if at < 0 {
			return nil, block.Errorf(block.NotFound, "Failed to find tag %s.", tag)
		}
		return slices.Delete(slices.Clone(tags), at, at+1), nil
	})
}

func (s *Service) changeTags(w http.ResponseWriter, r *http.Request, c block.Caller,
	do func(tags []string, tag string) ([]string, error)) error {
	_, err := s.change(r.Context(), c, r.PathValue("image"), func(i *catalog.Image) (err error) {
		if i.Tags, err = do(i.Tags, r.PathValue("tag")); err != nil {
			return err
		}
		if len(i.Tags) > maxTags {
			return block.Errorf(block.OverLimit, "An image has at most %d tags.", maxTags)
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func number(text, name string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, block.Errorf(block.Invalid, "Invalid value for option %s: %s", name, strconv.Quote(text))
	}
	return n, nil
}
