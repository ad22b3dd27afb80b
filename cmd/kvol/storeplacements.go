package main

import (
	"context"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func storePlacements(out *output) *cobra.Command {
	return &cobra.Command{Use: "placements [VOLUME-ID]", Args: cobra.MaximumNArgs(1),
		Short: "List volumes for which no backend was found, or another one than at first, and why",
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			all, err := s.Placements(ctx, strings.Join(args, ""))
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, p := range all {
				at := p.At.UTC().Format("2006-01-02 15:04:05")
				rows = append(rows, table.Row{at, p.Volume, p.What, p.Size, p.Type, p.Failed, p.Backend, whyNot(p)})
			}
			return out.rows(c.OutOrStdout(), all,
				table.Row{"At", "Volume", "For", "GiB", "Type", "Failed on", "Backend", "Why"}, rows)
		})}
}

// whyNot has a line for each backend that was not chosen.
func whyNot(p client.Placement) string {
	var lines []string
	if p.Failed != "" {
		lines = append(lines, p.Failed+": "+p.Error)
	}
	for _, r := range p.Refused {
		lines = append(lines, r.Backend+": "+r.Filter+": "+r.Reason)
	}
	return strings.Join(lines, "\n")
}
