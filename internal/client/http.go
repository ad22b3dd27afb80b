// Package client is a Go client of a zone's own APIs: identity, block storage,
// images, the kvol API and the disaster recovery API. The commands, the demo
// and the tests use it. It imports nothing of the server, so that what it
// understands is what is on the wire.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// APIError is an answer that is no success. Message is the server's sentence.
type APIError struct {
	Status  int
	Message string
	Method  string
	URL     string
}

func (e *APIError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%s (%d %s)", e.Message, e.Status, http.StatusText(e.Status))
}

// IsStatus reports whether err is an APIError with this HTTP status.
func IsStatus(err error, status int) bool {
	var e *APIError
	return errors.As(err, &e) && e.Status == status
}

// maxAnswer bounds what is read of one JSON answer, in bytes.
const maxAnswer = 64 << 20

// exchange is one request and its answer.
type exchange struct {
	http   *http.Client
	method string
	url    string
	header http.Header
	in     any       // sent as JSON; nil for no body
	body   io.Reader // sent as it is instead of in
	out    any       // the answer is decoded into it; nil to drop it
}

// do sends the request. It returns the answer's header and status, and an
// *APIError where the status is 300 or more.
func (x exchange) do(ctx context.Context) (http.Header, int, error) {
	body := x.body
	if x.in != nil {
		text, err := json.Marshal(x.in)
		if err != nil {
			return nil, 0, err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, x.method, x.url, body)
	if err != nil {
		return nil, 0, err
	}
	for k, v := range x.header {
		r.Header[k] = v
	}
	if x.in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := x.http.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	if w, ok := x.out.(io.Writer); ok && answer.StatusCode < 300 {
		_, err := io.Copy(w, answer.Body)
		return answer.Header, answer.StatusCode, err
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, 0, err
	}
	if answer.StatusCode >= 300 {
		return answer.Header, answer.StatusCode,
			&APIError{Status: answer.StatusCode, Message: sentence(text), Method: x.method, URL: x.url}
	}
	if x.out == nil || len(text) == 0 {
		return answer.Header, answer.StatusCode, nil
	}
	if err := json.Unmarshal(text, x.out); err != nil {
		return nil, 0, fmt.Errorf("%s %s: the answer is no JSON of the expected shape: %w", x.method, x.url, err)
	}
	return answer.Header, answer.StatusCode, nil
}

// sentence finds the message in an error body: {"message": m} or
// {"<name>": {"message": m}}.
func sentence(text []byte) string {
	var flat struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &flat) == nil && flat.Message != "" {
		return flat.Message
	}
	var wrapped map[string]json.RawMessage
	if json.Unmarshal(text, &wrapped) == nil {
		for _, inner := range wrapped {
			if json.Unmarshal(inner, &flat) == nil && flat.Message != "" {
				return flat.Message
			}
		}
	}
	return strings.TrimSpace(string(text[:min(len(text), 300)]))
}

// Poll calls check every interval until it says done, fails, or ctx ends.
func Poll(ctx context.Context, every time.Duration, check func() (done bool, err error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		done, err := check()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
