package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drDrill(out *output) *cobra.Command {
	c := &cobra.Command{Use: "drill", Short: "Rehearse recoveries on isolated clones",
		Long: `A drill recovers volumes of another zone in the zone that is logged in to, as isolated clones of their points,
looks at these with probes, deletes them, and keeps a report. Replication goes on, and nothing is copied again.

  kvol dr drill start --zone mitaka1 --probe verify --probe fsck --wait
  kvol dr drill schedule create nightly --when "30 3 * * *" --plan shop --probe verify
  kvol dr drill report ID --page report.html`}
	c.AddCommand(drillStart(out), drillList(out), drillShow(out), drillReport(out),
		onOperation(out, "cancel", "End a drill; its clones are deleted", (*client.Session).CancelDrill),
		drillSchedule(out))
	return c
}

// drillFlags are the flags of what a drill is to do.
type drillFlags struct {
	d      client.Drill
	at     string
	probes []string
	apart  bool
}

func (f *drillFlags) add(c *cobra.Command) {
	to := c.Flags()
	to.StringSliceVar(&f.d.Scope.Volumes, "volume", nil, "ids of volumes; more than once, or with commas")
	to.StringVar(&f.d.Scope.Group, "group", "", "id of a group: all of its volumes, as of one instant")
	to.StringVar(&f.d.Scope.Plan, "plan", "", "id or name of a recovery plan")
	to.StringVar(&f.d.Scope.Project, "project", "", "id of a project: all of its volumes")
	to.StringVar(&f.d.Scope.Zone, "zone", "", "the other zone: all of its volumes, or only its ones of the above")
	to.StringVar(&f.at, "at", "", "as of this time (RFC 3339); the newest point if absent")
	to.StringVar(&f.d.Point.Name, "point", "", "id of a point, or id or name of a snapshot or group snapshot")
	to.BoolVar(&f.apart, "any-instant", false, "volumes of a group need not be of one instant")
	to.StringToStringVar(&f.d.Mapping.Type, "map-type", nil, "FROM=TO, names or ids; * for all others")
	to.IntVar(&f.d.Parallel, "parallel", 0, "clones that are filled at once")
	to.StringArrayVar(&f.probes, "probe", nil,
		"verify, fsck, command:NAME or http:NAME, with @SECONDS for a time-out; more than once; verify if absent")
	to.IntVar(&f.d.WatchSeconds, "watch", 0, "seconds for which replication is watched before and after; 6 if absent")
	to.IntVar(&f.d.TimeoutSeconds, "timeout", 0, "seconds after which it is cleaned up; an hour if absent")
	to.BoolVar(
		&f.d.OverQuota,
		"over-quota",
		false,
		"quotas that a recovery would exceed are no failure, for administrators",
	)
	c.MarkFlagsOneRequired("volume", "group", "plan", "project", "zone")
}

// drill is what the flags say.
func (f *drillFlags) drill() (client.Drill, error) {
	d := f.d
	if f.at != "" {
		t, err := time.Parse(time.RFC3339Nano, f.at)
		if err != nil {
			return d, fmt.Errorf("--at: %w", err)
		}
		d.Point.At = &t
	}
	if f.apart {
		same := false
		d.Point.SameInstant = &same
	}
	for _, text := range f.probes {
		what, limit, timed := strings.Cut(text, "@")
		p := client.DrillProbe{}
		p.Kind, p.Name, _ = strings.Cut(what, ":")
		if timed {
			if _, err := fmt.Sscan(limit, &p.TimeoutSeconds); err != nil {
				return d, fmt.Errorf("--probe %s: %q are no seconds", text, limit)
			}
		}
		d.Probes = append(d.Probes, p)
	}
	return d, nil
}

func drillStart(out *output) *cobra.Command {
	var f drillFlags
	var wait bool
	c := &cobra.Command{Use: "start", Short: "Begin a drill", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			d, err := f.drill()
			if err != nil {
				return err
			}
			op, err := s.StartDrill(ctx, d)
			if err != nil {
				return err
			}
			return followDrill(ctx, c, out, s, op.ID, wait)
		})}
	f.add(c)
	c.Flags().StringVar(&f.d.IdempotencyKey, "key", "", "idempotency key")
	c.Flags().BoolVar(&wait, "wait", false, "follow it to its end, and show its report; fails if it did not pass")
	return c
}

