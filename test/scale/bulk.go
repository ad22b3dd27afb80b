package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // what the catalog's file is
)

// bulk adds volumes of the type that several backends hold to a catalog that
// nobody has open. It writes past the catalog, without indexes until the end: one
// by one a million takes long, and what one costs is measured by those that are
// added after.
func bulk(ctx context.Context, path string, n, projects int) (err error) {
	db, err := sql.Open(
		"sqlite",
		"file:"+path+"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=cache_size(-400000)",
	)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	kept, err := takeDown(ctx, db)
	if err != nil {
		return err
	}
	statements := append([]string{fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO volumes (id, project_id, user_id, name, size, status, type_id, backend, availability_zone, bootable,
			multiattach, encrypted, readonly, metadata, image_metadata, replication_status, epoch, created_at)
		SELECT lower(hex(randomblob(4))) || '-' || lower(hex(randomblob(2))) || '-4' || substr(lower(hex(randomblob(2))), 2)
				|| '-8' || substr(lower(hex(randomblob(2))), 2) || '-' || lower(hex(randomblob(6))),
			CASE i %% 10 WHEN 0 THEN '%s' ELSE printf('%%032x', 1 + i %% %d) END, 'u',
			printf('volume-%%07d', i * 7919 %% 10000000), 1 + i %% 100,
			CASE i %% 9 WHEN 0 THEN 'in-use' ELSE 'available' END,
			'%s', 'wide-' || (i %% 8), 'z', FALSE, FALSE, FALSE, FALSE, '{}', '{}', 'disabled', 1, 1700000000000000 + i * 1000
		FROM n`, n-1, project(0), max(1, projects-1), wideType),
		`INSERT INTO usage (project_id, type_id, volumes, volume_size)
			SELECT project_id, type_id, COUNT(*), SUM(size) FROM volumes WHERE TRUE GROUP BY 1, 2`,
		`INSERT INTO backend_usage (backend, volumes, gib) SELECT backend, COUNT(*), SUM(size) FROM volumes
			WHERE TRUE GROUP BY backend`}, kept...)
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.60s: %w", statement, err)
		}
	}
	return nil
}

// takeDown drops the indexes and triggers of volumes, and returns what makes them
// again.
func takeDown(ctx context.Context, db *sql.DB) (again []string, err error) {
	rows, err := db.QueryContext(ctx, `SELECT type, name, sql FROM sqlite_master
		WHERE type IN ('index', 'trigger') AND tbl_name = 'volumes' AND sql IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var drops []string
	for rows.Next() {
		var kind, name, text string
		if err := rows.Scan(&kind, &name, &text); err != nil {
			return nil, err
		}
		drops, again = append(drops, "DROP "+kind+" "+name), append(again, text)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	for _, drop := range drops {
		if _, err := db.ExecContext(ctx, drop); err != nil {
			return nil, err
		}
	}
	return again, nil
}
