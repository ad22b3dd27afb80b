package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"kvol/internal/client"
)

// drFailover is a planned failover, or back the way back.
func drFailover(out *output, back bool) *cobra.Command {
	var to client.FailoverTo
	var wait bool
	c := &cobra.Command{Use: "failover VOLUME-ID", Args: cobra.ExactArgs(1),
		Short: "Move a volume to another zone without loss, while both zones live",
		Long: `Stops writes to the volume, waits until the other zone has confirmed all of it, and has it taken over there.
The new volume is in the other zone; the old one stays, read-only. If anything fails, the volume stays where it is and
takes writes again, unless the other zone has taken it over: that zone's word decides.
Where the volume's zone is lost, use: kvol dr recover`}
	if back {
		c.Use, c.Short = "failback VOLUME-ID", "Move a recovered volume back to the zone that it came from, by what changed"
		c.Long = `A planned failover to the zone that the volume came from: only what was written since travels, and nothing
is lost. If anything fails, the volume stays where it is. The stale volume in that zone is not touched.`
	} else {
		c.Flags().StringVar(&to.Destination, "to", "", "the zone, where the volume is replicated to several")
	}
	c.Flags().
		StringVar(&to.DestinationType, "to-type", "", "id of the volume type there; the one of the same name if absent")
	c.Flags().StringVar(&to.IdempotencyKey, "key", "", "idempotency key: one failover however often it is asked for")
	c.Flags().BoolVar(&wait, "wait", false, "follow it to its end")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		begin := s.Failover
		if back {
			begin = s.Failback
		}
		f, err := begin(ctx, args[0], to)
		if err != nil {
			return err
		}
		if wait {
			w := waiting("move to zone " + f.Destination)
			f, err = s.WaitFailover(ctx, f.ID, func(f client.Failover) { w.saw(f.Phase) })
			w.done(err)
			if err != nil {
				return err
			}
		}
		return showFailover(c, out, f)
	})
	return c
}

func showFailover(c *cobra.Command, out *output, f client.Failover) error {
	rows := [][2]any{{"id", f.ID}, {"volume", f.VolumeID}, {"status", f.Status}, {"phase", f.Phase},
		{"zone", f.Destination}, {"new volume", f.NewVolume}, {"epoch", f.Epoch}, {"why it went back", f.Error}}
	if f.Point != nil {
		rows = append(rows, [2]any{"point", f.Point.ID}, [2]any{"root hash", f.Point.Root})
	}
	for _, s := range f.Steps {
		rows = append(rows, [2]any{s.Name, s.Status + spent(s)})
	}
	return out.one(c.OutOrStdout(), f, rows...)
}

func spent(s client.FailoverStep) string {
	if s.Started == nil || s.Ended == nil {
		return ""
	}
	return " in " + s.Ended.Sub(*s.Started).Round(time.Millisecond).String()
}
