package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// unsteady is a zone whose processes are restarted while an operation goes on in it:
// it answers questions about that in turn, by what answers says of each.
func unsteady(t *testing.T, answers ...func(w http.ResponseWriter)) (url string, logins *int) {
	t.Helper()
	logins = new(int)
	next := 0
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("/identity/v3/auth/tokens", func(w http.ResponseWriter, _ *http.Request) {
		*logins++
		w.Header().Set("X-Subject-Token", fmt.Sprintf("token%d", *logins))
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token": {"catalog": [{"type": "volumev2", "endpoints": [{"interface": "public",
			"url": %q}]}]}}`, server.URL+"/v2/p")
	})
	mux.HandleFunc("/api/token", func(w http.ResponseWriter, _ *http.Request) {
		*logins++
		fmt.Fprintf(w, `{"token": "token%d"}`, *logins)
	})
	turn := func(w http.ResponseWriter, good bool) {
		if !good {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next++
		answers[min(next, len(answers))-1](w)
	}
	mux.HandleFunc("/api/dr/v1/", func(w http.ResponseWriter, r *http.Request) {
		turn(w, r.Header.Get("X-Auth-Token") == fmt.Sprintf("token%d", *logins))
	})
	mux.HandleFunc("/api/kvol/recoverylist", func(w http.ResponseWriter, r *http.Request) {
		_, token, _ := r.BasicAuth()
		turn(w, token == fmt.Sprintf("token%d", *logins))
	})
	return server.URL, logins
}

func cut(http.ResponseWriter) { panic(http.ErrAbortHandler) }

func says(status int, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}
}

// TestWaitsOutliveAZonesRestart: what is waited for goes on in its zone, so that a cut
// connection, a proxy without a zone and a token that has ended are no end of a wait.
// The user is told once for each time without an answer.
func TestWaitsOutliveAZonesRestart(t *testing.T) {
	for name, c := range map[string]struct {
		under, over string // answers while it is under way, and at its end
		wait        func(url string, tell func(string), expire func()) error
	}{
		"operation": {`{"operation": {"id": "7", "status": "running"}}`, `{"operation": {"id": "7", "status": "succeeded",
			"ended_at": "2026-04-29T03:00:00Z"}}`, func(url string, tell func(string), expire func()) error {
			s := session(t, url, tell)
			d, err := s.WaitDurable(t.Context(), "7", func(Durable) { expire() })
			return errors.Join(err, unless(d.Status == "succeeded"))
		}},
		"failover": {`{"failover": {"id": "7", "status": "running"}}`, `{"failover": {"id": "7", "status": "success"}}`,
			func(url string, tell func(string), expire func()) error {
				s := session(t, url, tell)
				f, err := s.WaitFailover(t.Context(), "7", func(Failover) { expire() })
				return errors.Join(err, unless(f.Status == "success"))
			}},
		"kvol": {`{"clist": [{"status": "RUNNING"}]}`, `{"clist": [{"status": "SUCCESS"}]}`,
			func(url string, tell func(string), expire func()) error {
				k, err := KvolLogin(t.Context(), url, "gabianet", "secret")
				if err != nil {
					return err
				}
				k.Tell = tell
				j, err := k.Wait(t.Context(), "recovery", 7, func(KvolJob) { expire() })
				return errors.Join(err, unless(j.Status == "SUCCESS"))
			}},
	} {
		t.Run(name, func(t *testing.T) {
			at, logins := unsteady(t, says(200, c.under), cut, cut, // one is borne by net/http
				says(200, c.under), says(503, ""), says(502, "no backend"), says(200, c.over))
			var told []string
			expired := false
			err := c.wait(at, func(text string) { told = append(told, text) }, func() {
				if !expired {
					*logins++ // as if somebody had logged in anew, and revoked the token
					expired = true
				}
			})
			if err != nil || len(told) != 2 || !strings.Contains(told[0], "goes on") {
				t.Errorf("%v; told %q", err, told)
			}
			if *logins != 3 {
				t.Errorf("%d logins", *logins)
			}
		})
	}
}

func session(t *testing.T, url string, tell func(string)) *Session {
	t.Helper()
	s, err := Login(t.Context(), Auth{URL: url + "/identity", User: "u", Password: "p", Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	s.Tell = tell
	return s
}

func unless(ok bool) error {
	if !ok {
		return errors.New("it has not ended well")
	}
	return nil
}

// TestWaitsGiveUp: what is no hiccup ends a wait at once, and silence when it was borne
// for long enough. The error says what goes on.
func TestWaitsGiveUp(t *testing.T) {
	silence := &url.Error{Op: "Get", URL: "http://zone", Err: errors.New("connection refused")}
	for name, err := range map[string]error{"silence": silence, "a refusal": &APIError{Status: 404, Message: "gone"},
		"a fault": &APIError{Status: 500}, "a token that ended": &APIError{Status: 401}} {
		f := &following{what: "operation 7", limit: time.Nanosecond, pause: time.Millisecond}
		got := f.bear(t.Context(), err)
		if name == "silence" {
			for got == nil {
				got = f.bear(t.Context(), err)
			}
		}
		if !errors.Is(got, err) || strings.HasPrefix(got.Error(), "operation 7 goes on") == (name == "a refusal") ||
			strings.Contains(got.Error(), "no answer for 1ns") != (name == "silence") {
			t.Errorf("%s: %v", name, got)
		}
	}
	ctx, end := context.WithCancel(t.Context())
	end()
	f := &following{what: "operation 7", limit: time.Hour, pause: time.Hour}
	if got := f.bear(ctx, silence); got == nil || !strings.HasPrefix(got.Error(), "operation 7 goes on") {
		t.Errorf("a wait that is canceled: %v", got)
	}
}
