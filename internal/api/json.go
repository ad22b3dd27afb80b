package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// WriteJSON answers with a status and v as application/json: no HTML escapes,
// no trailing newline, a Content-Length. A v that cannot be encoded is a fault
// of ours; it panics, so that Wrap answers and logs it like any other fault.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	WriteRawJSON(w, status, bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// WriteRawJSON answers with a document that is encoded already.
func WriteRawJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that nobody listens any more
}
