package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/driver/logstore"
)

func storeCommand(out *output) *cobra.Command {
	c := &cobra.Command{Use: "store", Short: "See how an embedded store is, check it, and look into it",
		Long: `See how an embedded store is, check it, and look into it.

  kvol store status                 the stores of the running zone (administrators)
  kvol store check --store main     check one while it is used; ^C cancels
  kvol store check DIR              check one that no zone has open
  kvol store placements             volumes that found no backend, and why

A store is open in one process at a time; where a zone has it, DIR is refused
with the zone's address.`}
	c.AddCommand(storeStatus(out), storeCheck(out), storeScrub(out), storeDamages(out), storePlacements(out), storeDump(),
		storeMend(out))
	return c
}

// withStore opens a store for a command and closes it after.
func withStore(ctx context.Context, dir string, fn func(s *logstore.Store) error) error {
	if _, err := os.Stat(dir + "/superblock"); err != nil {
		return fmt.Errorf("%s holds no store: %w", dir, err)
	}
	s, err := logstore.Open(ctx, logstore.Options{Dir: dir})
	if err != nil {
		return err
	}
	err = fn(s)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return err
}

func storeStatus(out *output) *cobra.Command {
	var name string
	c := &cobra.Command{Use: "status [DIR]", Short: "Show how full and how well a store is, or those of the running zone",
		Args: cobra.MaximumNArgs(1)}
	c.Flags().StringVar(&name, "store", "", "this store of the running zone")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return zoneStatus(c, out, name)
		}
		if _, err := at(args, name); err != nil {
			return err
		}
		return withStore(c.Context(), args[0], func(s *logstore.Store) error {
			st := s.Status()
			return out.one(c.OutOrStdout(), st, [2]any{"level", st.Level}, [2]any{"free", st.Free},
				[2]any{"total", st.Total}, [2]any{"live", st.LiveBytes}, [2]any{"garbage", st.GarbageBytes},
				[2]any{"segments", st.Segments}, [2]any{"empty segments", st.EmptySegments},
				[2]any{"index", st.IndexBytes}, [2]any{"volumes", st.Volumes}, [2]any{"snapshots", st.Snapshots},
				[2]any{"branches", st.Branches}, [2]any{"generation", st.Generation},
				[2]any{"sequence", st.Sequence}, [2]any{"closed in order", !st.Unclean})
		})
	}
	return c
}

// errDamaged makes the exit status tell of damage.
type errDamaged int

func (n errDamaged) Error() string { return fmt.Sprintf("%d places of the store are damaged", int(n)) }

func storeCheck(out *output) *cobra.Command {
	var name string
	var rate int64
	c := &cobra.Command{Use: "check [DIR]", Short: "Compare a store's index with its log, and read all live data",
		Args: cobra.MaximumNArgs(1)}
	c.Flags().StringVar(&name, "store", "", "the name of a store of the running zone")
	c.Flags().Int64Var(&rate, "mib-s", 0, "MiB read in a second at most; 0: as fast as it goes")
	c.RunE = func(c *cobra.Command, args []string) error {
		w, err := at(args, name)
		if err != nil {
			return err
		}
		if w.name != "" {
			return zoneRun(c, out, w.name, "check", rate)
		}
		return withStore(c.Context(), w.dir, func(s *logstore.Store) error {
			done, err := s.Examine(c.Context(), logstore.Watch{Rate: rate << 20,
				Found: func(d logstore.Damage) { fmt.Fprintln(os.Stderr, d.Error()) }})
			if err != nil {
				return err
			}
			if err := out.one(c.OutOrStdout(), done, [2]any{"segments", done.Segments},
				[2]any{"versions of leaves", done.Versions}, [2]any{"live bytes", done.Bytes},
				[2]any{"damages", done.Damages}); err != nil || done.Damages == 0 {
				return err
			}
			return errDamaged(done.Damages)
		})
	}
	return c
}

func storeScrub(out *output) *cobra.Command {
	var name string
	var rate int64
	c := &cobra.Command{Use: "scrub [DIR]", Short: "Read all live data of a store and compare it with its checksums",
		Args: cobra.MaximumNArgs(1)}
	c.Flags().StringVar(&name, "store", "", "the name of a store of the running zone")
	c.Flags().Int64Var(&rate, "mib-s", 0, "MiB read in a second at most; 0: as fast as it goes")
	c.RunE = func(c *cobra.Command, args []string) error {
		w, err := at(args, name)
		if err != nil {
			return err
		}
		if w.name != "" {
			return zoneRun(c, out, w.name, "scrub", rate)
		}
		return withStore(c.Context(), w.dir, func(s *logstore.Store) error {
			start := time.Now()
			if _, err := s.Scrub(c.Context(), logstore.Watch{Rate: rate << 20}); err != nil {
				return err
			}
			var rows []table.Row
			damages := s.Damages()
			for _, d := range damages {
				rows = append(rows, table.Row{d.Volume, d.Extent.Off, d.Extent.Len, d.What})
			}
			fmt.Fprintf(os.Stderr, "%d bytes read in %v, %d places healed\n", s.Status().Scrub.Bytes,
				time.Since(start).Round(time.Second), s.Status().Healed)
			err := out.rows(c.OutOrStdout(), damages, table.Row{"Volume", "Offset", "Bytes", "What"}, rows)
			if err == nil && len(damages) > 0 {
				err = errDamaged(len(damages))
			}
			return err
		})
	}
	return c
}

func storeMend(out *output) *cobra.Command {
	return &cobra.Command{Use: "mend DIR", Short: "Write damaged parts of a store's index anew, and list what was lost",
		Long: `Write the damaged parts of a store's index anew, while no zone has the store open.
What can't be known any more is listed by volume and range: reading it fails from
then on, until it is written over. Nothing is guessed. Take a copy of DIR/index first.`,
		Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
			done, err := logstore.Mend(c.Context(), logstore.Options{Dir: args[0]})
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%d parts of the index written anew with %d entries\n", done.Ranges, done.Rows)
			var rows []table.Row
			for _, d := range done.Lost {
				rows = append(rows, table.Row{d.Volume, d.Extent.Off, d.Extent.Len, d.What})
			}
			err = out.rows(c.OutOrStdout(), done.Lost, table.Row{"Volume", "Offset", "Bytes", "What"}, rows)
			if err == nil && len(rows) > 0 {
				err = errDamaged(len(rows))
			}
			return err
		}}
}

func storeDump() *cobra.Command {
	var o logstore.DumpOptions
	c := &cobra.Command{Use: "dump DIR", Short: "Print what a store's files say, byte for byte as docs/format.md has it",
		Long: `Print what a store's files say: superblock, segments, and with the flags each record
and each key of the index. Nothing is changed and nothing is recovered.`, Args: cobra.ExactArgs(1)}
	c.Flags().BoolVar(&o.Records, "records", false, "print each record of the log")
	c.Flags().BoolVar(&o.Index, "index", false, "print each key of the index")
	c.RunE = func(c *cobra.Command, args []string) error {
		w := bufio.NewWriter(c.OutOrStdout())
		err := logstore.Dump(c.Context(), io.Writer(w), args[0], o)
		if ferr := w.Flush(); err == nil {
			err = ferr
		}
		return err
	}
	return c
}
