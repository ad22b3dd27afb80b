package keystone

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"kvol/internal/block"
)

// maxTokenBytes is the longest token that is asked for: Keystone's own are below
// 300 bytes, those that are signed below 4 KiB.
const maxTokenBytes = 8 << 10

// validate finds whom a token stands for, in the cache or by asking. expired says
// that one that has expired is as good.
func (s *Service) validate(ctx context.Context, token string, expired bool) (subject, error) {
	token = strings.TrimSpace(token)
	if token == "" || len(token) > maxTokenBytes || strings.ContainsFunc(token, notOfToken) {
		return subject{}, errUnauthorized
	}
	hash := sha256.Sum256([]byte(token))
	who, ok := s.cache.get(hash, s.c.Now())
	outcome := "cached"
	if !ok {
		var err error
		if who, err = s.fetch(ctx, hash, token, expired); err != nil {
			if block.Is(err, block.Unauthorized) {
				s.c.Observe("invalid")
			} else if ctx.Err() == nil {
				s.c.Observe("unavailable")
			}
			return subject{}, err
		}
		outcome = "valid"
	}
	if !expired && !s.c.Now().Before(who.expires) {
		s.c.Observe("invalid")
		return subject{}, errUnauthorized
	}
	s.c.Observe(outcome)
	return who, nil
}

// notOfToken reports whether r stands in no token, and in no header.
func notOfToken(r rune) bool { return r <= ' ' || r > '~' }

// fetch asks Keystone, once for all who wait for the same token. Whoever does not
// wait any longer takes the answer from nobody else.
func (s *Service) fetch(ctx context.Context, hash [32]byte, token string, expired bool) (subject, error) {
	key := fmt.Sprintf("%x %v", hash, expired)
	answer := s.flight.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.c.Timeout)
		defer cancel()
		who, err := s.ask(ctx, token, expired)
		s.noteDown(err)
		if err == nil && s.c.CacheTime > 0 {
			s.cache.put(hash, who, s.c.Now().Add(s.c.CacheTime))
		}
		return who, err
	})
	select {
	case <-ctx.Done():
		return subject{}, ctx.Err()
	case r := <-answer:
		who, _ := r.Val.(subject)
		return who, r.Err
	}
}

// ask validates a token by GET /v3/auth/tokens. A token of ours that Keystone does
// not take any more is renewed, once (keystonemiddleware/auth_token/_identity.py).
func (s *Service) ask(ctx context.Context, token string, expired bool) (subject, error) {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return subject{}, unavailable(ctx.Err())
	}
	path := "/auth/tokens?nocatalog"
	if expired {
		path += "&allow_expired=1"
	}
	stale := ""
	for {
		own, err := s.own.token(ctx, stale)
		if err != nil {
			return subject{}, err
		}
		header := http.Header{"X-Auth-Token": {own}, "X-Subject-Token": {token},
			"Openstack-Identity-Access-Rules": {"1.0"}} // else tokens with such rules are refused
		answer, _, status, err := s.send(ctx, http.MethodGet, path, header, nil)
		switch {
		case err != nil:
			return subject{}, err
		case status == http.StatusOK:
			return decodeSubject(answer)
		case status == http.StatusNotFound:
			return subject{}, errUnauthorized
		case status == http.StatusUnauthorized && stale == "":
			stale = own
		default:
			return subject{}, unavailable(fmt.Errorf("a token can't be validated: Keystone answered with status %d", status))
		}
	}
}

// send makes one request of Keystone and reads the answer. Its only error is
// Unavailable.
func (s *Service) send(ctx context.Context, method, path string, header http.Header, body any) (answer []byte,
	answered http.Header, status int, err error) {
	var in io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, nil, 0, unavailable(err)
		}
		in = bytes.NewReader(encoded)
		header.Set("Content-Type", "application/json")
	}
	req, err := http.NewRequestWithContext(ctx, method, s.c.AuthURL+path, in)
	if err != nil {
		return nil, nil, 0, unavailable(err)
	}
	header.Set("Accept", "application/json")
	req.Header = header
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, nil, 0, unavailable(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = errors.New("the answer is too long")
	}
	if err != nil {
		return nil, nil, 0, unavailable(err)
	}
	return answer, resp.Header, resp.StatusCode, nil
}
