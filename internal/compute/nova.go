// Package compute tells Nova what happened to a volume that its servers use.
package compute

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"kvol/internal/block"
)

// The events of volumes that servers are told of.
const (
	Extended = "volume-extended"
	Reimaged = "volume-reimaged"
)

// eventVersions are the first microversions of Nova that know them
// (cinder/compute/nova.py).
var eventVersions = map[string]string{Extended: "2.51", Reimaged: "2.93"}

const (
	// callTime is how long one request may take.
	callTime = 30 * time.Second
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 1 << 20
)

// Config says where Nova is and who tells it. The user needs the role that
// Nova's rule os_compute_api:os-server-external-events:create asks for.
type Config struct {
	URL           string // of Nova, such as http://nova:8774/v2.1
	AuthURL       string // of Keystone's v3, such as http://keystone:5000/v3
	User          string
	Password      string
	Project       string
	UserDomain    string // a name
	ProjectDomain string // a name
}

// Nova is a client of one Nova. It may be used by many goroutines.
type Nova struct {
	c    Config
	http *http.Client
}

// New makes a client. It asks nothing yet. It goes where it is configured to go and
// nowhere else: it carries a password and a token.
func New(c Config) *Nova {
	c.URL, c.AuthURL = strings.TrimRight(c.URL, "/"), strings.TrimRight(c.AuthURL, "/")
	return &Nova{c: c, http: &http.Client{Timeout: callTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// VolumeEvent tells servers, all in one request, that a volume which they use has
// grown (Extended), so that their hosts look at its size, or has the content of
// another image (Reimaged), for which the rebuild of a server waits. It is NotFound
// if Nova knows none of them. What Nova makes of an event for one server is not
// looked at, as in Cinder (cinder/compute/nova.py, _send_events).
func (n *Nova) VolumeEvent(ctx context.Context, event string, servers []string, volume block.VolumeID) error {
	token, err := n.token(ctx)
	if err != nil {
		return err
	}
	version := eventVersions[event]
	header := http.Header{"X-Auth-Token": {token}, "Openstack-Api-Version": {"compute " + version},
		"X-Openstack-Nova-Api-Version": {version}}
	type told struct {
		Name   string `json:"name"`
		Server string `json:"server_uuid"`
		Tag    string `json:"tag"`
	}
	var events []told
	for _, server := range servers {
		events = append(events, told{event, server, string(volume)})
	}
	var answer struct {
		Events []struct{ Code *int }
	}
	_, status, err := n.post(ctx, n.c.URL+"/os-server-external-events", header, map[string]any{"events": events}, &answer)
	if err != nil {
		return err
	}
	if status >= http.StatusMultipleChoices {
		return refused("Nova", status)
	}
	for _, e := range answer.Events {
		if e.Code == nil {
			answer.Events = nil
		}
	}
	if len(answer.Events) == 0 {
		return block.Errorf(block.Unavailable, "Nova does not say what became of the event.")
	}
	return nil
}

func (n *Nova) token(ctx context.Context) (string, error) {
	type dict = map[string]any
	user := dict{"name": n.c.User, "password": n.c.Password, "domain": dict{"name": n.c.UserDomain}}
	header, status, err := n.post(ctx, n.c.AuthURL+"/auth/tokens", nil, dict{"auth": dict{
		"identity": dict{"methods": []string{"password"}, "password": dict{"user": user}},
		"scope":    dict{"project": dict{"name": n.c.Project, "domain": dict{"name": n.c.ProjectDomain}}},
	}}, nil)
	if err != nil {
		return "", err
	}
	if status >= http.StatusMultipleChoices {
		return "", refused("Keystone", status)
	}
	return header.Get("X-Subject-Token"), nil
}

// refused is the error of an answer that is none of success.
func refused(who string, status int) error {
	kind := block.Unavailable
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = block.Forbidden
	case http.StatusBadRequest:
		kind = block.Invalid
	case http.StatusNotFound:
		kind = block.NotFound
	}
	return block.Errorf(kind, "%s answered with status %d.", who, status)
}

// post sends body and reads the answer, if it is good, into answer unless that is
// nil.
func (n *Nova) post(ctx context.Context, url string, header http.Header, body, answer any) (http.Header, int, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(encoded))
	if err != nil {
		return nil, 0, block.Wrap(block.Invalid, err, "The address of Nova or Keystone is wrong.")
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.http.Do(req)
	if err != nil {
		return nil, 0, block.Wrap(block.Unavailable, err, "Nova or Keystone can't be reached.")
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, 0, block.Wrap(block.Unavailable, err, "Nova or Keystone can't be reached.")
	}
	if answer != nil && resp.StatusCode < http.StatusMultipleChoices {
		if err := json.Unmarshal(said, answer); err != nil {
			return nil, 0, block.Wrap(block.Unavailable, err, "The answer of Nova can't be read.")
		}
	}
	return resp.Header, resp.StatusCode, nil
}
