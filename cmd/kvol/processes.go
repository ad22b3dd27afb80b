package main

import (
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

func processesCommand(out *output) *cobra.Command {
	return &cobra.Command{
		Use: "processes", Short: "List the processes that serve a zone together",
		Long: `Lists the processes that serve the zone together (for administrators): where each
runs, whether it lives, and what it does for all. The one with the duty "lead" has
the stores open and serves exports and replication. Nothing is listed where one
process serves the zone.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := login(c.Context())
			if err != nil {
				return err
			}
			all, err := s.Processes(c.Context())
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, p := range all {
				rows = append(rows, table.Row{p.Name, p.State, strings.Join(p.Duties, " "), p.Host, p.PID, p.URL,
					p.Started.Format(time.RFC3339), p.Seen.Format(time.RFC3339)})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"Process", "State", "Duties", "Host", "PID", "URL", "Started",
				"Seen"}, rows)
		},
	}
}
