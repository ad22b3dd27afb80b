// Package glance starts Debian's Glance for tests: see serve.py.
package glance

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"kvol/test/keystone"
)

//go:embed serve.py
var script []byte

const conf = `
[DEFAULT]
bind_host = 127.0.0.1
bind_port = %[2]d
workers = 0
log_file = %[1]s/glance.log
node_staging_uri = file://%[1]s/staging
image_cache_dir = %[1]s/cache
user_storage_quota = 1200MB
[database]
connection = sqlite:///%[1]s/glance.db
sqlite_synchronous = false
[glance_store]
stores = file
default_store = file
filesystem_store_datadir = %[1]s/images
[paste_deploy]
flavor = keystone
config_file = %[1]s/paste.ini
[oslo_concurrency]
lock_path = %[1]s/lock
[keystone_authtoken]
auth_url = %[3]s
www_authenticate_uri = %[3]s
auth_type = password
username = glance
password = the password of glance
user_domain_name = Default
project_name = service
project_domain_name = Default
service_token_roles = service
service_token_roles_required = true
token_cache_time = -1
`

const paste = `
[pipeline:glance-api-keystone]
pipeline = versionnegotiation authtoken context rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app
[app:apiversions]
paste.app_factory = glance.api.versions:create_resource
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
delay_auth_decision = true
`

// Server is a running Glance. It belongs to one goroutine.
type Server struct {
	dir   string
	port  int
	cmd   *exec.Cmd
	ended chan struct{}
	stdin io.WriteCloser // its end ends the server, also where the test is killed
	said  *bytes.Buffer
}

// Start starts a Glance that lives as long as the test and asks a Keystone, which
// has its user and its entry in the catalog after Register. It answers after Await.
func Start(t testing.TB, k *keystone.Server) *Server {
	t.Helper()
	keystone.Require(t, "glance")
	dir, err := os.MkdirTemp("", "kvol-glance-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: dir, port: freePort(t)}
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	for name, text := range map[string]string{"serve.py": string(script), "paste.ini": paste,
		"glance-api.conf": fmt.Sprintf(conf, dir, s.port, k.URL())} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"images", "staging", "cache", "lock"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.Resume(t)
	return s
}

// Register puts Glance's user and address into its Keystone. project is the id of
// the project that is called service.
func (s *Server) Register(t testing.TB, k *keystone.Server, project string) {
	t.Helper()
	k.Grant(t, k.User(t, "glance", "the password of glance", "default"), project, "service")
	k.Service(t, "image", "glance", s.URL())
}

// freePort is a port that nobody listens at, below those that clients are given.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// URL is its address, without a version.
func (s *Server) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", s.port) }

// File is the path of an image's bytes.
func (s *Server) File(image string) string { return filepath.Join(s.dir, "images", image) }

// Kill ends the server at once.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.stdin.Close()
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
	s.cmd = nil
}

// Resume starts it again after Kill, with all that it had.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.said, s.ended = &bytes.Buffer{}, make(chan struct{})
	s.cmd = exec.CommandContext(context.Background(), keystone.Python, filepath.Join(s.dir, "serve.py"), s.dir)
	s.cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	s.cmd.Dir, s.cmd.Stderr = s.dir, s.said
	in, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.stdin = in
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // it is killed in the end
		close(ended)
	}(s.cmd, s.ended)
}

// Await waits until it answers.
func (s *Server) Await(t testing.TB) {
	t.Helper()
	for {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL()+"/versions", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("Glance does not start: %s\n%s", s.said, s.Log())
		case <-t.Context().Done():
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond): // between two questions
		}
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

// Log is the end of what it wrote into its log.
func (s *Server) Log() string {
	const end = 4 << 10                                        // bytes
	text, _ := os.ReadFile(filepath.Join(s.dir, "glance.log")) // none yet
	return string(text[max(0, len(text)-end):])
}
