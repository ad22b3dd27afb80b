package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drLink(out *output) *cobra.Command {
	c := &cobra.Command{Use: "link", Short: "How much may be sent to other zones, and how first copies get on",
		Long: `What a zone sends to another one, in all or under single protections, can be limited
by the hour. It counts at once:

  kvol dr link limit kilo1 --rate 100MiB --copy-rate 20MiB \
      --window "mon-fri 08:00-18:00 10MiB" --time-zone Europe/Berlin
  kvol dr link limit kilo1 --protection 3 --weight 300

Rates are bytes a second on the wire; 0 is no limit. Volumes share what there is by their weights (100 unless
set), and first copies take what the others leave.`}
	c.AddCommand(&cobra.Command{Use: "list", Short: "List the limits of the zone", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.Limits(ctx)
			if err != nil {
				return err
			}
			return out.rows(c.OutOrStdout(), all, limitHeader, limitRows(all))
		})}, drLinkLimit(out), drLinkUnlimit(), drLinkProgress(out),
		drLinkRelays(out))
	return c
}

var limitHeader = table.Row{"Zone", "Protection", "Now", "Rate", "First copies", "Weight", "Hours"}

func limitRows(all []client.Limit) (rows []table.Row) {
	for _, l := range all {
		of := "all"
		if l.Protection != 0 {
			of = strconv.FormatInt(l.Protection, 10)
		}
		var hours []string
		for _, w := range l.Schedule.Windows {
			hours = append(hours, fmt.Sprintf("%s %s-%s %s", strings.Join(w.Days, ","), w.From, w.To, perSecond(w.Rate)))
		}
		if len(hours) > 0 && l.Schedule.TimeZone != "" {
			hours = append(hours, l.Schedule.TimeZone)
		}
		rows = append(rows, table.Row{l.Zone, of, perSecond(l.Now), perSecond(l.Rate), perSecond(l.CopyRate), l.Weight,
			strings.Join(hours, "; ")})
	}
	return rows
}

func perSecond(rate int64) string {
	if rate == 0 {
		return "no limit"
	}
	return size(rate) + "/s"
}

func drLinkLimit(out *output) *cobra.Command {
	var l client.Limit
	var rate, first string
	var windows []string
	c := &cobra.Command{Use: "limit ZONE", Short: "Limit what is sent to a zone", Args: cobra.ExactArgs(1)}
	f := c.Flags()
	f.StringVar(&rate, "rate", "0", "bytes a second, as 500KiB, 20MiB or 1GiB; 0: no limit")
	f.StringVar(&first, "copy-rate", "0", "the same for first copies, which count against --rate too")
	f.IntVar(&l.Weight, "weight", 100, "the share of each volume beside those of other protections")
	f.Int64Var(&l.Protection, "protection", 0, "only what this protection sends; 0: all together")
	f.StringArrayVar(
		&windows,
		"window",
		nil,
		`hours with another rate, as "mon-fri 08:00-18:00 10MiB"; the first that applies`,
	)
	f.StringVar(&l.Schedule.TimeZone, "time-zone", "UTC", "whose clock the hours go by")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) (err error) {
		if l.Rate, err = parseSize(rate); err != nil {
			return err
		}
		if l.CopyRate, err = parseSize(first); err != nil {
			return err
		}
		l.Schedule.Windows = []client.Window{}
		for _, text := range windows {
			w, err := parseWindow(text)
			if err != nil {
				return err
			}
			l.Schedule.Windows = append(l.Schedule.Windows, w)
		}
		l.Zone = args[0]
		set, err := s.SetLimit(ctx, l)
		if err != nil {
			return err
		}
		return out.rows(c.OutOrStdout(), set, limitHeader, limitRows([]client.Limit{set}))
	})
	return c
}

func drLinkUnlimit() *cobra.Command {
	var protection int64
	c := &cobra.Command{Use: "unlimit ZONE", Short: "Take a limit off", Args: cobra.ExactArgs(1)}
	c.Flags().Int64Var(&protection, "protection", 0, "that of this protection; 0: that of all together")
	c.RunE = with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
		return s.DeleteLimit(ctx, args[0], protection)
	})
	return c
}

func drLinkProgress(out *output) *cobra.Command {
	return &cobra.Command{
		Use:   "progress",
		Short: "List first copies, and other transfers that take long",
		Args:  cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.Links(ctx)
			if err != nil {
				return err
			}
			all = slices.DeleteFunc(all, func(l client.Link) bool { return l.Transfer == nil })
			var rows []table.Row
			for _, l := range all {
				kind, eta := "difference", "?"
				if l.Transfer.First {
					kind = "first copy"
				}
				if l.Transfer.ETA != nil {
					eta = l.Transfer.ETA.Format("2006-01-02 15:04:05")
				}
				rows = append(rows, table.Row{l.VolumeID, l.Destination, kind, size(l.Transfer.Done), size(l.Transfer.Total), eta})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"Volume", "Backup zone", "What", "Done", "Of", "Ready (UTC)"}, rows)
		}),
	}
}

func drLinkRelays(out *output) *cobra.Command {
	return &cobra.Command{Use: "relays", Short: "List how far replicas were sent on to third zones", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.Relays(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, r := range all {
				upTo := ""
				if r.ReplicatedUpTo != nil {
					upTo = r.ReplicatedUpTo.Format("2006-01-02 15:04:05.000")
				}
				rows = append(rows, table.Row{r.SourceZone, r.VolumeID, r.Destination, upTo, r.LastError})
			}
			return out.rows(c.OutOrStdout(), all, table.Row{"Of", "Volume", "To", "Replicated up to (UTC)", "Error"}, rows)
		})}
}

// parseSize reads a number of bytes as people write it: 4096, 500KiB, 1.5MiB.
func parseSize(text string) (int64, error) {
	number, unit := strings.TrimSpace(text), 1.0
	for i, suffix := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = strings.TrimSpace(n), math.Pow(1024, float64(i+1))
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f < 0 || f*unit > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is no size: write bytes, or as 500KiB, 20MiB, 1GiB", text)
	}
	return int64(f * unit), nil
}

// parseWindow reads "mon-fri 08:00-18:00 10MiB", with the days left out for all.
func parseWindow(text string) (w client.Window, err error) {
	parts := strings.Fields(text)
	if len(parts) == 3 {
		if w.Days, err = parseDays(parts[0]); err != nil {
			return w, err
		}
		parts = parts[1:]
	}
	hours := [2]string{}
	ok := len(parts) == 2
	if ok {
		hours[0], hours[1], ok = strings.Cut(parts[0], "-")
	}
	if !ok {
		return w, fmt.Errorf("%q is no window: write it as \"mon-fri 08:00-18:00 10MiB\"", text)
	}
	w.From, w.To = hours[0], hours[1]
	w.Rate, err = parseSize(parts[1])
	return w, err
}

// parseDays reads mon-fri, or sat,sun.
func parseDays(text string) (days []string, err error) {
	week := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	for part := range strings.SplitSeq(strings.ToLower(text), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		i, j := slices.Index(week, from), slices.Index(week, to)
		if i < 0 || j < 0 {
			return nil, fmt.Errorf("%q is no day: mon, tue, wed, thu, fri, sat, sun", part)
		}
		for ; i%7 != j; i++ {
			days = append(days, week[i%7])
		}
		days = append(days, week[j])
	}
	return days, nil
}
