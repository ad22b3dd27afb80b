package main

import (
	"context"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func volumeCommand(out *output) *cobra.Command {
	c := &cobra.Command{Use: "volume", Short: "Make, list, grow, connect and delete volumes"}
	c.AddCommand(volumeList(out), volumeShow(out), volumeCreate(out), volumeDelete(), volumeExtend(out),
		volumeConnect(out), volumeDisconnect(), volumeUpload(out))
	return c
}

func volumeList(out *output) *cobra.Command {
	var all bool
	c := &cobra.Command{Use: "list", Short: "List the project's volumes", Args: cobra.NoArgs}
	c.Flags().BoolVar(&all, "all-projects", false, "volumes of every project (administrators)")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
		volumes, err := s.Volumes(ctx, all)
		if err != nil {
			return err
		}
		var rows []table.Row
		for _, v := range volumes {
			rows = append(
				rows,
				table.Row{v.ID, orEmpty(v.Name), v.Status, v.Size, orEmpty(v.VolumeType), orEmpty(v.ReplicationStatus)},
			)
		}
		return out.rows(
			c.OutOrStdout(),
			volumes,
			table.Row{"ID", "Name", "Status", "Size (GiB)", "Type", "Replication"},
			rows,
		)
	})
	return c
}

func (o *output) volume(c *cobra.Command, v client.Volume) error {
	var attached []string
	for _, a := range v.Attachments {
		attached = append(attached, a.AttachmentID+" as "+orEmpty(a.Device))
	}
	return o.one(c.OutOrStdout(), v, [2]any{"id", v.ID}, [2]any{"name", orEmpty(v.Name)},
		[2]any{"description", orEmpty(v.Description)}, [2]any{"status", v.Status}, [2]any{"size (GiB)", v.Size},
		[2]any{"type", orEmpty(v.VolumeType)}, [2]any{"availability zone", orEmpty(v.AvailabilityZone)},
		[2]any{"bootable", v.Bootable}, [2]any{"snapshot", orEmpty(v.SnapshotID)},
		[2]any{"source volume", orEmpty(v.SourceVolumeID)}, [2]any{"metadata", pairs(v.Metadata)},
		[2]any{"attachments", strings.Join(attached, ", ")}, [2]any{"replication", orEmpty(v.ReplicationStatus)},
		[2]any{"created", v.CreatedAt})
}

func volumeShow(out *output) *cobra.Command {
	return &cobra.Command{Use: "show VOLUME", Short: "Show one volume, by name or id", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			v, err := s.FindVolume(ctx, args[0])
			if err != nil {
				return err
			}
			return out.volume(c, v)
		})}
}

func volumeCreate(out *output) *cobra.Command {
	var n client.NewVolume
	var wait bool
	c := &cobra.Command{Use: "create NAME", Short: "Make a volume: empty, or from a snapshot, a volume or an image",
		Example: "  kvol volume create ledger --size 10 --wait\n  kvol volume create copy --source ledger --wait",
		Args:    cobra.ExactArgs(1)}
	f := c.Flags()
	f.Int64Var(&n.Size, "size", 0, "size in GiB (may be left out where there is a source)")
	f.StringVar(&n.VolumeType, "type", "", "volume type, by name or id (the zone's default if left out)")
	f.StringVar(&n.SnapshotID, "snapshot", "", "id of the snapshot to start from")
	f.StringVar(&n.SourceVolumeID, "source", "", "volume to copy, by name or id")
	f.StringVar(&n.ImageRef, "image", "", "image to start from, by id or name")
	f.StringVar(&n.Description, "description", "", "a description")
	f.StringToStringVar(&n.Metadata, "property", nil, "metadata as key=value, more than once if need be")
	f.BoolVar(&wait, "wait", false, "wait until it is available")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		n.Name = args[0]
		if n.SourceVolumeID != "" {
			source, err := s.FindVolume(ctx, n.SourceVolumeID)
			if err != nil {
				return err
			}
			n.SourceVolumeID = source.ID
		}
		v, err := s.CreateVolume(ctx, n)
		if err != nil {
			return err
		}
		if wait {
			w := waiting("volume " + n.Name)
			v, err = s.WaitVolume(ctx, v.ID, w.saw, "available")
			w.done(err)
			if err != nil {
				return err
			}
		}
		return out.volume(c, v)
	})
	return c
}

