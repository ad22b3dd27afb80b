package glance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/keystone"
)

const (
	// callTime is how long one question may take that moves no bytes.
	callTime = 30 * time.Second
	// defaultStall is how long Glance may neither send nor take a byte.
	defaultStall = time.Minute
	// settleTime is how long Glance may take, after the last byte of an upload, to
	// say that it has it: its own store may be slow to say so.
	settleTime = 10 * time.Minute
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 4 << 20
	// maxDrain is how much of an answer is read that nobody looks at, so that a
	// connection is used again.
	maxDrain = 64 << 10
)

// Config says where Glance is.
type Config struct {
	URL string // without /v2, such as http://glance:9292; "" for that of the service catalog
	// Region and Interface choose among the catalog's endpoints where URL is "":
	// any region if "", and "internal" if "".
	Region, Interface string

	Keystone *keystone.Service
	CA       []byte        // PEM of the authorities whose certificates are trusted; nil: the system's
	Stall    time.Duration // how long no byte may move; 1m if 0
}

// Service is a client of one Glance. Its methods may be called at once. Errors are
// Unavailable where another attempt may help; Forbidden, NotFound, Invalid, Conflict
// or OverLimit where Glance refuses.
type Service struct {
	c    Config
	http *http.Client
}

// New makes a client. It asks nothing yet. A CA that is no PEM is Invalid.
func New(c Config) (*Service, error) {
	c.Stall = cmp.Or(c.Stall, defaultStall)
	transport, err := keystone.Transport(c.CA)
	if err != nil {
		return nil, err
	}
	return &Service{c: c, http: &http.Client{Transport: transport, CheckRedirect: stay}}, nil
}

// stay follows no answer to another place, which would get tokens.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// base is Glance's address with the version of the API.
func (s *Service) base(ctx context.Context) (string, error) {
	at := s.c.URL
	if at == "" {
		var err error
		if at, err = s.c.Keystone.Endpoint(ctx, s.c.Region, cmp.Or(s.c.Interface, "internal"), "image"); err != nil {
			return "", err
		}
	}
	return strings.TrimSuffix(strings.TrimRight(at, "/"), "/v2") + "/v2", nil
}

// call is one question of Glance. The answer is decoded into out, if not nil; an
// answer that is none of success is an error. in is sent as JSON.
func (s *Service) call(ctx context.Context, c block.Caller, method, path, kind string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	stale := ""
	for {
		resp, own, err := s.send(ctx, c, method, path, kind, bytes.NewReader(body), stale)
		if err != nil {
			return err
		}
		answer, err := readAnswer(resp)
		switch {
		case err != nil:
			return err
		case resp.StatusCode == http.StatusUnauthorized && stale == "":
			stale = own // it may be ours that Glance does not take any more
		case resp.StatusCode >= http.StatusMultipleChoices:
			return refused(resp.StatusCode)
		case out == nil:
			return nil
		default:
			return block.Wrap(block.Unavailable, json.Unmarshal(answer, out), "The image service's answer can't be read.")
		}
	}
}

func readAnswer(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		return nil, block.Errorf(block.Unavailable, "The image service's answer is longer than %d bytes.", maxAnswer)
	}
	return answer, block.Wrap(block.Unavailable, err, "The image service broke off.")
}

// send sends a request with the tokens of the caller and of kvol's own user, and
// returns the latter. stale is one of those that was not taken.
func (s *Service) send(ctx context.Context, c block.Caller, method, path, kind string, body io.Reader,
	stale string) (resp *http.Response, own string, err error) {
	if c.Token == "" {
		return nil, "", block.Errorf(block.Forbidden, "The image service is asked with a token, and there is none.")
	}
	at, err := s.base(ctx)
	if err != nil {
		return nil, "", err
	}
	if own, err = s.c.Keystone.ServiceToken(ctx, stale); err != nil {
		return nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, method, at+path, body)
	if err != nil {
		return nil, "", block.Wrap(block.Unavailable, err, "The address of the image service is wrong.")
	}
	req.Header = http.Header{"X-Auth-Token": {string(c.Token)}, "X-Service-Token": {own}, "Accept": {"application/json"}}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if id := c.RequestID; id != "" {
		req.Header.Set("X-Openstack-Request-Id", id)
	}
	resp, err = s.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, "", block.Wrap(block.Unavailable, err, "The image service can't be reached.")
	}
	return resp, own, nil
}

// refused is the error of an answer that is none of success.
func refused(status int) error {
	switch status {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType:
		return block.Errorf(block.Invalid, "The image service refused the image as invalid.")
	case http.StatusUnauthorized:
		return block.Errorf(block.Forbidden, "The image service does not take the caller's token.")
	case http.StatusForbidden:
		return block.Errorf(block.Forbidden, "The image service does not allow this.")
	case http.StatusNotFound, http.StatusGone:
		return block.Errorf(block.NotFound, "The image could not be found.")
	case http.StatusConflict:
		return block.Errorf(block.Conflict, "The image is not in a state that allows this.")
	case http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage:
		return block.Errorf(block.OverLimit, "The image is larger than the image service takes.")
	}
	return block.Errorf(block.Unavailable, "The image service answered with status %d.", status)
}

// step is an id or a name as a part of a path.
func step(id string) string { return "/images/" + url.PathEscape(id) }
