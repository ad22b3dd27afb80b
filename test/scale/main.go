// Command scale makes a zone of a size that nobody has at hand, without data: a
// catalog in a file, with a million volumes, and the parts of a zone that work on
// it. It measures what lists, claims of jobs, the choice of a backend and
// replication cost there, by the code that serves, and prints it. docs/scale.md
// explains the figures. It uses a temporary directory and stops by itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// size is what a zone has.
type size struct {
	volumes   int // of which as many as protected are of the protected type
	protected int
	sample    int           // volumes that are made by the catalog's own calls, beside the protected ones
	ended     int           // jobs that are remembered
	waiting   int           // jobs that are due
	projects  int           // which own the volumes, one of them a tenth of all
	watch     time.Duration // how long idle replication is watched
	rounds    int           // of each question

	zones    int           // that all replicate to each other; 0 for a zone and a backup zone
	each     int           // volumes that each of them replicates to each other one
	interval time.Duration // of their protections, and the RPO target
	target   time.Duration
}

func main() {
	var s size
	flag.IntVar(&s.volumes, "volumes", 1_000_000, "volumes of the zone")
	flag.IntVar(&s.protected, "protected", 10_000, "of them, those that are replicated to one other zone")
	flag.IntVar(&s.sample, "sample", 5000, "volumes that are inserted one by one, beside the protected ones")
	flag.IntVar(&s.ended, "ended", 100_000, "jobs that have ended")
	flag.IntVar(&s.waiting, "waiting", 50_000, "jobs that are due")
	flag.IntVar(&s.projects, "projects", 1000, "projects that own the volumes")
	flag.DurationVar(&s.watch, "watch", 30*time.Second, "how long idle replication is watched")
	flag.IntVar(&s.rounds, "rounds", 300, "how often each question is asked")
	flag.IntVar(&s.zones, "zones", 0, "zones that all replicate to each other, instead of a single pair of zones")
	flag.IntVar(&s.each, "each", 200, "volumes that each of -zones replicates to each other one")
	flag.DurationVar(&s.interval, "interval", time.Minute, "interval of the protections of -zones")
	flag.DurationVar(&s.target, "rpo", 3*time.Minute, "RPO target of the protections of -zones")
	dir := flag.String("dir", "", "where the catalogs lie (a temporary directory if empty)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s size, dir string) error {
	if dir == "" {
		made, err := os.MkdirTemp("", "kvol-scale-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(made)
		dir = made
	}
	p := &paper{}
	if s.zones > 0 {
		return runMesh(ctx, s, dir, p, os.Stdout)
	}
	l, err := build(ctx, s, dir, p)
	if err != nil {
		return err
	}
	defer l.close()
	for _, part := range []func(context.Context) error{l.lists, l.places, l.jobs, l.replicate, l.health} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	p.print(os.Stdout)
	return nil
}
