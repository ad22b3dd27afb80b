package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drStale(out *output) *cobra.Command {
	return &cobra.Command{Use: "stale", Args: cobra.NoArgs,
		Short: "List the zone's volumes that were recovered elsewhere, and what only they have",
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.Stale(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, v := range all {
				until := ""
				if v.KeptUntil != nil {
					until = v.KeptUntil.Format("2006-01-02 15:04:05")
				}
				rows = append(rows, table.Row{v.VolumeID, v.Zone, v.NewVolume, v.State, v.DivergedBytes, len(v.Ranges), until})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"Volume", "Lives in", "As volume", "State", "Diverged bytes",
				"Ranges", "Undo kept until (UTC)"}, rows)
		})}
}
