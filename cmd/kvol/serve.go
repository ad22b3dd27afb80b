package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"kvol/cmd/kvol/demo"
	"kvol/internal/zone"
)

func serveCommand() *cobra.Command {
	var config, level string
	c := &cobra.Command{Use: "serve --config FILE", Short: "Run a zone",
		Long: `Runs one zone: its APIs, exports, replication and jobs, as the configuration file
says (docs/operating.md explains each key; "kvol demo --dir D" writes three to
read). SIGTERM ends it cleanly; kill -9 at any time loses nothing.`,
		Args: cobra.NoArgs}
	c.Flags().StringVarP(&config, "config", "c", "kvol.yaml", "the zone's configuration file")
	c.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	c.RunE = func(c *cobra.Command, _ []string) error {
		log, err := logger(level)
		if err != nil {
			return err
		}
		cfg, err := zone.LoadConfig(config)
		if err != nil {
			return err
		}
		env := zone.Environment{Log: log, Now: time.Now, Reload: hangups(c.Context())}
		if cfg.Process.Name != "" {
			member, err := zone.OpenMember(c.Context(), cfg, env, version())
			if err != nil {
				return err
			}
			return member.Run(c.Context())
		}
		server, err := zone.Open(c.Context(), cfg, env)
		if err != nil {
			return err
		}
		return server.Run(c.Context())
	}
	return c
}

// hangups passes SIGHUP on until ctx ends; several that nobody took are one.
func hangups(ctx context.Context) <-chan struct{} {
	signals, out := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

// logger writes colours for people and JSON for programs, on standard error.
func logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return slog.New(tint.NewTextHandler(os.Stderr, &tint.Options{Level: l, TimeFormat: time.TimeOnly})), nil
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}

func demoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use:   "demo",
		Short: "Play the main job on this machine: write, replicate, kill a zone, recover, compare",
		Long: `Starts three zones as child processes on loopback, writes a volume in one of
them, makes a copy of a snapshot in another, kills the first with SIGKILL,
recovers the volume elsewhere and compares every byte. Exit status 0 means that
every comparison held. It needs no root, no server and no other program, unless
zones are told to keep their volumes in a Ceph cluster (--ceph) or their catalog
in PostgreSQL (--database). What it leaves there is yours to remove.`,
		Example: "  kvol demo\n  kvol demo --ceph mitaka1=/etc/ceph/ceph.conf --database kilo1='postgres://kvol@db/kvol'",
		Args:    cobra.NoArgs,
	}
	c.Flags().StringToStringVar(&o.Ceph, "ceph", nil,
		"zone=ceph.conf: the zone's volumes are images of this cluster's pool rbd; each zone needs a cluster of its own")
	c.Flags().StringToStringVar(&o.Databases, "database", nil,
		"zone=URL: the zone's catalog is in this PostgreSQL database")
	c.Flags().BoolVar(&o.Keep, "keep", false, "leave the zones running until interrupted")
	c.Flags().
		StringVar(&o.Dir, "dir", "", "directory for configuration, data and logs (a temporary one, removed, if left out)")
	c.Flags().IntVar(&o.BasePort, "port", 0, "first of nine ports to use (free ones if left out)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		o.Exe, o.Out, o.Now = exe, c.OutOrStdout(), time.Now
		return demo.Run(c.Context(), o)
	}
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			fmt.Fprintln(c.OutOrStdout(), "kvol "+version())
			return nil
		}}
}

// version is the program's, with the revision where it is known.
func version() string {
	version, revision := "(devel)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	return version + revision
}