func volumeDelete() *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: "delete VOLUME...", Short: "Delete volumes, by name or id", Args: cobra.MinimumNArgs(1)}
	c.Flags().BoolVar(&wait, "wait", false, "wait until they are gone")
	c.RunE = with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
		for _, name := range args {
			v, err := s.FindVolume(ctx, name)
			if err != nil {
				return err
			}
			if err := s.DeleteVolume(ctx, v.ID); err != nil {
				return err
			}
			if !wait {
				continue
			}
			w := waiting("volume " + name)
			_, err = s.WaitVolume(ctx, v.ID, w.saw, "deleted")
			w.done(err)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

func volumeExtend(out *output) *cobra.Command {
	var size int64
	c := &cobra.Command{Use: "extend VOLUME --size GIB", Short: "Grow a volume", Args: cobra.ExactArgs(1)}
	c.Flags().Int64Var(&size, "size", 0, "new size in GiB")
	_ = c.MarkFlagRequired("size") // the flag exists
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		v, err := s.FindVolume(ctx, args[0])
		if err != nil {
			return err
		}
		w := waiting("volume " + args[0])
		v, err = s.ExtendVolume(ctx, v.ID, size, w.saw)
		w.done(err)
		if err != nil {
			return err
		}
		return out.volume(c, v)
	})
	return c
}

func volumeConnect(out *output) *cobra.Command {
	var host string
	c := &cobra.Command{Use: "connect VOLUME", Short: "Get the address at which a host reaches a volume's bytes",
		Long: `Asks for a network path to a volume (os-initialize_connection) and prints it. The
URL works with unmodified NBD clients, for instance:

  qemu-img info "$(kvol volume connect ledger -o json | jq -r .data.url)"
  nbdcopy disk.raw "$(kvol volume connect ledger -o json | jq -r .data.url)"

The export's name in the URL is the secret that opens it. Give it back with
"kvol volume disconnect".`, Args: cobra.ExactArgs(1)}
	c.Flags().StringVar(&host, "host", "kvol-client", "name of the host, for the record")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		v, err := s.FindVolume(ctx, args[0])
		if err != nil {
			return err
		}
		info, err := s.Connect(ctx, v.ID, map[string]any{"host": host})
		if err != nil {
			return err
		}
		return out.one(c.OutOrStdout(), info, [2]any{"protocol", info.DriverVolumeType}, [2]any{"url", info.NBDURL()})
	})
	return c
}

func volumeDisconnect() *cobra.Command {
	var host string
	c := &cobra.Command{Use: "disconnect VOLUME", Short: "Give a network path back", Args: cobra.ExactArgs(1)}
	c.Flags().StringVar(&host, "host", "kvol-client", "name of the host, as given to connect")
	c.RunE = with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
		v, err := s.FindVolume(ctx, args[0])
		if err != nil {
			return err
		}
		return s.Disconnect(ctx, v.ID, map[string]any{"host": host})
	})
	return c
}

func volumeUpload(out *output) *cobra.Command {
	var format string
	var force, wait bool
	c := &cobra.Command{Use: "upload VOLUME IMAGE-NAME", Short: "Make an image from a volume", Args: cobra.ExactArgs(2)}
	c.Flags().
		StringVar(&format, "disk-format", "raw", "raw, qcow2, vmdk, vdi or vhdx (all but raw need qemu-img in the zone)")
	c.Flags().BoolVar(&force, "force", false, "also while the volume is attached")
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is done")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		v, err := s.FindVolume(ctx, args[0])
		if err != nil {
			return err
		}
		var answer struct {
			Upload struct {
				ImageID string `json:"image_id"`
				Status  string `json:"status"`
			} `json:"os-volume_upload_image"`
		}
		if err := s.VolumeAction(ctx, v.ID, "os-volume_upload_image", map[string]any{"image_name": args[1], "force": force,
			"disk_format": format, "container_format": "bare"}, &answer); err != nil {
			return err
		}
		if wait {
			w := waiting("volume " + args[0])
			_, err := s.WaitVolume(ctx, v.ID, w.saw, "available", "in-use")
			w.done(err)
			if err != nil {
				return err
			}
		}
		image, err := s.Image(ctx, answer.Upload.ImageID)
		if err != nil {
			return err
		}
		return out.image(c, image)
	})
	return c
}
