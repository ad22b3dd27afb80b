package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/export/iscsi"
)

const (
	benchTarget = "iqn.2025-01.bench:vol"
	// tgtControl is the number of the control socket of tgtd, so that one of the
	// system is left alone.
	tgtControl = "4711"
)

// initiatorWork is one kind of load that an initiator of libiscsi puts on a
// target.
type initiatorWork struct {
	name  string
	write bool
	size  int // bytes of a request
	depth int
	count int // requests
}

var initiatorWorks = []initiatorWork{
	{"4-KiB random read, depth 1, iSCSI", false, 4096, 1, 0},
	{"4-KiB random read, depth 32, iSCSI", false, 4096, 32, 0},
	{"4-KiB sequential write, depth 1, iSCSI", true, 4096, 1, 8000},
	{"4-KiB sequential write, depth 32, iSCSI", true, 4096, 32, 40000},
	{"1-MiB sequential read, depth 4, iSCSI", false, 1 << 20, 4, 0},
	{"1-MiB sequential write, depth 4, iSCSI", true, 1 << 20, 4, 512},
}

// targets compares our iSCSI target with tgtd's, each a process of its own with
// a full volume on the same disk, by unmodified initiators: iscsi-perf reads,
// qemu-img bench writes.
func (b *bench) targets(ctx context.Context) error {
	all, err := b.startTargets(ctx)
	defer func() {
		for _, s := range all {
			_ = s.stop() // its files go with the directory
		}
	}()
	if err != nil {
		return err
	}
	for _, w := range initiatorWorks {
		if !strings.HasPrefix(w.name, b.work) {
			continue
		}
		rates, costs := make([][]float64, len(all)), make([][]float64, len(all))
		ratios := make([]float64, 0, b.rounds)
		for range b.rounds {
			for i, s := range all {
				rate, cost, err := w.run(ctx, s)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", w.name, s.name, err)
				}
				rates[i], costs[i] = append(rates[i], rate), append(costs[i], cost)
			}
			n := len(costs[0]) - 1
			ratios = append(ratios, costs[0][n]/costs[1][n])
		}
		b.speed(w.name, rates[0], rates[1], all[1].name, 1)
		r := median(ratios)
		b.note("  server's CPU for a request", fmt.Sprintf("%.1f µs", median(costs[0])),
			fmt.Sprintf("%s %.1f µs", all[1].name, median(costs[1])), fmt.Sprintf("%.2f", r), "<= 1", r <= 1)
	}
	return nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (b *bench) startTargets(ctx context.Context) (all []server, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	raw := filepath.Join(b.dir, "tgt.img")
	if err := fill(raw); err != nil {
		return nil, err
	}
	for _, name := range []string{"kvol", "tgtd"} {
		address, err := freeAddress()
		if err != nil {
			return all, err
		}
		args := []string{self, "-serve", address, "-protocol", "iscsi", "-dir", filepath.Join(b.dir, "targets"),
			"-profile", b.profile}
		if name == "tgtd" {
			args = []string{"tgtd", "-f", "-C", tgtControl, "--iscsi", "portal=" + address}
		}
		p, err := start(args[0], args[1:]...)
		if err != nil {
			return all, fmt.Errorf("%s (package tgt): %w", name, err)
		}
		all = append(all, server{name, "iscsi://" + address + "/" + benchTarget + "/1", p})
	}
	if err := configureTgt(ctx, raw); err != nil {
		return all, err
	}
	for _, s := range all {
		err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
			return exec.CommandContext(ctx, "iscsi-inq", s.url).Run() == nil, nil // it may be starting
		})
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// configureTgt gives tgtd the file as a unit for everybody.
func configureTgt(ctx context.Context, file string) error {
	tgtadm := func(args ...string) ([]byte, error) {
		return exec.CommandContext(ctx, "tgtadm",
			append([]string{"-C", tgtControl, "--lld", "iscsi", "--tid", "1"}, args...)...).CombinedOutput()
	}
	err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		_, err := tgtadm("--mode", "target", "--op", "new", "-T", benchTarget)
		return err == nil, nil // it may be starting
	})
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"--mode", "logicalunit", "--op", "new", "--lun", "1", "-b", file},
		{"--mode", "target", "--op", "bind", "-I", "ALL"},
	} {
		if out, err := tgtadm(args...); err != nil {
			return fmt.Errorf("tgtadm: %w: %s", err, out)
		}
	}
	return nil
}

var (
	perfRate  = regexp.MustCompile(`iops average (\d+)`)
	benchTook = regexp.MustCompile(`completed in ([0-9.]+) seconds`)
)

// readSeconds is how long iscsi-perf reads.
const readSeconds = 2

// run puts a load on a target and returns requests a second, and the server's
// processor time for one in microseconds.
func (w initiatorWork) run(ctx context.Context, s server) (rate, cost float64, err error) {
	before, err := processorTime(s.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	depth := strconv.Itoa(w.depth)
	args := []string{"qemu-img", "bench", "-f", "raw", "-t", "none", "-w", "-d", depth, "-c", strconv.Itoa(w.count),
		"-s", strconv.Itoa(w.size), s.url}
	if !w.write {
		args = []string{"iscsi-perf", "-m", depth, "-b", strconv.Itoa(w.size / 512), "-t", strconv.Itoa(readSeconds)}
		if w.size <= 4096 {
			args = append(args, "-r")
		}
		args = append(args, s.url)
	}
	began := time.Now()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	took := time.Since(began).Seconds()
	after, err := processorTime(s.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	n := float64(w.count)
	if w.write {
		m := benchTook.FindSubmatch(out)
		if m == nil {
			return 0, 0, fmt.Errorf("%s says %s", args[0], out)
		}
		took, err = strconv.ParseFloat(string(m[1]), 64)
		rate = n / took
	} else {
		m := perfRate.FindAllSubmatch(out, -1)
		if m == nil {
			return 0, 0, fmt.Errorf("%s says %s", args[0], out)
		}
		rate, err = strconv.ParseFloat(string(m[len(m)-1][1]), 64)
		n = rate * min(took, readSeconds)
	}
	return rate, float64((after - before).Microseconds()) / n, err
}

// onlyTarget serves one device as benchTarget.
type onlyTarget struct{ driver.Device }

func (onlyTarget) Discover(context.Context, string) ([]string, error) {
	return []string{benchTarget}, nil
}

func (onlyTarget) Credentials(context.Context, string, string) (iscsi.Credentials, error) {
	return iscsi.Credentials{}, nil
}

func (t onlyTarget) Open(context.Context, string, string) (iscsi.Target, error) {
	return iscsi.Target{Device: t.Device, LUN: 1, Unit: "vol"}, nil
}

// serveTarget is what this program does in a process that serves iSCSI.
func serveTarget(ctx context.Context, dir, address, profile string) error {
	store, err := logstore.Open(ctx, logstore.Options{Dir: dir})
	if err != nil {
		return err
	}
	d, err := fullVolume(ctx, store)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	stop, err := profiled(profile)
	if err != nil {
		return err
	}
	defer stop()
	_ = iscsi.New(iscsi.Config{Targets: onlyTarget{d}}).Serve(ctx, l) // ends with ctx
	return errors.Join(d.Close(), store.Close())
}
