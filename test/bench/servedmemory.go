package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
)

const servedConfig = idleConfig + `
availability_zones: [a]
default_volume_type: ssd
exports: {nbd: "127.0.0.1:0"}
identity:
  projects: [{name: bench}]
  users: [{name: bench, password: a long password, roles: [{project: bench, role: admin}]}]
`

const (
	servedSize  = 16 << 10  // GiB of the volume
	servedCache = 256 << 10 // cache_mib as it is left out, in KiB
	// servedLimit is what a zone may hold, in KiB: the heap doubles before garbage
	// is collected, and there is what an idle zone has, and requests under way.
	servedLimit = 2*servedCache + 64<<10
	servedDepth = 32
)

// servedMemory measures the resident memory of a whole zone, kvol serve, while
// a volume of 16 TiB is written to at random all over through NBD.
func (b *bench) servedMemory(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	l.Close()
	dir := filepath.Join(b.dir, "served-memory")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	config := filepath.Join(dir, "kvol.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, servedConfig, address), 0o600); err != nil {
		return err
	}
	p, err := start(b.exe, "serve", "--config", config, "--log-level", "error")
	if err != nil {
		return err
	}
	defer p.stop()
	url, err := sparseExport(ctx, "http://"+address)
	if err != nil {
		return err
	}
	if err := writeAllOver(ctx, url, b.sparse); err != nil {
		return err
	}
	pid := p.cmd.Process.Pid
	now, err := resident(pid)
	if err != nil {
		return err
	}
	peak, err := memoryLine(pid, "VmHWM:")
	if err != nil {
		return err
	}
	parts, err := metricsOf(ctx, "http://"+address, "kvol_store_memory_bytes")
	if err != nil {
		return err
	}
	b.note(fmt.Sprintf("memory of kvol serve, 16 TiB, %d random writes by NBD", b.sparse),
		fmt.Sprintf("resident %d MiB, at most %d MiB", now>>10, peak>>10),
		fmt.Sprintf("limit %d MiB; %s", servedLimit>>10, parts),
		fmt.Sprintf("%.2f", float64(peak)/servedLimit), "<= 1", peak <= servedLimit)
	return nil
}

// sparseExport makes the volume in a zone that starts and returns its export.
func sparseExport(ctx context.Context, url string) (string, error) {
	var s *client.Session
	err := client.Poll(ctx, 20*time.Millisecond, func() (ok bool, err error) {
		s, err = client.Login(ctx, client.Auth{URL: url + "/identity", User: "bench", Password: "a long password",
			Project: "bench"})
		return err == nil, nil // not listening yet
	})
	if err != nil {
		return "", err
	}
	if err := s.SetQuotas(ctx, s.ProjectID, map[string]int64{"gigabytes": -1}); err != nil {
		return "", err
	}
	v, err := s.CreateVolume(ctx, client.NewVolume{Name: "sparse", Size: servedSize})
	if err != nil {
		return "", err
	}
	if _, err := s.WaitVolume(ctx, v.ID, nil, "available"); err != nil {
		return "", err
	}
	info, err := s.Connect(ctx, v.ID, map[string]any{"host": "bench"})
	return info.NBDURL(), err
}

// writeAllOver writes n blocks at random, and reads one of sixteen.
func writeAllOver(ctx context.Context, url string, n int64) error {
	c, err := nbd.Dial(ctx, url, nbd.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	var g errgroup.Group
	for worker := range servedDepth {
		g.Go(func() error {
			rnd, p := rand.New(rand.NewPCG(uint64(worker), 14)), make([]byte, 4096)
			for i := range n / servedDepth {
				if _, err := c.WriteAt(p, rnd.Int64N(c.Size()/4096)*4096); err != nil {
					return err
				}
				if i%16 == 0 {
					if _, err := c.ReadAt(p, rnd.Int64N(c.Size()/4096)*4096); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// metricsOf is what a zone's metrics of a name say, in MiB.
func metricsOf(ctx context.Context, url, name string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var out []string
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		labels, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), name), "} ")
		_, part, named := strings.Cut(labels, `part="`)
		n, err := strconv.ParseFloat(value, 64)
		if ok && named && err == nil && strings.HasPrefix(lines.Text(), name) {
			out = append(out, fmt.Sprintf("%s %d", strings.TrimSuffix(part, `"`), int64(n)>>20))
		}
	}
	return strings.Join(out, ", ") + " MiB", lines.Err()
}
