package main

import (
	"context"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

func tokenCommand(out *output) *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Get a token, see the catalog"}
	issue := &cobra.Command{Use: "issue", Short: "Get a token and print it", Args: cobra.NoArgs,
		RunE: with(func(_ context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			value := map[string]any{"id": s.Token, "expires": s.Expires.UTC().Format(time.RFC3339), "project_id": s.ProjectID,
				"user_id": s.UserID, "roles": s.Roles}
			return out.one(c.OutOrStdout(), value, [2]any{"id", s.Token}, [2]any{"expires", value["expires"]},
				[2]any{"project", s.ProjectID}, [2]any{"user", s.UserID}, [2]any{"roles", strings.Join(s.Roles, ", ")})
		})}
	catalog := &cobra.Command{Use: "catalog", Short: "List the services and their URLs", Args: cobra.NoArgs,
		RunE: with(func(_ context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			var rows []table.Row
			for _, service := range s.Catalog {
				for _, e := range service.Endpoints {
					rows = append(rows, table.Row{service.Type, e.Region, e.Interface, e.URL})
				}
			}
			return out.rows(c.OutOrStdout(), s.Catalog, table.Row{"Type", "Region", "Interface", "URL"}, rows)
		})}
	c.AddCommand(issue, catalog)
	return c
}

func typeCommand(out *output) *cobra.Command {
	c := &cobra.Command{Use: "type", Short: "List the volume types"}
	c.AddCommand(&cobra.Command{Use: "list", Short: "List the volume types", Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, c *cobra.Command, s *client.Session, _ []string) error {
			types, err := s.Types(ctx)
			if err != nil {
				return err
			}
			var rows []table.Row
			for _, t := range types {
				rows = append(rows, table.Row{t.ID, t.Name, t.Public, t.ExtraSpecs["volume_backend_name"]})
			}
			return out.rows(c.OutOrStdout(), types, table.Row{"ID", "Name", "Public", "Backend"}, rows)
		})})
	return c
}
