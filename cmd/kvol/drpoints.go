package main

import (
	"context"
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drPoints(out *output) *cobra.Command {
	return &cobra.Command{
		Use:   "points ZONE VOLUME-ID",
		Short: "List the recovery points of a replica",
		Args:  cobra.ExactArgs(2),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			replicas, err := s.ReplicasOf(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, r := range replicas {
				for _, p := range r.Points {
					changed, ratio := changeText(p)
					rows = append(rows, table.Row{r.Backend, p.ID, p.At.Format("2006-01-02 15:04:05.000"), p.Name, keptText(p),
						changed, ratio, cleanText(r, p), p.Root})
				}
			}
			return out.rows(c.OutOrStdout(), replicas, table.Row{"Backend", "Point", "At (UTC)", "Snapshot", "Kept", "Changed",
				"Compressed to", "Looks", "Root hash"}, rows)
		}),
	}
}

// changeText says how much a point changed, and to how much of it that could be
// compressed.
func changeText(p client.Point) (changed, ratio string) {
	if p.Stats == nil {
		return "", ""
	}
	changed = fmt.Sprintf("%.1f MiB", float64(p.Stats.Changed)/(1<<20))
	if p.Stats.Changed > 0 {
		ratio = fmt.Sprintf("%.0f %%", 100*p.Stats.Ratio)
	}
	return changed, ratio
}

// cleanText marks the last clean point and those after it.
func cleanText(r client.Replica, p client.Point) string {
	switch {
	case p.Damaged != "":
		return "damaged"
	case r.Suspicion == nil:
		return ""
	case p.ID == r.Suspicion.LastClean:
		return "last clean"
	case !p.At.Before(r.Suspicion.Since):
		return "encrypted?"
	}
	return ""
}

func drDismiss() *cobra.Command {
	return &cobra.Command{Use: "dismiss ZONE VOLUME-ID", Args: cobra.ExactArgs(2),
		Short: "Say that a volume which looks as if it had been encrypted is as it should be",
		RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
			return s.Dismiss(ctx, args[0], args[1])
		})}
}
