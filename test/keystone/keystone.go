// Package keystone starts Debian's Keystone for tests: see serve.py.
package keystone

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

//go:embed serve.py
var script []byte

// Python is Debian's, which has Debian's packages.
const Python = "/usr/bin/python3"

// Password is that of the user admin, who has the role admin in the project admin
// and in the system.
const Password = "the admin's password"

// Server is a running Keystone. It belongs to one goroutine.
type Server struct {
	dir   string
	port  int
	cmd   *exec.Cmd
	stdin io.WriteCloser // its end ends the server, also where the test is killed
	said  *bytes.Buffer
	token string // of the admin
}

// Require skips the test where a module of Debian's Python is missing, or fails it
// where it could have been installed.
func Require(t testing.TB, module string) {
	t.Helper()
	if err := exec.CommandContext(t.Context(), Python, "-c",
		"import importlib.util, sys; sys.exit(importlib.util.find_spec('"+module+"') is None)").Run(); err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatalf("python3-%s is missing; test/setup.sh installs it", module)
		}
		t.Skipf("SKIPPED: PYTHON3-%s IS NOT INSTALLED", strings.ToUpper(module))
	}
}

// Start starts a Keystone that lives as long as the test.
func Start(t testing.TB) *Server {
	t.Helper()
	Require(t, "keystone")
	dir, err := os.MkdirTemp("", "kvol-keystone-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: dir}
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	if err := os.WriteFile(filepath.Join(dir, "serve.py"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Resume(t)
	return s
}

// Kill ends the server at once.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.stdin.Close()
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()         // it was killed
	s.cmd = nil
}

// Resume starts it again after Kill, at the same port and with all that it knew.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.said = &bytes.Buffer{}
	s.cmd = exec.CommandContext(context.Background(), Python, filepath.Join(s.dir, "serve.py"), s.dir,
		strconv.Itoa(s.port))
	s.cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	s.cmd.Dir, s.cmd.Stderr = s.dir, s.said
	in, errIn := s.cmd.StdinPipe()
	out, errOut := s.cmd.StdoutPipe()
	if errIn != nil || errOut != nil {
		t.Fatal(errIn, errOut)
	}
	s.stdin = in
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		s.port, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		s.Kill()
		t.Fatalf("Keystone does not start: %v\n%s\n%s", err, s.said, s.Log())
	}
}

// Pause makes it hang; Continue ends that.
func (s *Server) Pause(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGSTOP) }

// Continue ends a Pause.
func (s *Server) Continue(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, what os.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(what); err != nil {
		t.Fatal(err)
	}
}

// Log is what it wrote into its log.
func (s *Server) Log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "keystone.log")) // none yet
	return string(text)
}

// URL is that of its v3.
func (s *Server) URL() string { return fmt.Sprintf("http://127.0.0.1:%d/v3", s.port) }

// Token logs in by what goes into "auth" of the request, and returns the token.
func (s *Server) Token(t testing.TB, auth map[string]any) string {
	t.Helper()
	status, header, answer := s.send(t, "POST", "/auth/tokens", "", map[string]any{"auth": auth})
	if status != http.StatusCreated {
		t.Fatalf("log in: %d %s", status, answer)
	}
	return header.Get("X-Subject-Token")
}

// ByPassword is the identity of a user of a domain, by its name.
func ByPassword(user, password, domain string) map[string]any {
	return map[string]any{"methods": []string{"password"}, "password": map[string]any{
		"user": map[string]any{"name": user, "password": password, "domain": map[string]any{"name": domain}}}}
}

// Call asks something as the admin, who has all rights by a token of the system.
// The answer, if it is to be looked at, is decoded into out.
func (s *Server) Call(t testing.TB, method, path string, in, out any) {
	t.Helper()
	if s.token == "" {
		s.token = s.Token(t, map[string]any{"identity": ByPassword("admin", Password, "Default"),
			"scope": map[string]any{"system": map[string]any{"all": true}}})
	}
	status, _, answer := s.send(t, method, path, s.token, in)
	if status >= http.StatusMultipleChoices {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			t.Fatal(err)
		}
	}
}

