package catalog

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

type migration struct {
	number int
	file   string
}

// migrate applies the migrations that the catalog lacks, in order of their
// numbers, each in a transaction with the note that it was applied.
func (c *Catalog) migrate(ctx context.Context, files fs.FS, dir string) error {
	all, err := migrations(files, dir)
	if err != nil {
		return err
	}
	var have []int
	err = c.Update(ctx, func(tx *Tx) error {
		_, err := tx.exec(`CREATE TABLE IF NOT EXISTS schema_migrations (
			number INTEGER PRIMARY KEY, file TEXT NOT NULL, applied_at BIGINT NOT NULL)`)
		if err != nil {
			return err
		}
		have, err = collect(tx, func(row scanner) (n int, err error) { return n, row.Scan(&n) },
			"SELECT number FROM schema_migrations ORDER BY number")
		return err
	})
	if err != nil {
		return err
	}
	newest := all[len(all)-1].number
	if n := len(have); n > 0 && have[n-1] > newest {
		return fmt.Errorf("it was written by a newer program: it has migration %d, this program knows %d",
			have[n-1], newest)
	}
	for _, m := range all {
		if slices.Contains(have, m.number) {
			continue
		}
		if err := c.apply(ctx, files, m); err != nil {
			return fmt.Errorf("migration %s: %w", m.file, err)
		}
	}
	return nil
}

func (c *Catalog) apply(ctx context.Context, files fs.FS, m migration) error {
	text, err := fs.ReadFile(files, m.file)
	if err != nil {
		return err
	}
	statements, err := c.migration(path.Base(m.file), string(text))
	if err != nil {
		return err
	}
	return c.Update(ctx, func(tx *Tx) error {
		var one int64
		err := tx.queryRow("SELECT 1 FROM schema_migrations WHERE number = $1", m.number).Scan(&one)
		if !errors.Is(err, sql.ErrNoRows) {
			return err // another process that starts now was faster
		}
		if _, err := tx.exec(statements); err != nil {
			return err
		}
		_, err = tx.exec("INSERT INTO schema_migrations (number, file, applied_at) VALUES ($1, $2, $3)",
			m.number, path.Base(m.file), tx.Now.UnixMicro())
		return err
	})
}

// migrations lists the files by number. Names are "0001_core.sql"; two with
// one number are refused.
func migrations(files fs.FS, dir string) ([]migration, error) {
	names, err := fs.Glob(files, dir+"/*.sql")
	if err != nil {
		return nil, err
	}
	var all []migration
	for _, name := range names {
		digits, _, _ := strings.Cut(path.Base(name), "_")
		number, err := strconv.Atoi(digits)
		if err != nil || len(digits) != 4 {
			return nil, fmt.Errorf("migration %s: its name does not begin with four digits", name)
		}
		all = append(all, migration{number, name})
	}
	slices.SortFunc(all, func(a, b migration) int { return a.number - b.number })
	for i := 1; i < len(all); i++ {
		if all[i].number == all[i-1].number {
			return nil, fmt.Errorf("migrations %s and %s have one number", all[i-1].file, all[i].file)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no migrations in %s", dir)
	}
	return all, nil
}
