package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"kvol/internal/client"
)

// errIll makes the exit status tell of findings that are not mended.
type errIll int

func (n errIll) Error() string {
	if n == 1 {
		return "one thing is not as it should be"
	}
	return fmt.Sprintf("%d things are not as they should be", int(n))
}

func drDoctor(out *output) *cobra.Command {
	var fix, last bool
	c := &cobra.Command{Use: "doctor", Args: cobra.NoArgs,
		Short: "Look for what is not as it should be in this zone, say what to do, and mend it if asked to",
		Long: `Looks for damage that reading the replicas again has shown, at this end or in the volume's own zone, for
replicas that were not read for too long, for volumes that nothing replicates, pairs without recent points, zones that
are silent, clocks that are apart, stale primaries, replicas of no protection, and for what is left over in catalog and
stores: pins, cuts and links that no pair needs, snapshots and volumes that nobody knows, copies that a move
left behind.

With --fix it mends what can be mended without losing anything that anybody wrote (administrators). The exit status is 1
if something is left that is not mended.`}
	c.Flags().BoolVar(&last, "last", false, "only show what it found when it last looked by itself")
	c.Flags().BoolVar(&fix, "fix", false, "mend what can be mended")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
		before, err := s.LastVisit(ctx)
		if err != nil && (last || !client.IsStatus(err, http.StatusNotFound)) {
			return err
		}
		d := before
		if !last {
			if d, err = s.Doctor(ctx, fix); err != nil {
				return err
			}
		}
		if out.format == "table" {
			if !before.AsOf.IsZero() {
				fmt.Fprintf(c.OutOrStdout(), "It last looked by itself at %s (UTC), and found %d.\n\n",
					before.AsOf.UTC().Format("2006-01-02 15:04:05"), len(before.Findings)+before.LeftOut)
			}
			tellFindings(c.OutOrStdout(), d, fix)
		} else if err := out.rows(c.OutOrStdout(), d, nil, nil); err != nil {
			return err
		}
		left := d.LeftOut
		for _, f := range d.Findings {
			if !f.Mended {
				left++
			}
		}
		if left > 0 {
			return errIll(left)
		}
		return nil
	})
	return c
}

// tellFindings prints sentences; a table would be too wide for them.
func tellFindings(w io.Writer, d client.Doctor, fixed bool) {
	if len(d.Findings) == 0 {
		fmt.Fprintln(w, "All is as it should be.")
	}
	mends := 0
	for _, f := range d.Findings {
		fmt.Fprintf(w, "%-18s %s\n", f.Kind, f.Text)
		switch {
		case f.Mended:
			fmt.Fprintf(w, "%-18s Mended: %s\n", "", f.Mends)
		default:
			fmt.Fprintf(w, "%-18s %s\n", "", f.Advice)
			if f.Mends != "" {
				mends++
				fmt.Fprintf(w, "%-18s With --fix: %s\n", "", f.Mends)
			}
		}
		fmt.Fprintln(w)
	}
	if d.LeftOut > 0 {
		fmt.Fprintf(w, "%d more are not shown.\n", d.LeftOut)
	}
	if mends > 0 && !fixed {
		fmt.Fprintf(w, "kvol dr doctor --fix mends %d of them.\n", mends)
	}
}
