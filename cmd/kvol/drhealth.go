package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drHealth(out *output) *cobra.Command {
	return &cobra.Command{Use: "health [VOLUME-ID]", Args: cobra.MaximumNArgs(1),
		Short: "Show how far each volume's replicas are behind, now and over the last day, the worst first",
		Long: `Shows what this zone knows for itself, as the source of its own volumes and as the target of other zones' ones:
how old the newest whole point is, the median, the 99th percentile and the worst of the last hour, how much of the
budget of time above the target is used up, and how long a recovery would take. With a volume: all of it.`,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			h, err := s.DRHealth(ctx)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return showVolumeHealth(c, out, h, args[0])
			}
			var rows []table.Row
			for _, v := range h.Volumes {
				rows = append(rows, table.Row{v.VolumeID, v.Name, direction(v.Role, v.SourceZone, v.Destination), v.State,
					behind(v), stretch(v.RPO.Hour.Median), stretch(v.RPO.Hour.P99), stretch(v.RPO.Hour.Worst),
					stretch(v.RPO.Target), share(v.SLO.Used), lacks(v.Unreplicated), transport(v)})
			}
			if err := out.rows(c.OutOrStdout(), h, table.Row{"Volume", "Name", "Replicated", "State", "Behind", "Median 1h",
				"p99 1h", "Worst 1h", "Target", "Budget used", "Lacking", "By"}, rows); err != nil || out.format != "table" {
				return err
			}
			advise(c.OutOrStdout(), h)
			return nil
		})}
}

// direction says from where to where, with the end that tells in the first
// place.
func direction(role, source, destination string) string {
	if role == "target" {
		return "here from " + source
	}
	if destination == "" {
		return "nowhere"
	}
	return "to " + destination
}

// transport is how a volume's bytes go, with how those of the newest point went if
// that was another way.
func transport(v client.VolumeHealth) string {
	if v.PointTransport == "" || v.PointTransport == v.Transport {
		return v.Transport
	}
	return fmt.Sprintf("%s (last by %s)", v.Transport, v.PointTransport)
}

func behind(v client.VolumeHealth) string {
	if v.ReplicatedUpTo == nil {
		return "no point"
	}
	return stretch(v.RPO.Now)
}

func lacks(bytes *int64) string {
	if bytes == nil {
		return ""
	}
	return size(*bytes)
}

// advise prints what to do, each sentence once, with the volumes that it is for.
func advise(w io.Writer, h client.DRHealth) {
	var order []string
	about := map[string][]string{}
	add := func(advice, subject string) {
		if advice == "" {
			return
		}
		if about[advice] == nil {
			order = append(order, advice)
		}
		about[advice] = append(about[advice], subject)
	}
	for _, p := range h.Pairs {
		add(p.Advice, fmt.Sprintf("%s to %s (%s)", p.SourceZone, p.Destination, p.State))
	}
	for _, v := range h.Volumes {
		add(v.Advice, fmt.Sprintf("%s (%s)", v.VolumeID, v.Reason))
	}
	for _, advice := range order {
		const most = 3
		subjects := about[advice]
		if n := len(subjects) - most; n > 0 {
			subjects = append(subjects[:most:most], fmt.Sprintf("and %d more", n))
		}
		fmt.Fprintf(w, "\n%s\n  %s\n", advice, strings.Join(subjects, "\n  "))
	}
}

func showVolumeHealth(c *cobra.Command, out *output, h client.DRHealth, id string) error {
	found := slices.DeleteFunc(h.Volumes, func(v client.VolumeHealth) bool { return v.VolumeID != id })
	if len(found) == 0 {
		return fmt.Errorf("this zone replicates no volume %s, and has no replica of one", id)
	}
	var rows []table.Row
	for i, v := range found {
		if i > 0 {
			rows = append(rows, table.Row{"", ""})
		}
		rows = append(rows, volumeHealthRows(v)...)
	}
	return out.rows(c.OutOrStdout(), found, table.Row{"Field", "Value"}, rows)
}

