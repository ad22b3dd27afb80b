package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drStatus(out *output) *cobra.Command {
	return &cobra.Command{Use: "status [FAILOVER-ID]", Args: cobra.MaximumNArgs(1),
		Short: "Show how the zone's pairs stand and what is being moved, or one planned failover",
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			if len(args) == 1 {
				f, err := s.FailoverByID(ctx, args[0])
				if err != nil {
					return err
				}
				return showFailover(c, out, f)
			}
			h, err := s.DRHealth(ctx)
			if err != nil {
				return err
			}
			moves, err := s.Failovers(ctx)
			if err != nil {
				return err
			}
			return showStatus(c, out, h, moves)
		})}
}

// showStatus prints pairs, or for who sees none their volumes by state, and the
// planned failovers.
func showStatus(c *cobra.Command, out *output, h client.DRHealth, moves []client.Failover) error {
	w := c.OutOrStdout()
	if out.format != "table" {
		return out.rows(w, map[string]any{"as_of": h.AsOf, "pairs": h.Pairs, "volumes": h.Volumes, "failovers": moves},
			nil, nil)
	}
	var rows []table.Row
	for _, p := range h.Pairs {
		rows = append(rows, table.Row{p.Protection, p.SourceZone, p.Destination, p.State, stretch(p.RPO.Now),
			stretch(p.RPO.Hour.Worst), stretch(p.Target), size(p.Unreplicated), linkUse(p), room(p), pairTransport(p),
			counts(p.Volumes)})
	}
	if len(rows) > 0 {
		if err := out.rows(w, nil, table.Row{"Seq", "From", "To", "State", "Behind", "Worst 1h", "Target", "Lacking",
			"Link used", "Room there", "By", "Volumes"}, rows); err != nil {
			return err
		}
	} else {
		states := map[string]int{}
		for _, v := range h.Volumes {
			states[v.State]++
		}
		fmt.Fprintf(w, "Volumes: %s\n", counts(states))
	}
	if len(moves) > 0 {
		fmt.Fprintln(w, "\nPlanned failovers:")
		rows = nil
		for _, f := range moves {
			rows = append(rows, table.Row{f.ID, f.VolumeID, f.Destination, f.NewVolume, f.Phase, f.Error,
				f.CreatedAt.Format("2006-01-02 15:04:05")})
		}
		if err := out.rows(w, nil, table.Row{"ID", "Volume", "To", "New volume", "Phase", "Why it went back",
			"Begun (UTC)"}, rows); err != nil {
			return err
		}
	}
	advise(w, client.DRHealth{Pairs: h.Pairs})
	return nil
}

func linkUse(p client.PairHealth) string {
	if p.Role == "target" {
		return ""
	}
	return share(p.Busy)
}

// pairTransport is how a pair's bytes are to go, with how many volumes' go another way.
func pairTransport(p client.PairHealth) string {
	text := p.Transport
	for _, by := range slices.Sorted(maps.Keys(p.By)) {
		if by != p.Transport {
			text += fmt.Sprintf(", %d by %s", p.By[by], by)
		}
	}
	return text
}

func room(p client.PairHealth) string {
	switch {
	case p.Room == nil:
		return "not known"
	case p.Room.FullIn != nil:
		return size(p.Room.Free) + ", full in " + stretch(*p.Room.FullIn)
	}
	return size(p.Room.Free)
}
