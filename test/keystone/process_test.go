package keystone_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/zone"
)

// zoneFile is set in a process that is to serve the zone of a configuration file.
const zoneFile = "KVOL_OPENSTACK_ZONE"

func TestMain(m *testing.M) {
	if path := os.Getenv(zoneFile); path != "" {
		fmt.Fprintln(os.Stderr, "zone:", serveZone(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveZone serves a zone until its standard input ends, and says where.
func serveZone(path string) error {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // the test is over, or was killed
		stop()
	}()
	cfg, err := zone.LoadConfig(path)
	if err != nil {
		return err
	}
	s, err := zone.Open(ctx, cfg, zone.Environment{})
	if err != nil {
		return err
	}
	fmt.Println(s.URL())
	return s.Run(ctx)
}

// process is a zone in a process of its own, which can be killed.
type process struct {
	*cloud
	config string
	cmd    *exec.Cmd
	stdin  io.Closer
}

// process starts a zone like c's, with nothing in it yet.
func (c *cloud) process() *process {
	c.Helper()
	return c.processOf(config)
}

// processOf starts a zone of another configuration.
func (c *cloud) processOf(config string) *process {
	c.Helper()
	p := &process{cloud: c.with(c.T), config: filepath.Join(c.TempDir(), "kvol.yaml")}
	if err := os.WriteFile(p.config, fmt.Appendf(nil, config, c.keystone.URL()), 0o600); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(p.kill)
	p.start()
	return p
}

func (p *process) start() {
	p.Helper()
	p.cmd = exec.CommandContext(context.Background(), os.Args[0])
	p.cmd.Env = append(os.Environ(), zoneFile+"="+p.config)
	p.cmd.Stderr = os.Stderr
	in, errIn := p.cmd.StdinPipe()
	out, errOut := p.cmd.StdoutPipe()
	if errIn != nil || errOut != nil {
		p.Fatal(errIn, errOut)
	}
	p.stdin = in
	if err := p.cmd.Start(); err != nil {
		p.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.Fatalf("the zone does not start: %v", err)
	}
	p.url = strings.TrimSpace(line)
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	_ = p.cmd.Wait()
	p.stdin.Close()
}

// peak is the most memory that the process ever had, in MiB.
func (p *process) peak() int {
	p.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib >> 10
		}
	}
	p.Fatalf("no VmHWM in %s", text)
	return 0
}
