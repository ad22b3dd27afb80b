package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

// where says which store a command is about: the directory of one that no zone
// has open, or one of a running zone, by name.
type where struct {
	dir  string
	name string // of a store of the zone that the environment names
}

// at reads it from a command's arguments and its flag --store.
func at(args []string, name string) (where, error) {
	if len(args) == 1 && name == "" {
		return where{dir: args[0]}, nil
	}
	if len(args) == 0 && name != "" {
		return where{name: name}, nil
	}
	return where{}, errors.New("give the directory of a store that is not in use, " +
		"or with --store the name of a store of a running zone")
}

// zoneStatus shows the stores of a running zone, or the one of that name.
func zoneStatus(c *cobra.Command, out *output, name string) error {
	s, err := login(c.Context())
	if err != nil {
		return err
	}
	stores, err := s.Stores(c.Context())
	if err != nil {
		return err
	}
	var rows []table.Row
	var seen []client.Store
	for _, st := range stores {
		if name != "" && st.Name != name {
			continue
		}
		seen = append(seen, st)
		rows = append(rows, table.Row{st.Name, st.Status.Level, st.Status.Free, st.Status.Total, st.Status.LiveBytes,
			st.Status.GarbageBytes, st.Status.Volumes, st.Status.Snapshots, st.Status.Damaged, runInWords(st.Run)})
	}
	if name != "" && seen == nil {
		return fmt.Errorf("the zone has no embedded store %q", name)
	}
	return out.rows(c.OutOrStdout(), seen, table.Row{"Store", "Level", "Free", "Total", "Live", "Garbage", "Volumes",
		"Snapshots", "Damaged", "Run"}, rows)
}

func runInWords(r *client.StoreRun) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s %d: %s", r.Kind, r.ID, progressOf(*r))
}

// progressOf says how far a run is.
func progressOf(r client.StoreRun) string {
	if r.State == "running" && r.Total > 0 {
		return fmt.Sprintf("running, %d %%", 100*r.Done/r.Total)
	}
	return r.State
}

// cancelTimeout is how long a command that is interrupted waits for its run to
// end.
const cancelTimeout = 10 * time.Second

// zoneRun begins a check or a scrub in a running zone and follows it; when the
// command is interrupted the run is cancelled.
func zoneRun(c *cobra.Command, out *output, name, kind string, rate int64) error {
	ctx := c.Context()
	s, err := login(ctx)
	if err != nil {
		return err
	}
	r, err := s.BeginStoreRun(ctx, name, kind, rate)
	if err != nil {
		return err
	}
	w := waiting(fmt.Sprintf("%s %d of store %s", kind, r.ID, name))
	ended, err := s.WaitStoreRun(ctx, r, func(r client.StoreRun) { w.saw(progressOf(r)) })
	w.done(err)
	if ctx.Err() != nil {
		limited, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer stop()
		_, cerr := s.CancelStoreRun(limited, name, r.ID)
		return errors.Join(err, cerr)
	}
	if err != nil {
		return err
	}
	if ended.State != "done" {
		return fmt.Errorf("the %s ended as %s: %s", kind, ended.State, ended.Error)
	}
	damages, err := s.StoreDamages(ctx, name, false)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d bytes read, %d places found, %d damages stand\n", ended.Done, ended.Found, len(damages))
	if err := damageRows(c, out, damages); err != nil || len(damages) == 0 {
		return err
	}
	return errDamaged(len(damages))
}

func damageRows(c *cobra.Command, out *output, damages []client.StoreDamage) error {
	var rows []table.Row
	for _, d := range damages {
		volume := d.VolumeID
		if d.ReplicaOf != "" {
			volume = fmt.Sprintf("replica of %s in %s", d.Source, d.ReplicaOf)
		}
		rows = append(rows, table.Row{volume, d.VolumeName, d.Off, d.Len, d.What, d.State, d.Reason})
	}
	return out.rows(c.OutOrStdout(), damages,
		table.Row{"Volume", "Name", "Offset", "Bytes", "What", "State", "Why not healed"}, rows)
}

func storeDamages(out *output) *cobra.Command {
	var all bool
	c := &cobra.Command{Use: "damages STORE", Short: "List what is damaged in a store of the running zone",
		Args: cobra.ExactArgs(1)}
	c.Flags().BoolVar(&all, "all", false, "also what was healed, or is gone")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		damages, err := s.StoreDamages(ctx, args[0], all)
		if err != nil {
			return err
		}
		return damageRows(c, out, damages)
	})
	return c
}
