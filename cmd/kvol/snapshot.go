package main

import (
	"context"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func snapshotCommand(out *output) *cobra.Command {
	c := &cobra.Command{Use: "snapshot", Short: "Take, list and delete snapshots"}
	c.AddCommand(snapshotList(out), snapshotShow(out), snapshotCreate(out), snapshotDelete())
	return c
}

func snapshotList(out *output) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the project's snapshots", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			snapshots, err := s.Snapshots(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, n := range snapshots {
				rows = append(rows, table.Row{n.ID, orEmpty(n.Name), n.VolumeID, n.Status, n.Size, n.CreatedAt})
			}
			return out.rows(c.OutOrStdout(), snapshots,
				table.Row{"ID", "Name", "Volume", "Status", "Size (GiB)", "Created"}, rows)
		})}
}

func (o *output) snapshot(c *cobra.Command, n client.Snapshot) error {
	return o.one(c.OutOrStdout(), n, [2]any{"id", n.ID}, [2]any{"name", orEmpty(n.Name)},
		[2]any{"description", orEmpty(n.Description)}, [2]any{"volume", n.VolumeID}, [2]any{"status", n.Status},
		[2]any{"size (GiB)", n.Size}, [2]any{"metadata", pairs(n.Metadata)}, [2]any{"created", n.CreatedAt})
}

func snapshotShow(out *output) *cobra.Command {
	return &cobra.Command{Use: "show SNAPSHOT", Short: "Show one snapshot, by id", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			n, err := s.Snapshot(ctx, args[0])
			if err != nil {
				return err
			}
			return out.snapshot(c, n)
		})}
}

func snapshotCreate(out *output) *cobra.Command {
	var n client.NewSnapshot
	var wait bool
	c := &cobra.Command{Use: "create VOLUME NAME", Short: "Take a snapshot of a volume", Args: cobra.ExactArgs(2)}
	c.Flags().BoolVar(&n.Force, "force", false, "also while the volume is attached")
	c.Flags().StringVar(&n.Description, "description", "", "a description")
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is available")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		v, err := s.FindVolume(ctx, args[0])
		if err != nil {
			return err
		}
		n.VolumeID, n.Name = v.ID, args[1]
		snapshot, err := s.CreateSnapshot(ctx, n)
		if err != nil {
			return err
		}
		if wait {
			w := waiting("snapshot " + n.Name)
			snapshot, err = s.WaitSnapshot(ctx, snapshot.ID, "available")
			w.done(err)
			if err != nil {
				return err
			}
		}
		return out.snapshot(c, snapshot)
	})
	return c
}

func snapshotDelete() *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: "delete SNAPSHOT...", Short: "Delete snapshots, by id", Args: cobra.MinimumNArgs(1)}
	c.Flags().BoolVar(&wait, "wait", false, "wait until they are gone")
	c.RunE = with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
		for _, id := range args {
			if err := s.DeleteSnapshot(ctx, id); err != nil {
				return err
			}
			if !wait {
				continue
			}
			w := waiting("snapshot " + id)
			_, err := s.WaitSnapshot(ctx, id, "deleted")
			w.done(err)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return c
}
