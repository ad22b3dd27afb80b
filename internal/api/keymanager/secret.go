package keymanager

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/keystore"
)

const (
	maxBody    = 64 << 10 // bytes; a payload in base64 and what is said of it
	maxText    = 255      // letters of a name
	octets     = "application/octet-stream"
	plain      = "text/plain"
	stamp      = "2006-01-02T15:04:05.000000"
	firstPage  = 10 // secrets, where no limit is given
	maxSkipped = 1 << 30
)

// newSecret is the body of a POST.
type newSecret struct {
	Name       *string `json:"name"`
	Algorithm  *string `json:"algorithm"`
	Mode       *string `json:"mode"`
	BitLength  *int64  `json:"bit_length"`
	Kind       *string `json:"secret_type"`
	Expiration *string `json:"expiration"`
	Payload    *string `json:"payload"`
	Type       *string `json:"payload_content_type"`
	Encoding   *string `json:"payload_content_encoding"`
}

// decodeSecret reads the body of a POST. Unknown keys are passed over, as
// Barbican does.
func decodeSecret(from io.Reader) (n keystore.NewSecret, err error) {
	var b newSecret
	d := json.NewDecoder(from)
	if err := d.Decode(&b); err != nil {
		return n, block.Wrap(block.Invalid, err, "The body must be a JSON object that describes a secret.")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return n, block.Errorf(block.Invalid, "The body must be one JSON object.")
	}
	for _, text := range []*string{b.Name, b.Algorithm, b.Mode, b.Type, b.Kind} {
		if text != nil && utf8.RuneCountInString(*text) > maxText {
			return n, block.Errorf(block.Invalid, "Texts have up to %d letters.", maxText)
		}
	}
	if b.BitLength != nil && (*b.BitLength < 1 || *b.BitLength > 32767) {
		return n, block.Errorf(block.Invalid, "bit_length must be 1 to 32767.")
	}
	n = keystore.NewSecret{Name: b.Name, Algorithm: b.Algorithm, Mode: b.Mode, BitLength: b.BitLength, Kind: text(b.Kind)}
	if text(b.Expiration) != "" {
		if n.ExpiresAt, err = expiration(*b.Expiration); err != nil {
			return n, err
		}
	}
	if b.Payload == nil {
		if b.Type != nil {
			return n, block.Errorf(block.Invalid, "payload must be provided when payload_content_type is supplied.")
		}
		return n, nil
	}
	n.ContentType, n.Payload, err = decodePayload(*b.Payload, text(b.Type), text(b.Encoding))
	return n, err
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func expiration(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05.999999", "2006-01-02"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, block.Errorf(block.Invalid, "expiration is not a valid ISO 8601 date.")
}

// decodePayload reads a payload of a content type, in base64 or as it is.
func decodePayload(payload, contentType, encoding string) (string, []byte, error) {
	kind, err := contentTypeOf(contentType)
	if err != nil {
		return "", nil, err
	}
	switch {
	case encoding == "" && kind == plain:
		return kind, []byte(payload), nil
	case encoding == "base64":
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(payload), ""))
		return kind, raw, block.Wrap(block.Invalid, err, "The payload is not encoded in base64.")
	}
	return "", nil, block.Errorf(block.Invalid, "payload_content_encoding must be base64 for %s.", kind)
}

// contentTypeOf refuses other types of content than Barbican takes.
func contentTypeOf(s string) (string, error) {
	kind, params, err := mime.ParseMediaType(s)
	if err != nil || kind != plain && kind != octets {
		return "", block.Errorf(
			block.Invalid,
			"payload_content_type is not one of 'text/plain', 'text/plain;charset=utf-8', "+
				"'text/plain; charset=utf-8', 'application/octet-stream'.",
		)
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", block.Errorf(block.Invalid, "A text's charset must be utf-8.")
	}
	return kind, nil
}

func (s *Server) create(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	n, err := decodeSecret(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return err
	}
	made, err := s.cfg.Service.Create(r.Context(), c, n)
	if err != nil {
		return err
	}
	w.Header().Set("Location", s.ref(r, made.ID))
	api.WriteJSON(w, http.StatusCreated, map[string]string{"secret_ref": s.ref(r, made.ID)})
	return nil
}

