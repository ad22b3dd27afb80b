package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func drCommand(out *output) *cobra.Command {
	c := &cobra.Command{Use: "dr", Short: "Backup zones, replicas, and recovery in another zone",
		Long: `The kvol API by command, and how replication stands.

A zone is lost, and all of it is to be recovered in this one:
  kvol dr recover --zone mitaka1 --dry-run
  kvol dr recover --zone mitaka1 --accept-loss --wait

A volume of it:
  kvol dr recovery --from mitaka1 --from-type TYPE-ID VOLUME-ID \
                   --to kilo1 --to-type TYPE-ID --project PROJECT-ID --wait

Before that ever happens, in the zone that would be recovered in:
  kvol dr drill start --zone mitaka1 --probe verify --probe fsck --wait

A zone is to be left while it lives, and gone back to:
  kvol dr failover VOLUME-ID --to kilo1 --wait
  kvol dr failback NEW-VOLUME-ID --wait          (in kilo1)

Any zone that is alive answers for all zones (KVOL_URL).`}
	c.AddCommand(
		drList(out),
		drShow(out),
		drStart(out, "create"),
		drStart(out, "recovery"),
		drJobs(out, "create"),
		drJobs(out, "recovery"),
		drReplicas(out),
		drPoints(out),
		drProtections(out),
		drLinks(out),
		drLink(out),
		drFailover(
			out,
			false,
		),
		drFailover(out, true),
		drStatus(out),
		drRecover(out),
		drPlan(out),
		drDrill(out),
		drOperation(out),
		drStale(out),
		drHealth(out),
		drPin(out),
		drHold(out),
		drUnpin(),
		drKeeps(out),
		drDismiss(),
		drVerify(out),
		drDoctor(out),
		drEvents(out),
		drAudit(out),
		drRTOs(out),
	)
	return c
}

// withKvol makes a command's body from a function that needs the kvol API.
func withKvol(
	fn func(ctx context.Context, c *cobra.Command, k *client.Kvol, args []string) error,
) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		k, err := kvolLogin(c.Context())
		if err != nil {
			return err
		}
		return fn(c.Context(), c, k, args)
	}
}

