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

const (
	// eventVersion is the first microversion of Nova that knows volume-extended.
	eventVersion = "2.51"
	// callTime is how long one request may take.
	callTime = 30 * time.Second
	// maxDrain is how much of an answer is read, so that a connection is reused.
	maxDrain = 64 << 10
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

// New makes a client. It asks nothing yet.
func New(c Config) *Nova {
	c.URL, c.AuthURL = strings.TrimRight(c.URL, "/"), strings.TrimRight(c.AuthURL, "/")
	return &Nova{c: c, http: &http.Client{Timeout: callTime}}
}

// VolumeExtended tells a server that a volume it uses has grown, so that its
// host looks at the size again. Errors are Unavailable where another attempt may
// help, and Forbidden or Invalid where Nova or Keystone refuses. A server that
// is not there any more is no error.
func (n *Nova) VolumeExtended(ctx context.Context, server string, volume block.VolumeID) error {
	token, err := n.token(ctx)
	if err != nil {
		return err
	}
	event := map[string]string{"name": "volume-extended", "server_uuid": server, "tag": string(volume)}
	header := http.Header{"X-Auth-Token": {token}, "Openstack-Api-Version": {"compute " + eventVersion},
		"X-Openstack-Nova-Api-Version": {eventVersion}}
	_, status, err := n.post(ctx, n.c.URL+"/os-server-external-events", header,
		map[string]any{"events": []any{event}})
	if err != nil || status == http.StatusNotFound || status < http.StatusMultipleChoices {
		return err
	}
	return refused("Nova", status)
}

// token logs in.
func (n *Nova) token(ctx context.Context) (string, error) {
	type dict = map[string]any
	user := dict{"name": n.c.User, "password": n.c.Password, "domain": dict{"name": n.c.UserDomain}}
	header, status, err := n.post(ctx, n.c.AuthURL+"/auth/tokens", nil, dict{"auth": dict{
		"identity": dict{"methods": []string{"password"}, "password": dict{"user": user}},
		"scope":    dict{"project": dict{"name": n.c.Project, "domain": dict{"name": n.c.ProjectDomain}}},
	}})
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
	}
	return block.Errorf(kind, "%s answered with status %d.", who, status)
}

func (n *Nova) post(ctx context.Context, url string, header http.Header, body any) (http.Header, int, error) {
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
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain) // what it says beyond the status is not needed
	return resp.Header, resp.StatusCode, nil
}
