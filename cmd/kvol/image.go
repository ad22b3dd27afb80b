package main

import (
	"context"
	"os"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func imageCommand(out *output) *cobra.Command {
	c := &cobra.Command{Use: "image", Short: "Upload, list, save and delete images"}
	c.AddCommand(imageList(out), imageShow(out), imageCreate(out), imageSave(), imageDelete())
	return c
}

func (o *output) image(c *cobra.Command, i client.Image) error {
	var size any = ""
	if i.Size != nil {
		size = *i.Size
	}
	return o.one(c.OutOrStdout(), i, [2]any{"id", i.ID}, [2]any{"name", i.Name}, [2]any{"status", i.Status},
		[2]any{"disk format", i.DiskFormat}, [2]any{"container format", i.ContainerFormat},
		[2]any{"visibility", i.Visibility}, [2]any{"protected", i.Protected}, [2]any{"size (bytes)", size},
		[2]any{"checksum (MD5)", orEmpty(i.Checksum)})
}

func imageList(out *output) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the images that the project may use", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			images, err := s.Images(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, i := range images {
				rows = append(rows, table.Row{i.ID, i.Name, i.Status, i.DiskFormat, i.Visibility})
			}
			return out.rows(c.OutOrStdout(), images, table.Row{"ID", "Name", "Status", "Format", "Visibility"}, rows)
		})}
}

func imageShow(out *output) *cobra.Command {
	return &cobra.Command{Use: "show IMAGE", Short: "Show one image, by id", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
			i, err := s.Image(ctx, args[0])
			if err != nil {
				return err
			}
			return out.image(c, i)
		})}
}

func imageCreate(out *output) *cobra.Command {
	var n client.NewImage
	c := &cobra.Command{Use: "create NAME FILE", Short: "Upload an image from a file", Args: cobra.ExactArgs(2)}
	c.Flags().StringVar(&n.DiskFormat, "disk-format", "raw", "format of the file: raw, qcow2, vmdk, vdi, vhdx")
	c.Flags().StringVar(&n.ContainerFormat, "container-format", "bare", "container of the file")
	c.Flags().StringVar(&n.Visibility, "visibility", "private", "who may use it: private, shared, community, public")
	c.Flags().BoolVar(&n.Protected, "protected", false, "refuse to delete it")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer f.Close()
		n.Name = args[0]
		i, err := s.CreateImage(ctx, n)
		if err != nil {
			return err
		}
		if err := s.UploadImage(ctx, i.ID, f); err != nil {
			return err
		}
		if i, err = s.Image(ctx, i.ID); err != nil {
			return err
		}
		return out.image(c, i)
	})
	return c
}

func imageSave() *cobra.Command {
	return &cobra.Command{Use: "save IMAGE FILE", Short: "Download an image, by id, into a file", Args: cobra.ExactArgs(2),
		RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
			f, err := os.Create(args[1])
			if err != nil {
				return err
			}
			if err := s.DownloadImage(ctx, args[0], f); err != nil {
				f.Close()
				return err
			}
			return f.Close()
		})}
}

func imageDelete() *cobra.Command {
	return &cobra.Command{Use: "delete IMAGE...", Short: "Delete images, by id", Args: cobra.MinimumNArgs(1),
		RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
			for _, id := range args {
				if err := s.DeleteImage(ctx, id); err != nil {
					return err
				}
			}
			return nil
		})}
}
