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

func drPin(out *output) *cobra.Command {
	var name string
	c := &cobra.Command{Use: "pin ZONE VOLUME-ID POINT", Args: cobra.ExactArgs(3),
		Short: "Keep a recovery point until it is unpinned",
		Long: `Keeps a recovery point of a volume of another zone, whatever its retention is and even if the volume is
deleted. POINT is the point's id, the id or name of a snapshot, or "newest".`}
	c.Flags().StringVar(&name, "name", "", "what for")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		k, err := s.KeepPoint(ctx, args[0], args[1], args[2], client.KeepRequest{Name: &name})
		if err != nil {
			return err
		}
		return showKeep(c, out, k)
	})
	return c
}

func drHold(out *output) *cobra.Command {
	var name, keep, until string
	var lasts time.Duration
	c := &cobra.Command{Use: "hold ZONE VOLUME-ID POINT | --keep ID", Args: cobra.RangeArgs(0, 3),
		Short: "Keep a recovery point until a time; nobody can end that before",
		Long: `Keeps a recovery point until a time. Neither who asked for it nor an administrator can take a hold off or make
it shorter before. With --keep ID a hold is made longer, or a pin becomes a hold.`}
	f := c.Flags()
	f.StringVar(&name, "name", "", "what for")
	f.StringVar(&keep, "keep", "", "the pin or hold to lengthen")
	f.DurationVar(&lasts, "for", 0, "how long from now on, such as 720h")
	f.StringVar(&until, "until", "", "the time at which it ends, as 2026-12-31T00:00:00Z")
	c.MarkFlagsMutuallyExclusive("for", "until")
	c.MarkFlagsOneRequired("for", "until")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		req := client.KeepRequest{Seconds: int64(lasts / time.Second)}
		if until != "" {
			at, err := time.Parse(time.RFC3339, until)
			if err != nil {
				return fmt.Errorf("--until: %w", err)
			}
			req.Until = &at
		}
		if c.Flags().Changed("name") {
			req.Name = &name
		}
		var k client.Keep
		var err error
		switch {
		case keep != "" && len(args) == 0:
			k, err = s.ChangeKeep(ctx, keep, req)
		case keep == "" && len(args) == 3:
			k, err = s.KeepPoint(ctx, args[0], args[1], args[2], req)
		default:
			return fmt.Errorf("a hold needs ZONE, VOLUME-ID and POINT, or --keep alone")
		}
		if err != nil {
			return err
		}
		return showKeep(c, out, k)
	})
	return c
}

func drUnpin() *cobra.Command {
	return &cobra.Command{Use: "unpin ID", Short: "Take a pin off a recovery point", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
			return s.ReleaseKeep(ctx, args[0])
		})}
}

func drKeeps(out *output) *cobra.Command {
	return &cobra.Command{Use: "keeps", Short: "List pins and holds of recovery points", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			all, err := s.Keeps(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, k := range all {
				rows = append(rows, table.Row{k.ID, k.Kind, k.SourceZone, k.VolumeID, k.PointID, untilText(k), k.Name})
			}
			return out.rows(c.OutOrStdout(), all,
				table.Row{"ID", "Kind", "Zone", "Volume", "Point", "Until (UTC)", "Name"}, rows)
		})}
}

func untilText(k client.Keep) string {
	if k.Until == nil {
		return ""
	}
	return k.Until.Format("2006-01-02 15:04:05")
}

func showKeep(c *cobra.Command, out *output, k client.Keep) error {
	return out.one(c.OutOrStdout(), k, [2]any{"id", k.ID}, [2]any{"kind", k.Kind}, [2]any{"name", k.Name},
		[2]any{"zone", k.SourceZone}, [2]any{"volume", k.VolumeID}, [2]any{"point", k.PointID},
		[2]any{"point's time", k.PointAt.Format("2006-01-02 15:04:05.000")}, [2]any{"until", untilText(k)})
}

// keptText says what keeps a point.
func keptText(p client.Point) string {
	var all []string
	for _, k := range p.Keeps {
		if k.Until != nil {
			all = append(all, "held until "+untilText(k))
		} else {
			all = append(all, "pinned")
		}
	}
	return strings.Join(all, ", ")
}
