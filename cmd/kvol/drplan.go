package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

// maxPlanFile is how long a file with a plan may be, in bytes.
const maxPlanFile = 1 << 20

func drPlan(out *output) *cobra.Command {
	c := &cobra.Command{Use: "plan", Short: "Recovery plans: waves, waits and hooks"}
	c.AddCommand(&cobra.Command{Use: "list", Short: "List recovery plans", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.Plans(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, p := range all {
				rows = append(rows, table.Row{p.ID, p.Name, p.Project, len(p.Waves), p.Description})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"ID", "Name", "Project", "Waves", "Description"}, rows)
		})}, &cobra.Command{Use: "show PLAN", Short: "Show a recovery plan, by its id or name", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			p, err := s.Plan(ctx, args[0])
			if err != nil {
				return err
			}
			return showPlan(c, out, p)
		})}, &cobra.Command{Use: "create FILE", Args: cobra.ExactArgs(1),
		Short: "Make a recovery plan of a file in JSON (- for standard input)",
		Long: `Makes a recovery plan, to be kept in the zone in which it will be needed. The file is like

  {"name": "shop", "waves": [
    {"name": "databases", "scope": {"volumes": ["ID"]}, "after": "start-database"},
    {"name": "the rest", "scope": {"project": "ID"}, "wait_seconds": 30}]}`,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			p, err := readPlan(c.InOrStdin(), args[0])
			if err == nil {
				p, err = s.CreatePlan(ctx, p)
			}
			if err != nil {
				return err
			}
			return showPlan(c, out, p)
		})}, &cobra.Command{Use: "update PLAN FILE", Args: cobra.ExactArgs(2),
		Short: "Put the plan of a file into the place of one (- for standard input)",
		Long: `Puts the plan of a file, as kvol dr plan show -o json prints it and kvol dr plan create takes it, into the
place of the plan with this id or name. Recoveries that were begun or wait for consent keep what the plan was.`,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			p, err := readPlan(c.InOrStdin(), args[1])
			if err == nil {
				p, err = s.UpdatePlan(ctx, args[0], p)
			}
			if err != nil {
				return err
			}
			return showPlan(c, out, p)
		})}, &cobra.Command{Use: "delete PLAN", Short: "Forget a recovery plan", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
			return s.DeletePlan(ctx, args[0])
		})})
	return c
}

func readPlan(in io.Reader, file string) (p client.RecoveryPlan, err error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return p, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxPlanFile))
	if err != nil {
		return p, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

func showPlan(c *cobra.Command, out *output, p client.RecoveryPlan) error {
	if out.format == "json" {
		return out.rows(c.OutOrStdout(), p, nil, nil)
	}
	var rows []table.Row
	for i, w := range p.Waves {
		scope, err := json.Marshal(w.Scope)
		if err != nil {
			return err
		}
		rows = append(rows, table.Row{i + 1, w.Name, string(scope), w.WaitSeconds, w.Before, w.After, w.GoOn})
	}
	if err := out.one(c.OutOrStdout(), p, [2]any{"id", p.ID}, [2]any{"name", p.Name}, [2]any{"project", p.Project},
		[2]any{"description", p.Description}); err != nil {
		return err
	}
	return out.rows(c.OutOrStdout(), p, table.Row{"Wave", "Name", "Scope", "Waits (s)", "Before", "After",
		"Goes on after a failure"}, rows)
}
