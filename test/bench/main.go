// Command bench measures kvol against peers and limits in one run and prints
// a table of ratios. It needs qemu-nbd; it uses only loopback and a temporary
// directory, and stops by itself. Times are medians over alternating rounds,
// since a machine's speed changes while it is measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// bench is one run.
type bench struct {
	exe, dir string
	rounds   int
	only     string
	work     string        // the only work on servers to measure; "" for all
	profile  string        // file for a CPU profile of our server; "" for none
	duration time.Duration // of each steady load
	each     time.Duration // of each load on the API
	volumes  int           // out of which pages are read at most
	sparse   int64
	level    int64 // the only steady load to measure, in percent; 0 for all
	rows     []table.Row
	missed   int
	told     int // rows without an aim
}

func main() {
	b := &bench{}
	flag.StringVar(&b.exe, "kvol", "./kvol", "the program to measure")
	flag.StringVar(&b.dir, "dir", "", "directory on the disk to measure on (a temporary one if empty)")
	flag.IntVar(&b.rounds, "rounds", 5, "alternating rounds of each work")
	flag.DurationVar(&b.duration, "duration", 10*time.Second, "of each steady load; 10m says more")
	flag.DurationVar(&b.each, "each", 2*time.Second, "of each load on the API")
	flag.IntVar(&b.volumes, "volumes", 100_000, "read pages out of so many volumes at most; 1000000 says more")
	flag.Int64Var(&b.level, "full", 0, "of the steady loads only the one in a store that is full to so many percent")
	flag.StringVar(&b.only, "only", "", "measure only works whose name begins so")
	flag.Int64Var(&b.sparse, "sparse", 200000, "writes all over 16 TiB while memory is measured; 5000000 says more")
	flag.StringVar(
		&b.work,
		"work",
		"",
		"of the works on servers, targets and the API measure only those whose name begins so",
	)
	flag.StringVar(&b.profile, "profile", "", "write a CPU profile of our server under these works to this file")
	memory := flag.String("memory-of", "", "fill a store in -dir and print its memory; used by the program itself")
	socket := flag.String("serve", "", "serve a store in -dir on this socket; used by the program itself")
	config := flag.String("serve-zone", "", "serve the zone of this configuration file; used by the program itself")
	loading := flag.Bool("load", false, "put the load on an API that standard input says; used by the program itself")
	protocol := flag.String("protocol", "nbd", "what -serve speaks: nbd, or iscsi on a host:port")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := b.run
	if *socket != "" {
		run = func(ctx context.Context) error { return serveStore(ctx, b.dir, *socket, b.profile) }
		if *protocol == "iscsi" {
			run = func(ctx context.Context) error { return serveTarget(ctx, b.dir, *socket, b.profile) }
		}
	}
	if *memory != "" {
		run = func(ctx context.Context) error { return reportMemory(ctx, b.dir, *memory) }
	}
	if *config != "" {
		run = func(ctx context.Context) error { return serveZone(ctx, *config, b.profile) }
	}
	if *loading {
		run = runLoad
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) error {
	dir, err := os.MkdirTemp(b.dir, "kvol-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	if b.exe, err = filepath.Abs(b.exe); err != nil {
		return err
	}
	for _, work := range []struct {
		name string
		fn   func(context.Context) error
	}{{"random writes", b.writes}, {"snapshots and clones", b.snapshots}, {"servers", b.servers},
		{"iscsi", b.targets}, {"engine", b.engine}, {"steady", b.steady}, {"scattered", b.scattered},
		{"memory", b.memory}, {"served memory", b.servedMemory}, {"backup", b.backups}, {"delta", b.delta},
		{"reopen", b.reopen}, {"an idle zone", b.idle}, {"zones", b.zones}, {"api", b.api},
		{"api pages", b.pages}} {
		if !strings.HasPrefix(work.name, b.only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s...\n", work.name)
		if err := work.fn(ctx); err != nil {
			return fmt.Errorf("%s: %w", work.name, err)
		}
	}
	t := table.NewWriter()
	t.SetOutputMirror(os.Stdout)
	t.SetStyle(table.StyleDefault)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"work", "kvol", "against", "ratio", "aim", "met"})
	t.AppendRows(b.rows)
	t.Render()
	aims := len(b.rows) - b.told
	fmt.Printf("%d of %d aims met\n", aims-b.missed, aims)
	return nil
}

// speed notes operations per second of ours and of a peer; more is better.
func (b *bench) speed(work string, ours, peers []float64, peer string, aim float64) {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / peers[i]
	}
	r := median(ratios)
	b.note(work, fmt.Sprintf("%.0f/s", median(ours)), fmt.Sprintf("%s %.0f/s", peer, median(peers)),
		fmt.Sprintf("%.2f", r), fmt.Sprintf(">= %.1f", aim), r >= aim)
}

// limit notes a time and the limit that it should keep.
func (b *bench) limit(work string, took []time.Duration, limit time.Duration) {
	m := median(took)
	b.note(work, m.Round(10*time.Microsecond).String(), "limit "+limit.String(),
		fmt.Sprintf("%.3f", float64(m)/float64(limit)), "<= 1", m <= limit)
}

func (b *bench) note(work, ours, against, ratio, aim string, met bool) {
	said := "yes"
	if !met {
		said = "NO"
		b.missed++
	}
	b.rows = append(b.rows, table.Row{work, ours, against, ratio, aim, said})
}

// tell notes what has no aim.
func (b *bench) tell(work, ours string) {
	b.told++
	b.rows = append(b.rows, table.Row{work, ours, "", "", "", ""})
}

func median[T int64 | float64 | time.Duration](values []T) T {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// started is a program that runs until stop.
type started struct{ cmd *exec.Cmd }

func start(name string, args ...string) (*started, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	return &started{cmd}, cmd.Start()
}

func (s *started) stop() error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	_ = s.cmd.Wait() // ended by our signal: it says so
	return nil
}
