package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drOperation(out *output) *cobra.Command {
	c := &cobra.Command{Use: "operation", Short: "Recoveries and drills that run or ran in the zone"}
	var kind string
	list := &cobra.Command{Use: "list", Short: "List the newest operations", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.Durables(ctx, kind)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, d := range all {
				rows = append(rows, table.Row{d.ID, d.Kind, d.Status, clock(d.CreatedAt), clock(d.ServedAt), clock(d.EndedAt),
					d.Message})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"ID", "Kind", "Status", "Begun (UTC)", "Served", "Ended",
				"Message"}, rows)
		})}
	list.Flags().StringVar(&kind, "kind", "", "only this kind: recover or drill")
	var wait bool
	show := &cobra.Command{Use: "show ID", Short: "Show an operation with its steps", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			return follow(ctx, c, out, s, client.Durable{ID: args[0]}, wait)
		})}
	show.Flags().BoolVar(&wait, "wait", false, "follow it to its end")
	c.AddCommand(
		list,
		show,
		onOperation(
			out,
			"cancel",
			"Begin no further step; steps that began go to their end",
			(*client.Session).CancelDurable,
		),
		onOperation(out, "consent", "Agree to it as a second administrator", (*client.Session).ConsentDurable),
	)
	return c
}

func onOperation(out *output, verb, short string,
	do func(*client.Session, context.Context, string) (client.Durable, error)) *cobra.Command {
	return &cobra.Command{Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			d, err := do(s, ctx, args[0])
			if err != nil {
				return err
			}
			return follow(ctx, c, out, s, d, false)
		})}
}

// waitsForConsent is the status of an operation to which somebody has to agree.
const waitsForConsent = "waiting for consent"

func showOperation(c *cobra.Command, out *output, d client.Durable) error {
	w := c.OutOrStdout()
	if out.format == "json" {
		return out.rows(w, d, nil, nil)
	}
	var rows []table.Row
	for _, step := range d.Steps {
		point, loss := "", ""
		if step.Point != nil {
			point = step.Point.At.Format("15:04:05.000")
		}
		if step.Loss != nil {
			loss = lossText(*step.Loss)
		}
		rows = append(
			rows,
			table.Row{step.Wave, step.Name, step.Status, step.Source, step.NewVolume, point, loss, step.Error},
		)
	}
	if err := out.rows(w, d, table.Row{"Wave", "Step", "Status", "Of", "New volume", "Point (UTC)", "Lost at most",
		"Error"}, rows); err != nil {
		return err
	}
	if d.Status == waitsForConsent {
		fmt.Fprintf(w, "Another administrator has to agree: kvol dr operation consent %s\n", d.ID)
	}
	return out.one(w, d, [2]any{"id", d.ID}, [2]any{"kind", d.Kind}, [2]any{"status", d.Status},
		[2]any{"progress", progressText(d)}, [2]any{"message", d.Message}, [2]any{"cancelable", d.Cancelable},
		[2]any{"consent by", d.ConsentBy}, [2]any{"begun (UTC)", clock(d.CreatedAt)},
		[2]any{"served (UTC)", clock(d.ServedAt)}, [2]any{"ended (UTC)", clock(d.EndedAt)})
}

func clock(t *time.Time) string {
	if t == nil {
		return ""
	}
	return instant(*t)
}
