// Package postgres starts PostgreSQL servers for tests: Debian's binaries, a
// directory and a socket of their own, nothing of the system's touched.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kvol/test/afterwards"
)

// Server is a running server. It belongs to one goroutine; Database may be called by several at once.
type Server struct {
	dir string // with the data and the socket
	bin string
	as  *syscall.Credential // nil: as who runs the test
	cmd *exec.Cmd
	n   atomic.Int64 // databases that were made
}

// Start starts a server that lives as long as the test.
func Start(t testing.TB) *Server {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatal("PostgreSQL is missing; test/setup.sh installs it")
		}
		t.Skip("PostgreSQL is not installed")
	}
	s := &Server{bin: filepath.Dir(slices.Max(found))}
	if s.dir, err = os.MkdirTemp("", "kvol-pg-"); err != nil { // short: a socket's name has little room
		t.Fatal(err)
	}
	afterwards.Run(t, "/bin/sh", "-c", `kill -QUIT "$(head -n 1 "$0/data/postmaster.pid")"; rm -rf "$0"`, s.dir)
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(s.dir)
	})
	if err := s.initialise(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Resume(t)
	return s
}

// initialise makes the data, as the user of Debian's packages where the test runs
// as root, which PostgreSQL refuses to run as.
func (s *Server) initialise(ctx context.Context) error {
	if os.Getuid() == 0 {
		who, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, errU := strconv.ParseUint(who.Uid, 10, 32)
		gid, errG := strconv.ParseUint(who.Gid, 10, 32)
		if err := errors.Join(errU, errG, os.Chown(s.dir, int(uid), int(gid))); err != nil {
			return err
		}
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	out, err := s.command(ctx, "initdb", "-D", filepath.Join(s.dir, "data"), "-U", "kvol", "-A", "trust", "-N",
		"-E", "UTF8", "--locale=C.UTF-8").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

// Kill ends the server at once, as a crash would.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // the immediate end, with all of its processes
	_ = s.cmd.Process.Signal(syscall.SIGCONT) // it may stand still
	_ = s.cmd.Wait()                          // it says that it was ended
	s.cmd = nil
}

// Resume starts it again on the data that are there.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.cmd = s.command(context.Background(), "postgres", "-D", filepath.Join(s.dir, "data"), "-k", s.dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300")
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
		if err == nil {
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			return
		}
		if s.cmd.ProcessState != nil || t.Context().Err() != nil {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("the server does not answer: %v\n%s", err, text)
		}
		time.Sleep(20 * time.Millisecond) // between two questions
	}
}

// Stop has the server and all of its processes stand still.
func (s *Server) Stop(t testing.TB) { t.Helper(); s.each(t, syscall.SIGSTOP) }

// Continue ends a Stop.
func (s *Server) Continue(t testing.TB) { t.Helper(); s.each(t, syscall.SIGCONT) }

// each sends a signal to the server and then to the processes that it has started,
// one for each connection: it starts no more of them when it stands still.
func (s *Server) each(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	pid := s.cmd.Process.Pid
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)) // it has one thread
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range strings.Fields(string(text)) {
		child, err := strconv.Atoi(one)
		if err == nil {
			err = syscall.Kill(child, signal)
		}
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}

// URL is that of a database of the server.
func (s *Server) URL(database string) string {
	return (&url.URL{Scheme: "postgres", Path: "/" + database,
		RawQuery: url.Values{"host": {s.dir}, "user": {"kvol"}}.Encode()}).String()
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	n := s.n.Add(1)
	name := fmt.Sprintf("kvol%d", n)
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+name)
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	return s.URL(name)
}
