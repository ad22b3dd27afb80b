// Package program builds kvol and runs it as processes of their own, which tests
// kill, stop and let go on.
package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Build builds the program in a directory and returns its path.
func Build(dir string) (string, error) {
	path := filepath.Join(dir, "kvol")
	build := exec.Command("go", "build", "-o", path, "kvol/cmd/kvol")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
}

// Process is `kvol serve` with one configuration, run again and again. Its methods
// belong to the test's goroutine.
type Process struct {
	Name   string // the pid is in NAME.pid beside the configuration, for who clears up
	Config string // the path of its configuration
	Log    *Logbook

	path  string
	cmd   *exec.Cmd // nil while it is not to run
	ended chan struct{}
	exit  error // once ended is closed
}

// New makes a process of the program at a path, which does not run yet.
func New(path, name, config string) *Process {
	return &Process{Name: name, Config: config, Log: &Logbook{}, path: path}
}

// Logbook is what a process wrote, in all of its runs. Its methods may be called at
// once.
type Logbook struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (l *Logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is all of it.
func (l *Logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Start runs it.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	p.cmd = exec.Command(p.path, "serve", "--config", p.Config, "--log-level", "debug")
	p.cmd.Stderr = p.Log
	p.ended = make(chan struct{})
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	Note(t, filepath.Dir(p.Config), p.Name, p.cmd)
	go func(cmd *exec.Cmd, ended chan struct{}) {
		p.exit = cmd.Wait()
		close(ended)
	}(p.cmd, p.ended)
}

// Note writes the pid of a program down in NAME.pid, for who clears up behind a test
// that was killed.
func Note(t testing.TB, dir, name string, cmd *exec.Cmd) {
	t.Helper()
	err := os.WriteFile(filepath.Join(dir, name+".pid"), fmt.Appendln(nil, cmd.Process.Pid), 0o600)
	if err != nil {
		t.Fatal(err)
	}
}

// Runs reports whether it was started, and neither killed nor seen to end.
func (p *Process) Runs() bool { return p.cmd != nil }

// PID is that of its last run, if Runs.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends it a signal, if it did not end.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// Kill ends it at once, also if it is stopped.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-p.ended
	p.cmd = nil
}

// Ended is closed when it has ended by itself, and Exit may be called.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Exit is how it ended.
func (p *Process) Exit() error {
	p.cmd = nil
	return p.exit
}

// Complaints are the lines of it that warn or tell of an error.
func (l *Logbook) Complaints() string {
	var all []string
	for _, line := range strings.Split(l.String(), "\n") {
		if strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`) ||
			!strings.HasPrefix(line, "{") {
			all = append(all, line)
		}
	}
	return strings.Join(all, "\n")
}
