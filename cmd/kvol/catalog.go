package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"kvol/internal/catalog"
)

func catalogCommand() *cobra.Command {
	c := &cobra.Command{Use: "catalog", Short: "Where a zone writes down what exists"}
	c.AddCommand(catalogMoveCommand())
	return c
}

func catalogMoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "move CATALOG.DB POSTGRES-URL",
		Short: "Move a zone's catalog from its file to PostgreSQL",
		Long: `move copies all that a zone's catalog.db holds into an empty PostgreSQL database,
reads both and compares them row by row, and then marks the file, so that no zone
is served from it any more. Stop the zone first; when it is done, name the
database as catalog.url in the zone's configuration and start it.

Make the database with

    CREATE DATABASE kvol TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING 'UTF8'

Nothing is changed when it fails; it may be tried again. The file is kept.

A password in the URL can be seen by all who list the machine's processes, and stays
in the shell's history. Leave it out, and have it in a file that only you can read, in
PostgreSQL's form host:port:database:user:password, which PGPASSFILE names (~/.pgpass
if it is not set), or in PGPASSWORD.`,
		Example: `  PGPASSFILE=/etc/kvol/pgpass \
      kvol catalog move /var/lib/kvol/catalog.db postgres://kvol@db.example/kvol`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := isFile(args[0]); err != nil {
				return err
			}
			from, err := catalog.Open(ctx, catalog.Options{Path: args[0], Alone: true})
			if err != nil {
				return err
			}
			defer from.Close()
			to, err := catalog.Open(ctx, catalog.Options{URL: args[1], Alone: true})
			if err != nil {
				return err
			}
			defer to.Close()
			tables, rows := 0, int64(0)
			err = catalog.Move(ctx, from, to, func(m catalog.Moved) {
				tables, rows = tables+1, rows+m.Rows
				fmt.Fprintf(cmd.OutOrStdout(), "%-28s %10d rows\n", m.Table, m.Rows)
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "\nmoved and compared: %d tables, %d rows. Set catalog.url and start the zone.\n",
				tables, rows)
			return nil
		},
	}
}

// isFile refuses a path at which there is no file: a catalog would be made there.
func isFile(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: there is no such file; a zone's catalog is catalog.db in its data_dir", path)
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file; a zone's catalog is catalog.db in its data_dir", path)
	}
	return nil
}
