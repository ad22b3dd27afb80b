package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"kvol/internal/client"
	nbdclient "kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/export/nbd"
)

// server is a process that serves a full volume of region bytes.
type server struct {
	name, url string
	*started
}

// work is one kind of load on a server.
type work struct {
	name    string
	write   bool
	size    int64 // of a request, in bytes; over 4096 they come in order
	depth   int
	count   int
	overRaw float64 // the aim against qemu-nbd raw
}

var works = []work{
	{"4-KiB random read, depth 1", false, 4096, 1, 4000, 2},
	{"4-KiB random read, depth 32", false, 4096, 32, 16000, 3},
	{"4-KiB random write, depth 1", true, 4096, 1, 4000, 2},
	{"4-KiB random write, depth 32", true, 4096, 32, 16000, 3},
	{"1-MiB sequential read, depth 4", false, 1 << 20, 4, 256, 2},
	{"1-MiB sequential write, depth 4", true, 1 << 20, 4, 256, 2},
}

// servers compares our NBD server, as a process of its own, with others on the
// same disk, by the same client, and the time of the processor that a request
// takes in each.
func (b *bench) servers(ctx context.Context) error {
	all, err := b.startServers(ctx)
	defer func() {
		for _, s := range all {
			_ = s.stop() // its files go with the directory
		}
	}()
	if err != nil {
		return err
	}
	for _, w := range works {
		if !strings.HasPrefix(w.name, b.work) {
			continue
		}
		rates, costs := make([][]float64, len(all)), make([][]float64, len(all))
		for range b.rounds {
			for i, s := range all {
				rate, cost, err := w.run(ctx, s)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", w.name, s.name, err)
				}
				rates[i], costs[i] = append(rates[i], rate), append(costs[i], cost)
			}
		}
		for i, s := range all[1:] {
			aim := 1.0
			if s.name == "qemu-nbd raw" {
				aim = w.overRaw
			}
			b.speed(w.name, rates[0], rates[i+1], s.name, aim)
			ours, theirs := median(costs[0]), median(costs[i+1])
			b.note("  server's CPU for a request", fmt.Sprintf("%.0f µs", ours), fmt.Sprintf("%s %.0f µs", s.name, theirs),
				fmt.Sprintf("%.2f", ours/theirs), "<= 1", ours <= theirs)
		}
	}
	return nil
}

func (b *bench) startServers(ctx context.Context) (all []server, err error) {
	raw, qcow := filepath.Join(b.dir, "peer.img"), filepath.Join(b.dir, "peer.qcow2")
	if err := fill(raw); err != nil {
		return nil, err
	}
	// -S 0: written zeros too, or most of its reads would be of holes.
	out, err := exec.CommandContext(ctx, "qemu-img", "convert", "-S", "0", "-O", "qcow2", raw, qcow).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("qemu-img (package qemu-utils): %w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	socket := func(i int) string { return filepath.Join(b.dir, fmt.Sprintf("s%d.sock", i)) }
	for i, c := range []struct {
		name string
		args []string
	}{
		{"kvol", []string{self, "-serve", socket(0), "-dir", filepath.Join(b.dir, "served"),
			"-profile", b.profile}},
		{"qemu-nbd raw", []string{"qemu-nbd", "-f", "raw", "-t", "-k", socket(1), "-x", "vol", raw}},
		{"qemu-nbd qcow2", []string{"qemu-nbd", "-f", "qcow2", "-t", "-k", socket(2), "-x", "vol", qcow}},
		{"nbdkit file", []string{"nbdkit", "-f", "-U", socket(3), "-e", "vol", "file", raw + "2"}},
	} {
		if c.name == "nbdkit file" {
			if err := fill(raw + "2"); err != nil {
				return all, err
			}
		}
		p, err := start(c.args[0], c.args[1:]...)
		if err != nil {
			return all, fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, server{c.name, "nbd+unix:///vol?socket=" + socket(i), p})
	}
	return all, nil
}

// startServing starts this program as a server of a new store.
func startServing(dir, socket string) (*started, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(self, "-serve", socket, "-dir", dir)
}

// serveStore is what this program does in a process that serves: a full volume
// of a store, until it is interrupted.
func serveStore(ctx context.Context, dir, socket, profile string) error {
	store, err := logstore.Open(ctx, logstore.Options{Dir: dir})
	if err != nil {
		return err
	}
	d, err := fullVolume(ctx, store)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	stop, err := profiled(profile)
	if err != nil {
		return err
	}
	defer stop()
	_ = nbd.New(nbd.Config{Exports: single{d}}).Serve(ctx, l) // ends with ctx
	return errors.Join(d.Close(), store.Close())
}

// profiled takes a CPU profile into a file until stop is called; none into "".
func profiled(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile that is cut says so where it is read
	}, nil
}

func fullVolume(ctx context.Context, store driver.Driver) (driver.Device, error) {
	if err := store.CreateVolume(ctx, "vol", region); err != nil {
		return nil, err
	}
	d, err := store.OpenVolume(ctx, "vol")
	if err != nil {
		return nil, err
	}
	p := make([]byte, 1<<20)
	for off := int64(0); off < region; off += int64(len(p)) {
		p[0], p[1] = byte(off>>20), 1
		if _, err := d.WriteAt(p, off); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, d.Flush()
}

// run puts a load on a server and returns requests a second, and the server's
// processor time for one in microseconds.
func (w work) run(ctx context.Context, s server) (rate, cost float64, err error) {
	var c *nbdclient.Conn
	err = client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		var err error
		c, err = nbdclient.Dial(ctx, s.url, nbdclient.Options{})
		return err == nil, nil // it may be starting
	})
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	before, err := processorTime(s.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	errs := make(chan error, w.depth)
	for i := range w.depth {
		go func() { errs <- w.worker(c, int64(i)) }()
	}
	for range w.depth {
		err = errors.Join(err, <-errs)
	}
	took := time.Since(began)
	if err != nil {
		return 0, 0, err
	}
	after, err := processorTime(s.cmd.Process.Pid)
	n := float64(w.count / w.depth * w.depth)
	return n / took.Seconds(), float64((after - before).Microseconds()) / n, err
}

func (w work) worker(c *nbdclient.Conn, index int64) error {
	rnd := rand.New(rand.NewPCG(uint64(index), 9))
	p := make([]byte, w.size)
	for i := range int64(w.count / w.depth) {
		off := rnd.Int64N(region/4096) * 4096
		if w.size > 4096 {
			off = (i*int64(w.depth) + index) * w.size % region
		}
		var err error
		if w.write {
			p[0], p[1] = byte(i), byte(index+1)
			_, err = c.WriteAt(p, off)
		} else {
			_, err = c.ReadAt(p, off)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tick is the unit of processor time in /proc, which Linux fixes for programs.
const tick = 10 * time.Millisecond

// processorTime reads what a process has used, all threads together.
func processorTime(pid int) (time.Duration, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d: %q", pid, line)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, err
}
