package kvol

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"kvol/internal/api"
	"kvol/internal/block"
)

// timeLayout is the form of times in the document. They have no zone there; it
// is UTC unless configured.
const timeLayout = "2006-01-02 15:04:05"

// Headers of our own: an answer that was made from the copy that is kept of an
// unreachable zone, and as of when that is.
const (
	HeaderSource = "X-Kvol-Source"
	HeaderAsOf   = "X-Kvol-As-Of"
)

type messageBody struct {
	Message string `json:"message"`
}

// message answers everything with a status and a sentence.
func message(status int, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, status, messageBody{text}) })
}

// write answers a call and returns the status.
func (s *Server) write(w http.ResponseWriter, r *http.Request, a answer, err error) int {
	if err != nil {
		return s.writeError(w, r, err)
	}
	if a.fresh.Copy {
		w.Header().Set(HeaderSource, "copy")
		if !a.fresh.AsOf.IsZero() {
			w.Header().Set(HeaderAsOf, a.fresh.AsOf.UTC().Format(time.RFC3339))
		}
	}
	if a.body == nil {
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent
	}
	writeJSON(w, http.StatusOK, a.body)
	return http.StatusOK
}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) int {
	text, ok := block.UserMessage(err)
	if !ok {
		text = "internal server error"
	}
	switch block.KindOf(err) {
	case block.NotFound:
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent
	case block.Invalid, block.Conflict, block.OverLimit:
		writeJSON(w, http.StatusBadRequest, messageBody{text})
		return http.StatusBadRequest
	case block.Unauthorized, block.Forbidden:
		w.Header().Set("WWW-Authenticate", `Basic realm="kvol"`)
		writeJSON(w, http.StatusUnauthorized, messageBody{text})
		return http.StatusUnauthorized
	}
	s.cfg.Log.Error("a call of the kvol API failed", "path", r.URL.Path, "request", api.RequestID(r.Context()), "err", err)
	writeJSON(w, s.cfg.InternalStatus, messageBody{text})
	return s.cfg.InternalStatus
}

// writeJSON answers in the form of the document's examples: indented by two
// blanks, keys in the order of the alphabet (as the fields of our structs are).
func writeJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic(err) // a struct of ours always has a JSON form
	}
	api.WriteRawJSON(w, status, b.Bytes())
}

// stamp writes a time; nil for none.
func (s *Server) stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.In(s.cfg.TimeZone).Format(timeLayout)
	return &text
}

// orNull is nil for an empty text.
func orNull[S ~string](text S) *S {
	if text == "" {
		return nil
	}
	return &text
}