// followDrill shows a drill, and with wait its report.
func followDrill(ctx context.Context, c *cobra.Command, out *output, s *client.Session, id string, wait bool) error {
	if !wait {
		d, err := s.Durable(ctx, id)
		if err != nil {
			return err
		}
		return showOperation(c, out, d)
	}
	w := waiting("drill " + id)
	d, failed := s.WaitDurable(ctx, id, func(d client.Durable) { w.saw(progressText(d)) })
	w.done(failed)
	if !d.Ended() {
		return failed
	}
	r, err := s.DrillReport(ctx, id)
	if err == nil {
		err = showReport(c, out, r)
	}
	if err != nil {
		return err
	}
	return failed
}

func drillList(out *output) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the newest drills", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.Durables(ctx, "drill")
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, d := range all {
				rows = append(rows, table.Row{d.ID, d.Status, clock(d.CreatedAt), clock(d.ServedAt), clock(d.EndedAt), d.Message})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"ID", "Status", "Begun (UTC)", "Served", "Ended", "Message"}, rows)
		})}
}

func drillShow(out *output) *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: "show ID", Short: "Show a drill with its steps", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			return followDrill(ctx, c, out, s, args[0], wait)
		})}
	c.Flags().BoolVar(&wait, "wait", false, "follow it to its end, and show its report")
	return c
}

func drillReport(out *output) *cobra.Command {
	var page, file string
	c := &cobra.Command{Use: "report ID", Short: "Show the report of a drill that ended", Args: cobra.ExactArgs(1),
		Long: "Shows the report of a drill that ended. --page and --json write it to a file as a page to read and as JSON.",
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			for path, html := range map[string]bool{page: true, file: false} {
				if path == "" {
					continue
				}
				text, err := s.DrillReportText(ctx, args[0], html)
				if err == nil {
					err = os.WriteFile(path, text, 0o600)
				}
				if err != nil {
					return err
				}
			}
			if page != "" || file != "" {
				return nil
			}
			r, err := s.DrillReport(ctx, args[0])
			if err != nil {
				return err
			}
			return showReport(c, out, r)
		})}
	c.Flags().StringVar(&page, "page", "", "write a page of HTML to this file")
	c.Flags().StringVar(&file, "json", "", "write all of it as JSON to this file")
	return c
}

// showReport shows what a drill came to.
func showReport(c *cobra.Command, out *output, r client.DrillReport) error {
	w := c.OutOrStdout()
	if out.format == "json" {
		return out.rows(w, r, nil, nil)
	}
	var rows []table.Row
	for _, v := range r.Volumes {
		rows = append(rows, table.Row{v.Wave, v.Source, v.Name, v.Status, clock(v.At), seconds(&v.Age), v.Way,
			seconds(v.Served), findings(v.Probes) + v.Error})
	}
	if err := out.rows(w, r, table.Row{"Wave", "Volume", "Name", "Status", "Point (UTC)", "Age", "Way", "Served after",
		"Found"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, p := range r.Pairs {
		for _, span := range []struct {
			name string
			f    client.DrillFigures
		}{{"before", p.Before}, {"during", p.During}, {"after", p.After}} {
			f := span.f
			rows = append(rows, table.Row{p.SourceZone, p.Protection, span.name, seconds(&f.Seconds), seconds(&f.Median),
				seconds(&f.P99), seconds(&f.Worst)})
		}
	}
	err := out.rows(w, r, table.Row{"From", "Protection", "When", "For", "RPO median", "p99", "Worst"}, rows)
	if err != nil {
		return err
	}
	apart := "one instant"
	if !r.OneInstant {
		apart = seconds(&r.Spread)
	}
	return out.one(
		w,
		r,
		[2]any{"id", r.ID},
		[2]any{"verdict", r.Verdict},
		[2]any{"reasons", strings.Join(r.Reasons, " ")},
		[2]any{"notes", strings.Join(r.Notes, " ")},
		[2]any{"served after (RTO)", seconds(r.RTO)},
		[2]any{"points apart", apart},
		[2]any{"probes of all", findings(r.Probes)},
		[2]any{"sent again by replication", fmt.Sprintf("%d bytes", r.CopiedAgain)},
		[2]any{"copied in the zone", fmt.Sprintf("%d bytes", r.Copied)},
		[2]any{"clones made, left", fmt.Sprintf("%d, %d", r.ClonesMade, r.ClonesLeft)},
	)
}

func findings(all []client.DrillFinding) string {
	var texts []string
	for _, p := range all {
		texts = append(texts, strings.TrimSpace(p.Kind+" "+p.Name)+": "+p.Status)
	}
	return strings.Join(texts, ", ")
}

func seconds(s *float64) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%.3f s", *s)
}
