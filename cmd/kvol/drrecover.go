package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

// drRecover recovers what another zone had in the zone that is logged in to.
func drRecover(out *output) *cobra.Command {
	var r client.Recovery
	var at string
	var wait, apart bool
	c := &cobra.Command{Use: "recover", Args: cobra.NoArgs,
		Short: "Recover volumes, a group, a plan, a project or a zone in this zone",
		Long: `Recovers volumes of another zone in the zone that is logged in to, whatever has become of the other one.
Look before: --dry-run tells what would be lost and what does not fit, and changes nothing.

  kvol dr recover --zone mitaka1 --dry-run
  kvol dr recover --zone mitaka1 --accept-loss --key tonight --wait

With --key it is one recovery however often it is asked for.`}
	f := c.Flags()
	f.StringSliceVar(&r.Scope.Volumes, "volume", nil, "ids of volumes; more than once, or with commas")
	f.StringVar(&r.Scope.Group, "group", "", "id of a group: all of its volumes, as of one instant")
	f.StringVar(&r.Scope.Plan, "plan", "", "id or name of a recovery plan")
	f.StringVar(&r.Scope.Project, "project", "", "id of a project: all of its volumes")
	f.StringVar(&r.Scope.Zone, "zone", "", "the other zone: all of its volumes, or only its ones of the above")
	f.StringVar(&at, "at", "", "as of this time (RFC 3339); the newest point if absent")
	f.StringVar(&r.Point.Name, "point", "", "id of a point, or id or name of a snapshot or group snapshot")
	f.BoolVar(&r.Point.LastClean, "last-clean", false, "the last point before something like sudden encryption")
	f.BoolVar(&apart, "any-instant", false, "volumes of a group need not be of one instant")
	f.StringToStringVar(&r.Mapping.Project, "map-project", nil, "FROM=TO, ids; * for all others")
	f.StringToStringVar(&r.Mapping.Type, "map-type", nil, "FROM=TO, names or ids; * for all others")
	f.StringToStringVar(&r.Mapping.AvailabilityZone, "map-az", nil, "FROM=TO; * for all others")
	f.StringVar(&r.Mapping.Name, "name", "", "name of the new volumes, with {name}, {id} and {zone}")
	f.IntVar(&r.Parallel, "parallel", 0, "volumes that are filled at once")
	f.BoolVar(&r.DryRun, "dry-run", false, "only tell what would happen")
	f.BoolVar(&r.AcceptLoss, "accept-loss", false, "what the points do not have may be lost")
	f.StringSliceVar(&r.AcceptRivals, "accept-rivals", nil,
		"zones that are known to be lost, or not to have recovered it; for administrators")
	f.BoolVar(&r.SkipUnrecoverable, "skip-unrecoverable", false, "leave out volumes that can't be recovered")
	f.BoolVar(&r.OverQuota, "over-quota", false, "beyond quotas, for administrators")
	f.BoolVar(&r.Again, "again", false, "also what was recovered already")
	f.StringVar(&r.IdempotencyKey, "key", "", "idempotency key")
	f.BoolVar(&wait, "wait", false, "follow it to its end")
	c.MarkFlagsOneRequired("volume", "group", "plan", "project", "zone")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
		if at != "" {
			t, err := time.Parse(time.RFC3339Nano, at)
			if err != nil {
				return fmt.Errorf("--at: %w", err)
			}
			r.Point.At = &t
		}
		if apart {
			same := false
			r.Point.SameInstant = &same
		}
		d, forecast, err := s.Recover(ctx, r)
		if err != nil {
			return err
		}
		if r.DryRun {
			return showForecast(c, out, forecast)
		}
		return follow(ctx, c, out, s, d, wait)
	})
	return c
}

func showForecast(c *cobra.Command, out *output, f client.Forecast) error {
	w := c.OutOrStdout()
	if out.format == "json" {
		return out.rows(w, f, nil, nil)
	}
	var rows []table.Row
	for _, v := range f.Volumes {
		point, loss := "", ""
		if v.Point != nil {
			point = v.Point.At.Format("2006-01-02 15:04:05.000")
		}
		if v.Loss != nil {
			loss = lossText(*v.Loss)
		}
		rows = append(rows, table.Row{v.Wave, v.SourceZone, v.Source, v.Name, v.Type, v.SizeGiB, v.Way, point, loss,
			problemText(v.Problems)})
	}
	if err := out.rows(w, f, table.Row{"Wave", "Zone", "Volume", "Name", "Type", "GiB", "Way", "Point (UTC)", "Loses",
		"Problems"}, rows); err != nil {
		return err
	}
	expected := "unknown: " + f.Rests
	if f.ExpectedSeconds != nil {
		expected = fmt.Sprintf("%.1f s: %s", *f.ExpectedSeconds, f.Rests)
	}
	return out.one(w, f, [2]any{"possible", f.Possible}, [2]any{"problems", problemText(f.Problems)},
		[2]any{"at most lost", lossText(f.Loss)}, [2]any{"needs --accept-loss", f.NeedsAcceptLoss},
		[2]any{"expected time", expected})
}

func problemText(all []client.Problem) string {
	var texts []string
	for _, p := range all {
		texts = append(texts, p.Kind+": "+p.Text)
	}
	return strings.Join(texts, " ")
}

func lossText(l client.Loss) string {
	if l.Since == nil {
		return ""
	}
	text := fmt.Sprintf("%.1f s, since %s", l.Seconds, l.Since.Format("15:04:05.000"))
	if l.Later > 0 {
		text += fmt.Sprintf(", %d bytes of newer points", l.Later)
	}
	if l.Unreplicated != nil {
		text += fmt.Sprintf(", %d bytes not sent", *l.Unreplicated)
	}
	return text
}

// follow shows an operation, at its end if wait is set.
func follow(
	ctx context.Context,
	c *cobra.Command,
	out *output,
	s *client.Session,
	d client.Durable,
	wait bool,
) error {
	var failed error
	if wait {
		w := waiting("operation " + d.ID)
		d, failed = s.WaitDurable(ctx, d.ID, func(d client.Durable) { w.saw(progressText(d)) })
		w.done(failed)
		if d.ID == "" {
			return failed
		}
	} else {
		shown, err := s.Durable(ctx, d.ID)
		if err != nil {
			return err
		}
		d = shown
	}
	if err := showOperation(c, out, d); err != nil {
		return err
	}
	return failed
}

// progressText is how far an operation is, in a line.
func progressText(d client.Durable) string {
	ended := 0
	for _, step := range d.Steps {
		if step.EndedAt != nil || step.Status == "skipped" {
			ended++
		}
	}
	text := fmt.Sprintf("%s, %d of %d steps", d.Status, ended, len(d.Steps))
	if d.BytesTotal > 0 {
		text += fmt.Sprintf(", %d %% of %.1f GiB", d.BytesDone*100/d.BytesTotal, float64(d.BytesTotal)/(1<<30))
	}
	if d.ETA != nil {
		text += ", done about " + d.ETA.Local().Format("15:04:05")
	}
	return text
}