// ApplicationToken makes an application credential of a user, who shows a token,
// and returns a token of it.
func (s *Server) ApplicationToken(t testing.TB, token, user string, credential map[string]any) string {
	t.Helper()
	status, _, text := s.send(t, "POST", "/users/"+user+"/application_credentials", token,
		map[string]any{"application_credential": credential})
	var made struct {
		Credential struct{ ID, Secret string } `json:"application_credential"`
	}
	if status != http.StatusCreated || json.Unmarshal(text, &made) != nil {
		t.Fatalf("application credential: %d %s", status, text)
	}
	return s.Token(t, map[string]any{"identity": map[string]any{"methods": []string{"application_credential"},
		"application_credential": map[string]any{"id": made.Credential.ID, "secret": made.Credential.Secret}}})
}

// Revoke ends a token.
func (s *Server) Revoke(t testing.TB, token string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "DELETE", s.URL()+"/auth/tokens", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("X-Subject-Token", token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("revoke: %d", resp.StatusCode)
	}
}

// Expired is a token of a user in a project of which the time is over.
func (s *Server) Expired(t testing.TB, user, project string) string {
	t.Helper()
	q := url.Values{"user": {user}, "project": {project}}
	status, _, answer := s.send(t, "GET", "/../expired?"+q.Encode(), "", nil)
	if status != http.StatusOK {
		t.Fatalf("expired token: %d %s\n%s", status, answer, s.said)
	}
	return string(answer)
}

// Domain makes a domain and returns its id.
func (s *Server) Domain(t testing.TB, name string) string {
	t.Helper()
	return s.make(t, "domain", map[string]any{"name": name})
}

// Project makes a project in a domain, by its id.
func (s *Server) Project(t testing.TB, name, domain string) string {
	t.Helper()
	return s.make(t, "project", map[string]any{"name": name, "domain_id": domain})
}

// ProjectNamed is the id of a project of the default domain that is there.
func (s *Server) ProjectNamed(t testing.TB, name string) string {
	t.Helper()
	var found struct{ Projects []struct{ ID string } }
	s.Call(t, "GET", "/projects?domain_id=default&name="+url.QueryEscape(name), nil, &found)
	if len(found.Projects) != 1 {
		t.Fatalf("there are %d projects called %s", len(found.Projects), name)
	}
	return found.Projects[0].ID
}

// User makes a user in a domain, by its id.
func (s *Server) User(t testing.TB, name, password, domain string) string {
	t.Helper()
	return s.make(t, "user", map[string]any{"name": name, "password": password, "domain_id": domain})
}

func (s *Server) make(t testing.TB, kind string, what map[string]any) string {
	t.Helper()
	var made map[string]struct{ ID string }
	s.Call(t, "POST", "/"+kind+"s", map[string]any{kind: what}, &made)
	return made[kind].ID
}

// Role is the id of a role, which is made if it is not there.
func (s *Server) Role(t testing.TB, name string) string {
	t.Helper()
	var found struct{ Roles []struct{ ID string } }
	s.Call(t, "GET", "/roles?name="+url.QueryEscape(name), nil, &found)
	if len(found.Roles) == 0 {
		return s.make(t, "role", map[string]any{"name": name})
	}
	return found.Roles[0].ID
}

// Grant gives a user a role in a project: by ids, and the role by its name.
func (s *Server) Grant(t testing.TB, user, project, role string) {
	t.Helper()
	s.Call(t, "PUT", "/projects/"+project+"/users/"+user+"/roles/"+s.Role(t, role), nil, nil)
}

// Service puts a service with one address into the catalog.
func (s *Server) Service(t testing.TB, kind, name, address string) {
	t.Helper()
	id := s.make(t, "service", map[string]any{"type": kind, "name": name})
	for _, side := range []string{"public", "internal"} {
		s.make(t, "endpoint", map[string]any{"service_id": id, "interface": side, "url": address,
			"region_id": "RegionOne"})
	}
}

func (s *Server) send(
	t testing.TB,
	method, path, token string,
	in any,
) (status int, header http.Header, answer []byte) {
	t.Helper()
	var body io.Reader = http.NoBody
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(encoded)
	}
	at := s.URL() + path
	if rest, above := strings.CutPrefix(path, "/.."); above {
		at = strings.TrimSuffix(s.URL(), "/v3") + rest
	}
	r, err := http.NewRequestWithContext(t.Context(), method, at, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, answer
}
