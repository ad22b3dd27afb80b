package main

import (
	"context"

	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drVerify(out *output) *cobra.Command {
	var r client.Verify
	var wait bool
	c := &cobra.Command{Use: "verify VOLUME-ID", Args: cobra.ExactArgs(1),
		Short: "Read the replicas of a volume of another zone now, and compare all bytes",
		Long: `Reads every byte of the replicas that this zone has of a volume, and compares the hash with what was committed
at both ends; then, where the volume's zone answers, has that zone read its own. What is wrong is repaired from there.`}
	c.Flags().StringVar(&r.Zone, "zone", "", "the volume's zone, if several have a volume of this id")
	c.Flags().StringVar(&r.Key, "key", "", "idempotency key")
	c.Flags().BoolVar(&wait, "wait", false, "follow it to its end")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		r.Volume = args[0]
		d, err := s.Verify(ctx, r)
		if err != nil {
			return err
		}
		return follow(ctx, c, out, s, d, wait)
	})
	return c
}
