package keystore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"kvol/internal/block"
)

const (
	// callTime is how long one request to Barbican or Keystone may take.
	callTime = 30 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 256 << 10
)

// BarbicanConfig says where an external Barbican is, and who keeps keys there.
type BarbicanConfig struct {
	URL           string // without /v1, such as http://barbican:9311
	AuthURL       string // of Keystone's v3, such as http://keystone:5000/v3
	User          string
	Password      string
	Project       string // a name; "" for the project of each key
	UserDomain    string // a name
	ProjectDomain string // a name
	// Readers are the ids of users who may read the keys besides whom the project
	// in which they lie lets: those of hosts, say.
	Readers []string
	// CA is PEM of the authorities whose certificates Barbican and Keystone show;
	// nil for those that the system trusts.
	CA []byte
}

// Barbican is a client of an external Barbican. It may be used by many at once.
// Errors are Unavailable where another attempt may help, Forbidden or Invalid
// where it or Keystone refuses, NotFound for a secret that is not there.
type Barbican struct {
	c    BarbicanConfig
	http *http.Client

	mu     sync.Mutex // guards tokens
	tokens map[block.ProjectID]string
}

// NewBarbican makes a client. It asks nothing yet. A CA that is no PEM is Invalid.
func NewBarbican(c BarbicanConfig) (*Barbican, error) {
	c.URL, c.AuthURL = strings.TrimRight(c.URL, "/"), strings.TrimRight(c.AuthURL, "/")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.CA != nil {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(c.CA) {
			return nil, block.Errorf(block.Invalid, "The key manager's CA has no certificate in PEM form.")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &Barbican{c: c, tokens: map[block.ProjectID]string{},
		http: &http.Client{Timeout: callTime, Transport: transport, CheckRedirect: stay}}, nil
}

// stay follows no answer to another place, which would get the token, or a key.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

type dict = map[string]any

// Put keeps a key of a project under a name, and returns its id there. A secret
// of that name with that payload is taken for one that was kept before.
func (b *Barbican) Put(ctx context.Context, project block.ProjectID, name string, key []byte) (block.SecretID, error) {
	found, err := b.Find(ctx, project, name)
	if err != nil {
		return "", err
	}
	for _, id := range found {
		kept, err := b.Payload(ctx, project, id)
		if err == nil && bytes.Equal(kept, key) {
			return id, nil
		}
		if err != nil && !block.Is(err, block.NotFound) {
			return "", err
		}
	}
	var made struct {
		Ref string `json:"secret_ref"`
	}
	err = b.call(ctx, project, http.MethodPost, "/v1/secrets", dict{"name": name, "secret_type": "symmetric",
		"algorithm": "aes", "bit_length": len(key) * 8, "payload": base64.StdEncoding.EncodeToString(key),
		"payload_content_type": octets, "payload_content_encoding": "base64"}, &made)
	if err != nil {
		return "", err
	}
	id, ok := idOf(made.Ref)
	if !ok {
		return "", block.Errorf(block.Unavailable, "The key manager names a secret in an unknown form.")
	}
	return id, nil
}

// Find returns the ids of a project's secrets of a name.
func (b *Barbican) Find(ctx context.Context, project block.ProjectID, name string) (ids []block.SecretID, err error) {
	var list struct {
		Secrets []struct {
			Name *string `json:"name"`
			Ref  string  `json:"secret_ref"`
		} `json:"secrets"`
	}
	err = b.call(ctx, project, http.MethodGet, "/v1/secrets?limit=100&name="+url.QueryEscape(name), nil, &list)
	for _, s := range list.Secrets {
		if id, ok := idOf(s.Ref); ok && s.Name != nil && *s.Name == name {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Payload fetches a key.
func (b *Barbican) Payload(ctx context.Context, project block.ProjectID, id block.SecretID) (key []byte, err error) {
	err = b.call(ctx, project, http.MethodGet, "/v1/secrets/"+string(id)+"/payload", nil, &key)
	if err == nil && len(key) == 0 { // as with an answer that has no body, whatever it says
		err = block.Errorf(block.Unavailable, "The key manager gave no key.")
	}
	return key, err
}

// Permit lets a key be read by the user whose volume it is where it lies in a
// project that need not be that user's, and by the configured readers. It changes
// nothing where neither is needed: a project reads its own.
func (b *Barbican) Permit(ctx context.Context, project block.ProjectID, id block.SecretID, owner block.UserID) error {
	users := slices.Clone(b.c.Readers)
	if b.c.Project != "" && owner != "" && !slices.Contains(users, string(owner)) {
		users = append(users, string(owner))
	}
	if len(users) == 0 {
		return nil
	}
	return b.call(ctx, project, http.MethodPut, "/v1/secrets/"+string(id)+"/acl",
		dict{"read": dict{"users": users, "project-access": true}}, nil)
}

// Remove deletes a secret; one that is gone already stays gone, without an error.
func (b *Barbican) Remove(ctx context.Context, project block.ProjectID, id block.SecretID) error {
	err := b.call(ctx, project, http.MethodDelete, "/v1/secrets/"+string(id), nil, nil)
	if block.Is(err, block.NotFound) {
		return nil
	}
	return err
}

// idOf is the last step of a secret's address.
func idOf(ref string) (block.SecretID, bool) {
	id, ok := block.ParseID(path.Base(ref))
	return block.SecretID(id), ok
}

// call asks Barbican; with a new token where it does not take the one that there
// was. An answer into *[]byte is taken as it is.
func (b *Barbican) call(ctx context.Context, project block.ProjectID, method, path string, in, out any) error {
	for attempt := 0; ; attempt++ {
		token, err := b.token(ctx, project, attempt > 0)
		if err != nil {
			return err
		}
		header := http.Header{"X-Auth-Token": {token}, "X-Project-Id": {string(project)}, "Accept": {"application/json"}}
		if _, raw := out.(*[]byte); raw {
			header.Set("Accept", octets)
		}
		answer, _, status, err := b.send(ctx, method, b.c.URL+path, header, in)
		switch {
		case err != nil:
			return err
		case status == http.StatusUnauthorized && attempt == 0:
			continue
		case status >= http.StatusMultipleChoices:
			return refused("The key manager", status)
		case out == nil:
			return nil
		}
		if raw, ok := out.(*[]byte); ok {
			*raw = answer
			return nil
		}
		return block.Wrap(block.Unavailable, json.Unmarshal(answer, out), "The key manager's answer can't be read.")
	}
}

// token logs in for a project, or returns the token of before.
func (b *Barbican) token(ctx context.Context, project block.ProjectID, fresh bool) (string, error) {
	if b.c.Project != "" {
		project = ""
	}
	b.mu.Lock()
	token := b.tokens[project]
	b.mu.Unlock()
	if token != "" && !fresh {
		return token, nil
	}
	scope := dict{"id": project}
	if project == "" {
		scope = dict{"name": b.c.Project, "domain": dict{"name": b.c.ProjectDomain}}
	}
	user := dict{"name": b.c.User, "password": b.c.Password, "domain": dict{"name": b.c.UserDomain}}
	_, header, status, err := b.send(ctx, http.MethodPost, b.c.AuthURL+"/auth/tokens", http.Header{}, dict{
		"auth": dict{"identity": dict{"methods": []string{"password"}, "password": dict{"user": user}},
			"scope": dict{"project": scope}}})
	if err != nil {
		return "", err
	}
	if status >= http.StatusMultipleChoices {
		return "", refused("The key manager's identity service", status)
	}
	if token = header.Get("X-Subject-Token"); token == "" {
		return "", block.Errorf(block.Unavailable, "The key manager's identity service gives no token.")
	}
	b.mu.Lock()
	b.tokens[project] = token
	b.mu.Unlock()
	return token, nil
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

func (b *Barbican) send(ctx context.Context, method, url string, header http.Header, body any) (answer []byte,
	answered http.Header, status int, err error) {
	var in io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, nil, 0, err
		}
		in = bytes.NewReader(encoded)
		header.Set("Content-Type", "application/json")
	}
	req, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return nil, nil, 0, block.Wrap(block.Invalid, err, "The address of the key manager is wrong.")
	}
	req.Header = header
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, nil, 0, block.Wrap(block.Unavailable, err, "The key manager can't be reached.")
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		return nil, nil, 0, block.Errorf(block.Unavailable, "The key manager's answer is longer than %d bytes.", maxAnswer)
	}
	return answer, resp.Header, resp.StatusCode, block.Wrap(block.Unavailable, err, "The key manager broke off.")
}
