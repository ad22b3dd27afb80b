package main

import (
	"context"
	"encoding/json"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drillSchedule(out *output) *cobra.Command {
	c := &cobra.Command{Use: "schedule", Short: "Have drills begin by themselves"}
	c.AddCommand(&cobra.Command{Use: "list", Short: "List schedules of drills", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.DrillSchedules(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, d := range all {
				rows = append(rows, table.Row{d.ID, d.Name, d.When, d.Enabled, clock(d.NextAt), clock(d.LastAt), d.LastOutcome,
					d.Skipped})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"ID", "Name", "When", "Enabled", "Next (UTC)", "Last",
				"Last outcome", "Skipped"}, rows)
		})}, &cobra.Command{Use: "show SCHEDULE", Short: "Show a schedule, by its id or name", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			d, err := s.DrillSchedule(ctx, args[0])
			if err != nil {
				return err
			}
			return showSchedule(c, out, d)
		})}, drillScheduleCreate(out),
		enableSchedule(out, "enable", "Have a schedule's drills begin again", true),
		enableSchedule(out, "disable", "Have no further drill of a schedule begin", false),
		&cobra.Command{Use: "delete SCHEDULE", Short: "Forget a schedule; its reports stay", Args: cobra.ExactArgs(1),
			RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
				return s.DeleteDrillSchedule(ctx, args[0])
			})})
	return c
}

func drillScheduleCreate(out *output) *cobra.Command {
	var f drillFlags
	d := client.DrillSchedule{Enabled: true}
	c := &cobra.Command{Use: "create NAME", Short: "Make a schedule of drills", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) (err error) {
			if d.Request, err = f.drill(); err != nil {
				return err
			}
			d.Name = args[0]
			made, err := s.CreateDrillSchedule(ctx, d)
			if err != nil {
				return err
			}
			return showSchedule(c, out, made)
		})}
	f.add(c)
	c.Flags().StringVar(&d.When, "when", "every 24h",
		"\"every DURATION\", or minute, hour, day of the month, month and day of the week as cron has them, in UTC")
	return c
}

func enableSchedule(out *output, verb, short string, enabled bool) *cobra.Command {
	return &cobra.Command{Use: verb + " SCHEDULE", Short: short, Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			d, err := s.DrillSchedule(ctx, args[0])
			if err == nil {
				d.Enabled = enabled
				d, err = s.UpdateDrillSchedule(ctx, d.ID, d)
			}
			if err != nil {
				return err
			}
			return showSchedule(c, out, d)
		})}
}

func showSchedule(c *cobra.Command, out *output, d client.DrillSchedule) error {
	request, err := json.Marshal(d.Request)
	if err != nil {
		return err
	}
	return out.one(c.OutOrStdout(), d, [2]any{"id", d.ID}, [2]any{"name", d.Name}, [2]any{"project", d.Project},
		[2]any{"when", d.When}, [2]any{"enabled", d.Enabled}, [2]any{"drill", string(request)},
		[2]any{"next (UTC)", clock(d.NextAt)}, [2]any{"last (UTC)", clock(d.LastAt)}, [2]any{"last drill", d.LastDrill},
		[2]any{"last outcome", d.LastOutcome}, [2]any{"skipped", d.Skipped})
}
