package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drProtections(out *output) *cobra.Command {
	return &cobra.Command{Use: "protections", Args: cobra.NoArgs,
		Short: "List which types are replicated where, how often and by what, for administrators",
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.Protections(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, p := range all {
				status := p.Status
				if !p.Enabled {
					status += ", disabled"
				}
				rows = append(rows, table.Row{p.Seq, p.SourceZone, p.SourceType, p.Destination, p.BackupBackend,
					stretch(p.Interval), stretch(p.Target), p.Transport, status})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"Seq", "From", "Type", "To", "Backup backend", "Interval",
				"Target", "By", "Status"}, rows)
		})}
}