func drList(out *output) *cobra.Command {
	return &cobra.Command{
		Use:   "list ZONE TYPE-ID",
		Short: "List the backup zones of a volume type",
		Args:  cobra.ExactArgs(2),
		RunE: withKvol(func(ctx context.Context, c *cobra.Command, k *client.Kvol, args []string) error {
			backups, err := k.List(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, b := range backups {
				rows = append(rows, table.Row{b.Seq, b.ZoneID, b.SVMName, b.SVMIP + ":/" + b.Name, b.ClusterIP})
			}
			return out.rows(c.OutOrStdout(), backups, table.Row{"Seq", "Zone", "SVM", "Path", "Cluster"}, rows)
		}),
	}
}

func drShow(out *output) *cobra.Command {
	var to string
	c := &cobra.Command{Use: "show ZONE TYPE-ID", Short: "Show the backup zones of a volume type, and whether they work",
		Args: cobra.ExactArgs(2)}
	c.Flags().StringVar(&to, "to", "", "only this backup zone")
	c.RunE = withKvol(func(ctx context.Context, c *cobra.Command, k *client.Kvol, args []string) error {
		details, err := k.Show(ctx, args[0], args[1], to)
		if err != nil {
			return err
		}
		var rows []table.Row
		for _, b := range details {
			rows = append(rows, table.Row{b.SrcZone, b.SrcPath, b.DstZone, b.DstPath, b.DstSVMName, b.Status})
		}
		return out.rows(c.OutOrStdout(), details, table.Row{"Source", "Path", "Backup", "Path", "SVM", "Status"}, rows)
	})
	return c
}

func drStart(out *output, kind string) *cobra.Command {
	var e client.Elsewhere
	var wait bool
	c := &cobra.Command{Use: "create SNAPSHOT-ID", Short: "Make a volume in another zone from a replicated snapshot",
		Args: cobra.ExactArgs(1)}
	if kind == "recovery" {
		c.Use, c.Short = "recovery VOLUME-ID", "Recover a volume of a lost zone in another zone"
	}
	f := c.Flags()
	f.StringVar(&e.SrcZone, "from", "", "source zone")
	f.StringVar(&e.SrcType, "from-type", "", "id of the volume type there")
	f.StringVar(&e.DstZone, "to", "", "destination zone")
	f.StringVar(&e.DstType, "to-type", "", "id of the volume type there")
	f.StringVar(&e.DstProject, "project", "", "id of the project that gets the volume")
	f.BoolVar(&e.Bootable, "bootable", false, "mark the volume as bootable")
	f.BoolVar(&wait, "wait", false, "follow it to its end")
	for _, name := range []string{"from", "from-type", "to", "to-type", "project"} {
		_ = c.MarkFlagRequired(name) // the flag exists
	}
	c.RunE = withKvol(func(ctx context.Context, c *cobra.Command, k *client.Kvol, args []string) error {
		start := k.Create
		e.Snapshot = args[0]
		if kind == "recovery" {
			start, e.Volume, e.Snapshot = k.Recovery, args[0], ""
		}
		rowkey, err := start(ctx, e)
		if err != nil {
			return err
		}
		if !wait {
			return out.one(c.OutOrStdout(), map[string]int64{"rowkey": rowkey}, [2]any{"rowkey", rowkey})
		}
		w := waiting(fmt.Sprintf("%s %d", kind, rowkey))
		job, err := k.Wait(ctx, kind, rowkey, func(j client.KvolJob) { w.saw(j.Status) })
		w.done(err)
		if err != nil {
			return err
		}
		return out.one(c.OutOrStdout(), job, [2]any{"rowkey", rowkey}, [2]any{"status", job.Status},
			[2]any{"result", job.ResultMsg}, [2]any{"new volume", orEmpty(job.NewVolumeID)},
			[2]any{"zone", job.DstZoneID}, [2]any{"start", orEmpty(job.CreateStart)}, [2]any{"end", orEmpty(job.CreateEnd)})
	})
	return c
}

func drJobs(out *output, kind string) *cobra.Command {
	var rowkey int64
	var limit int
	c := &cobra.Command{Use: kind + "list", Short: "Follow " + kind + " jobs", Args: cobra.NoArgs}
	c.Flags().Int64Var(&rowkey, "rowkey", 0, "only this job")
	c.Flags().IntVar(&limit, "limit", 5, "the newest so many")
	c.RunE = withKvol(func(ctx context.Context, c *cobra.Command, k *client.Kvol, _ []string) error {
		jobs, err := k.Jobs(ctx, kind, rowkey, limit)
		if err != nil {
			return err
		}
		var rows []table.Row
		for _, j := range jobs {
			rows = append(rows, table.Row{j.OrgZoneID, j.OrgVolumeID + j.OrgSnapshotID, j.DstZoneID, orEmpty(j.NewVolumeID),
				j.Status, j.ResultMsg, orEmpty(j.CreateStart), orEmpty(j.CreateEnd)})
		}
		return out.rows(c.OutOrStdout(), jobs,
			table.Row{"From", "Of", "To", "New volume", "Status", "Result", "Start", "End"}, rows)
	})
	return c
}

func drReplicas(out *output) *cobra.Command {
	return &cobra.Command{Use: "replicas", Short: "List the replicas that the zone keeps", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			replicas, err := s.Replicas(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, r := range replicas {
				newest := "none yet"
				if r.Newest != nil {
					newest = instant(r.Newest.At)
				}
				rows = append(rows, table.Row{r.SourceZone, r.VolumeID, newest, instant(r.ReplicatedUpTo), r.Receiving,
					r.Transport, r.Backend, r.Epoch})
			}
			return out.rows(c.OutOrStdout(), replicas, table.Row{"Source zone", "Volume", "Newest point (UTC)",
				"Whole as of (UTC)", "Receiving", "By", "Backend", "Epoch"}, rows)
		})}
}

func drLinks(out *output) *cobra.Command {
	return &cobra.Command{Use: "links", Short: "List how far the zone's own volumes are replicated", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			links, err := s.Links(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, l := range links {
				rows = append(rows, linkRow(l))
			}
			return out.rows(
				c.OutOrStdout(),
				links,
				table.Row{"Volume", "Backup zone", "Replicated up to (UTC)", "By", "Error"},
				rows,
			)
		})}
}

func linkRow(l client.Link) table.Row {
	by := ""
	if l.Confirmed != nil {
		by = l.Transport
	}
	return table.Row{l.VolumeID, l.Destination, instant(l.ReplicatedUpTo), by, l.LastError}
}

// instant is a time in UTC, as tables show it; "" for none.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.000")
}
