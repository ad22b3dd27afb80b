package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"kvol/internal/client"
)

// idleLimit is how much memory an idle zone may hold, in KiB.
const idleLimit = 100 << 10

const idleConfig = `
zone: idle
listen: %s
stores: [{name: main, driver: logstore}]
backends: [{name: ssd, store: main}]
volume_types: [{id: 6a21db69-dc6b-4423-834c-679ae153a638, name: ssd, extra_specs: {volume_backend_name: ssd}}]
`

// idle measures the resident memory of a zone that has nothing to do.
func (b *bench) idle(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	l.Close()
	dir := filepath.Join(b.dir, "idle")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	config := filepath.Join(dir, "kvol.yaml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(idleConfig, address)), 0o600); err != nil {
		return err
	}
	p, err := start(b.exe, "serve", "--config", config, "--log-level", "error")
	if err != nil {
		return err
	}
	defer p.stop()
	err = client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		answer, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			return false, nil // not listening yet
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		return err
	}
	rss, err := resident(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	b.note("memory of an idle zone", fmt.Sprintf("%d MiB", rss>>10), fmt.Sprintf("limit %d MiB", idleLimit>>10),
		fmt.Sprintf("%.2f", float64(rss)/idleLimit), "<= 1", rss <= idleLimit)
	return nil
}

// resident reads a process's resident memory, in KiB.
func resident(pid int) (int64, error) { return memoryLine(pid, "VmRSS:") }

// memoryLine reads a line of a process's status, in KiB.
func memoryLine(pid int, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, name)
}