func (s *Server) ref(r *http.Request, id block.SecretID) string {
	return s.public(r) + secrets + "/" + string(id)
}

// secretView is a secret as clients see it.
type secretView struct {
	Algorithm  *string           `json:"algorithm"`
	BitLength  *int64            `json:"bit_length"`
	Types      map[string]string `json:"content_types,omitempty"`
	Created    string            `json:"created"`
	Creator    block.UserID      `json:"creator_id"`
	Expiration *string           `json:"expiration"`
	Mode       *string           `json:"mode"`
	Name       *string           `json:"name"`
	Ref        string            `json:"secret_ref"`
	Kind       string            `json:"secret_type"`
	Status     string            `json:"status"`
	Updated    string            `json:"updated"`
}

func (s *Server) view(r *http.Request, secret block.Secret) secretView {
	v := secretView{Algorithm: secret.Algorithm, BitLength: secret.BitLength, Mode: secret.Mode, Name: secret.Name,
		Created: secret.CreatedAt.Format(stamp), Updated: secret.UpdatedAt.Format(stamp), Creator: secret.User,
		Ref: s.ref(r, secret.ID), Kind: secret.Kind, Status: "ACTIVE"}
	if secret.ContentType != "" {
		v.Types = map[string]string{"default": secret.ContentType}
	}
	if !secret.ExpiresAt.IsZero() {
		at := secret.ExpiresAt.Format(stamp)
		v.Expiration = &at
	}
	return v
}

func secretID(r *http.Request) block.SecretID { return block.SecretID(r.PathValue("id")) }

// show answers with what is said of a secret, or, as older clients ask, with its
// payload if they accept nothing but that.
func (s *Server) show(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	switch accept := r.Header.Get("Accept"); {
	case strings.HasPrefix(accept, octets), strings.HasPrefix(accept, plain):
		return s.payload(w, r, c)
	}
	secret, err := s.cfg.Service.Secret(r.Context(), c, secretID(r))
	if err == nil {
		api.WriteJSON(w, http.StatusOK, s.view(r, secret))
	}
	return err
}

func (s *Server) payload(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	secret, payload, err := s.cfg.Service.Payload(r.Context(), c, secretID(r))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", secret.ContentType)
	if secret.ContentType == plain {
		w.Header().Set("Content-Type", plain+"; charset=UTF-8")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(payload)))
	_, _ = w.Write(payload) // a client that is gone needs no answer
	return nil
}

// setPayload takes the payload of a secret that was made without.
func (s *Server) setPayload(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	kind, err := contentTypeOf(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return block.Wrap(block.Invalid, err, "The payload can't be read, or is too long.")
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" {
		if kind, body, err = decodePayload(string(body), kind, encoding); err != nil {
			return err
		}
	}
	if err := s.cfg.Service.SetPayload(r.Context(), c, secretID(r), kind, body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	if err := s.cfg.Service.Delete(r.Context(), c, secretID(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, c block.Caller) error {
	q := r.URL.Query()
	offset, limit := number(q, "offset", 0), number(q, "limit", firstPage)
	limit = min(max(limit, 1), keystore.MaxPage)
	all, total, err := s.cfg.Service.Secrets(r.Context(), c, q.Get("name"), offset, limit)
	if err != nil {
		return err
	}
	views := make([]secretView, 0, len(all))
	for _, secret := range all {
		views = append(views, s.view(r, secret))
	}
	out := map[string]any{"secrets": views, "total": total}
	page := func(key string, offset int) {
		q.Set("offset", strconv.Itoa(offset))
		q.Set("limit", strconv.Itoa(limit))
		out[key] = s.public(r) + secrets + "?" + q.Encode()
	}
	if offset > 0 {
		page("previous", max(offset-limit, 0))
	}
	if offset+len(all) < total {
		page("next", offset+limit)
	}
	api.WriteJSON(w, http.StatusOK, out)
	return nil
}

// number reads a query's number; what is none is passed over, as Barbican does.
func number(q url.Values, key string, otherwise int) int {
	n, err := strconv.Atoi(q.Get(key))
	if err != nil || n < 0 || n > maxSkipped {
		return otherwise
	}
	return n
}