func volumeHealthRows(v client.VolumeHealth) []table.Row {
	rows := []table.Row{{"volume", v.VolumeID}, {"name", v.Name},
		{"replicated", direction(v.Role, v.SourceZone, v.Destination)}, {"by", transport(v)},
		{"state", v.State}, {"why", v.Reason}, {"what to do", v.Advice}}
	if v.ReplicatedUpTo != nil {
		rows = append(rows, table.Row{"replicated up to", v.ReplicatedUpTo.UTC().Format("2006-01-02 15:04:05.000") + " UTC"})
	}
	if v.Point != nil {
		rows = append(rows, table.Row{"newest point", v.Point.ID}, table.Row{"its root hash", v.Point.Root})
	}
	rows = append(
		rows,
		table.Row{"behind", behind(v) + ", where " + stretch(v.RPO.Target) + " is allowed"},
		table.Row{"last hour", window(v.RPO.Hour)},
		table.Row{"last day", window(v.RPO.Day)},
		table.Row{"budget used of 30 days", share(v.SLO.Used)},
		table.Row{
			"used up faster than allowed",
			fmt.Sprintf("%.1f times (1h), %.1f times (24h)", v.SLO.Burn1h, v.SLO.Burn24h),
		},
	)
	if v.Unreplicated != nil {
		rows = append(rows, table.Row{"not replicated yet", size(*v.Unreplicated)})
	}
	if f := v.Forecast; f.Known {
		text := fmt.Sprintf("%s/s change, the link carries %s/s", size(int64(f.Churn)), size(int64(f.Throughput)))
		if !f.Holds && f.BreachIn != nil {
			text += "; the target will be missed in " + stretch(*f.BreachIn)
		}
		rows = append(rows, table.Row{"forecast", text})
	}
	if v.RTO != nil {
		text := v.RTO.RestsOn
		if v.RTO.Measured > 0 {
			text = fmt.Sprintf("%s, nine of ten within %s. %s", stretch(v.RTO.Expected), stretch(v.RTO.Worst), text)
		}
		what := "a recovery would take"
		if v.RTO.Way == "switch" {
			what = "a failover would take"
		}
		rows = append(rows, table.Row{what, text})
	}
	if v.LastError != "" {
		rows = append(rows, table.Row{"last error", v.LastError})
	}
	return rows
}

func window(w client.DRWindow) string {
	if w.Known == 0 {
		return "not measured yet"
	}
	return fmt.Sprintf("median %s, p99 %s, worst %s, above the target for %s", stretch(w.Median), stretch(w.P99),
		stretch(w.Worst), stretch(w.Breach))
}

func drEvents(out *output) *cobra.Command {
	var limit int
	c := &cobra.Command{Use: "events", Short: "List what changed in the health of replication, the newest first",
		Args: cobra.NoArgs}
	c.Flags().IntVar(&limit, "limit", 20, "the newest so many")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
		all, err := s.DREvents(ctx, limit)
		if err != nil {
			return err
		}
		var rows []table.Row
		for _, e := range all {
			what := e.Kind
			if e.VolumeID != "" {
				what = e.VolumeID
			}
			change := e.To
			if e.From != "" {
				change = e.From + " -> " + e.To
			}
			rows = append(rows, table.Row{e.At.UTC().Format("2006-01-02 15:04:05"), what, e.Peer, change, e.Text})
		}
		return out.rows(c.OutOrStdout(), all, table.Row{"At (UTC)", "What", "Other zone", "State", "Text"}, rows)
	})
	return c
}

func drRTOs(out *output) *cobra.Command {
	return &cobra.Command{
		Use:   "rtos",
		Short: "List how long recoveries, drills and planned failovers took",
		Args:  cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.RTOs(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, r := range all {
				rows = append(rows, table.Row{r.At.UTC().Format("2006-01-02 15:04:05"), r.Kind, r.Subject, r.Way, size(r.Bytes),
					stretch(r.Seconds)})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"Ended (UTC)", "Kind", "Of", "Way", "Size", "Took"}, rows)
		}),
	}
}

// counts says how many volumes are in which state.
func counts(volumes map[string]int) string {
	var all []string
	for _, state := range slices.Sorted(maps.Keys(volumes)) {
		all = append(all, fmt.Sprintf("%d %s", volumes[state], state))
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}
