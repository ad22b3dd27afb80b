package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/audit"
	"kvol/internal/client"
)

func drAudit(out *output) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "The audit log: who did what, in a chain that can't be changed unseen",
		Long: `Each record of the audit log names all before it by a hash, and the other zones are told how far it is. What is
changed, removed, inserted or cut off by hand is found:
  kvol dr audit verify               in this zone, and against what the others were told
  kvol dr audit export log.txt
  kvol dr audit verify log.txt       a file, without any zone`}
	c.AddCommand(auditList(out), auditVerify(out), auditExport(out), &cobra.Command{Use: "accept ZONE",
		Short: "Begin anew with the audit log of another zone that went back to an old copy", Args: cobra.ExactArgs(1),
		RunE: with(func(ctx context.Context, _ *cobra.Command, s *client.Session, args []string) error {
			return s.AcceptAudit(ctx, args[0])
		})})
	return c
}

func auditList(out *output) *cobra.Command {
	var q client.AuditQuery
	c := &cobra.Command{Use: "list", Short: "List the newest records", Args: cobra.NoArgs}
	c.Flags().IntVar(&q.Limit, "limit", 50, "so many at most")
	c.Flags().Int64Var(&q.Before, "before", 0, "only records with a lower number")
	c.Flags().StringVar(&q.Operation, "operation", "", "only those about this operation or failover")
	c.Flags().StringVar(&q.Call, "call", "", "only those of calls that begin so")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
		all, err := s.Audits(ctx, q)
		if err != nil {
			return err
		}
		var rows []table.Row
		for _, a := range all {
			code := ""
			if a.Code != 0 {
				code = fmt.Sprint(a.Code)
			}
			rows = append(rows, table.Row{a.ID, a.At.Format("2006-01-02 15:04:05.000"), a.User, a.Remote,
				strings.Join(a.Roles, ","), a.Call, code, shortened(a.Outcome), a.Operation, a.Consent, shortened(a.Params)})
		}
		return out.rows(c.OutOrStdout(), all, table.Row{"Record", "At (UTC)", "User", "From", "Roles", "What", "Code",
			"Outcome", "Operation", "Consent by", "Asked for"}, rows)
	})
	return c
}

// shortened is a text that fits into a table.
func shortened(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

func auditVerify(out *output) *cobra.Command {
	return &cobra.Command{Use: "verify [FILE...]",
		Short: "Look whether the audit log, or files of it, are what was written",
		Long: `Goes over the audit log of the zone that is logged in to, and compares it with what the other zones were
told of it. With files: over these, in their order, each of which has to go on where the one before ends; no zone is
asked. The exit status is 1 if anything is not what was written.`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return verifyFiles(c, out, args)
			}
			return with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
				r, err := s.VerifyAudit(ctx)
				if err != nil {
					return err
				}
				return showAudit(c, out, r)
			})(c, args)
		}}
}

// errTampered makes the exit status tell of what is not whole.
type errTampered int

func (n errTampered) Error() string {
	return fmt.Sprintf("the audit log is not what was written: problems %d", int(n))
}

func showAudit(c *cobra.Command, out *output, r client.AuditReport) error {
	w := c.OutOrStdout()
	if out.format == "json" {
		if err := out.rows(w, r, nil, nil); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(w, "Zone %s: records %d to %d, the last with hash %s\n", r.Zone, r.Base.Seq+1, r.Head.Seq, r.Head.Hash)
		for _, s := range r.Seals {
			fmt.Fprintf(w, "Records %d to %d are in %s (SHA-256 %s)\n", s.First, s.Last.Seq, s.File, s.SHA256)
		}
		for _, t := range r.Told {
			switch {
			case t.Silent:
				fmt.Fprintf(w, "Zone %s does not answer: what it was told is not compared.\n", t.Zone)
			default:
				fmt.Fprintf(w, "Zone %s was told of %d heads, up to record %d.\n", t.Zone, t.Heads, t.Newest.Seq)
			}
		}
		for _, p := range r.Problems {
			fmt.Fprintln(w, p.Text)
		}
		for _, b := range r.NotBelieved {
			fmt.Fprintf(w, "The log of zone %s is not believed since %s: %s\n", b.Zone, b.At.Format("01-02 15:04"), b.Why)
		}
		if len(r.Problems)+len(r.NotBelieved) == 0 {
			fmt.Fprintln(w, "It is what was written.")
		}
	}
	if n := len(r.Problems) + len(r.NotBelieved); n > 0 {
		return errTampered(n)
	}
	return nil
}

func verifyFiles(c *cobra.Command, out *output, paths []string) error {
	var all []audit.File
	problems := 0
	for i, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		found, err := audit.CheckFile(f)
		_ = f.Close() // it was only read
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if i > 0 && (found.After != all[i-1].Last || found.Zone != all[0].Zone) {
			found.Problems = append(found.Problems, audit.Problem{Record: found.After.Seq + 1,
				Text: fmt.Sprintf("It does not go on where %s ends.", paths[i-1])})
		}
		all = append(all, found)
		problems += len(found.Problems)
	}
	if out.format == "json" {
		if err := out.rows(c.OutOrStdout(), all, nil, nil); err != nil {
			return err
		}
	} else {
		for i, f := range all {
			fmt.Fprintf(c.OutOrStdout(), "%s: zone %s, records %d to %d, the last with hash %s\n", paths[i], f.Zone,
				f.After.Seq+1, f.Last.Seq, f.Last.Hash)
			for _, p := range f.Problems {
				fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", paths[i], p.Text)
			}
		}
	}
	if problems > 0 {
		return errTampered(problems)
	}
	return nil
}

func auditExport(out *output) *cobra.Command {
	var after int64
	c := &cobra.Command{Use: "export FILE", Args: cobra.ExactArgs(1),
		Short: "Write the audit log into a file, to be kept elsewhere (- for standard output)"}
	c.Flags().Int64Var(&after, "after", 0, "only records after this one")
	c.RunE = with(func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error {
		if args[0] == "-" {
			_, err := exportAudit(ctx, s, c.OutOrStdout(), after)
			return err
		}
		f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		last, err := exportAudit(ctx, s, f, after)
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
		return out.one(c.OutOrStdout(), last, [2]any{"file", args[0]}, [2]any{"last record", last.Seq},
			[2]any{"hash", last.Hash})
	})
	return c
}

// exportAudit writes the log in the form that audit.CheckFile reads.
func exportAudit(ctx context.Context, s *client.Session, to io.Writer, after int64) (last client.AuditHead, err error) {
	w := bufio.NewWriter(to)
	page, err := s.AuditRecords(ctx, after)
	if err != nil {
		return last, err
	}
	last = page.After
	fmt.Fprintf(w, "kvol-audit 1 %s %d %s\n", page.Zone, last.Seq, last.Hash)
	for len(page.Records) > 0 {
		for _, r := range page.Records {
			fmt.Fprintf(w, "%s %s\n", r.Hash, r.Body)
			last = r.AuditHead
		}
		if page, err = s.AuditRecords(ctx, last.Seq); err != nil {
			return last, err
		}
	}
	fmt.Fprintf(w, "end %d %s\n", last.Seq, last.Hash)
	return last, w.Flush()
}
