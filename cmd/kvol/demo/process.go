package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"kvol/internal/client"
)

// patience is how long a machine with much else to do may take for what takes a
// moment.
const patience = 10 * time.Minute

// process is a zone that runs as a child of the demo.
type process struct {
	cmd   *exec.Cmd
	log   *os.File
	ended chan error
}

// start runs `kvol serve` for a zone and waits until it is ready. The zone's
// log goes to <dir>/<zone>.log. The child dies with the demo.
func start(ctx context.Context, exe string, t *Topology, name string) (*process, error) {
	place := t.zone(name)
	log, err := os.OpenFile(filepath.Join(t.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(exe, "serve", "--config", place.Config), log: log, ended: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		log.Close()
		return nil, err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	place.PID = p.cmd.Process.Pid
	if err := p.ready(ctx, place.URL); err != nil {
		p.kill()
		return nil, fmt.Errorf("zone %s did not become ready (see %s): %w", name, log.Name(), err)
	}
	return p, nil
}

func (p *process) ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	h := &http.Client{Timeout: 2 * time.Second}
	return client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		select {
		case err := <-p.ended:
			p.ended <- err
			return false, fmt.Errorf("it ended: %w", errors.Join(err, errors.New("exit")))
		default:
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
		if err != nil {
			return false, err
		}
		answer, err := h.Do(r)
		if err != nil {
			return false, nil // not listening yet
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK, nil
	})
}

// kill ends the zone as a power cut of its machine's processes would:
// SIGKILL, no chance to say goodbye.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	p.wait()
}

// stop asks the zone to end and waits; after ten seconds it is killed.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		p.ended <- err
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
	}
	p.wait()
}

func (p *process) wait() {
	err := <-p.ended
	p.ended <- err
	p.log.Close()
}
