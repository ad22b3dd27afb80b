package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	_ "modernc.org/sqlite" // the catalog's own database
)

// pageSizes are how many volumes of one project pages are read out of, as far as
// the flag -volumes lets them: a million take a quiet machine a minute to make.
var pageSizes = []int{1_000, 100_000, 1_000_000}

// pageWorks are pages of 50: the first one, and others from the middle on, where
// %s stands for the volume there. What is beside them are questions about all.
var pageWorks = []struct {
	name, path string
	cinder     bool // the page whose figure of a real Cinder is known
}{
	{"first page of 50", "volumes/detail?limit=50", true},
	{"page of 50 from the middle", "volumes/detail?limit=50&marker=%s", false},
	{"the same by name", "volumes/detail?limit=50&sort=name:asc&marker=%s", false},
	{"the same where status=available", "volumes/detail?limit=50&status=available&marker=%s", false},
	{"summary", "volumes/summary", false},
}

// pages measures pages out of few and of many volumes: flat means that they take
// the same time. The rows are written into the catalog itself while no zone runs.
func (b *bench) pages(ctx context.Context) error {
	took := make([][]time.Duration, len(pageWorks))
	pageSizes := slices.DeleteFunc(slices.Clone(pageSizes), func(n int) bool { return n > b.volumes })
	for _, volumes := range pageSizes {
		z, err := b.startZone(ctx, filepath.Join(b.dir, fmt.Sprint("pages-", volumes)))
		if err != nil {
			return err
		}
		z.stop()
		began := time.Now()
		if err := fillCatalog(ctx, filepath.Join(z.dir, "data", "catalog.db"), volumes); err != nil {
			return err
		}
		b.tell(fmt.Sprintf("catalog of %d volumes, made in", volumes), time.Since(began).Round(time.Second).String())
		if err := b.runZone(ctx, z); err != nil {
			return err
		}
		err = b.pagesOf(ctx, z, volumes, took)
		rss, err2 := resident(z.pid())
		z.stop()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		b.apiMemory(fmt.Sprintf("memory with %d volumes, after these", volumes), rss<<10, cinderLoaded)
	}
	for i, w := range pageWorks {
		for at, volumes := range pageSizes {
			b.note(fmt.Sprintf("%s, out of %d", w.name, volumes), short(took[i][at]).String(),
				fmt.Sprintf("out of %d %v", pageSizes[0], short(took[i][0])),
				fmt.Sprintf("%.2f", float64(took[i][at])/float64(took[i][0])), fmt.Sprintf("<= %g", flatAim),
				float64(took[i][at]) <= flatAim*float64(took[i][0]))
		}
	}
	return nil
}

// pagesOf appends the median of each kind of page, one request after another.
func (b *bench) pagesOf(ctx context.Context, z *apiZone, volumes int, took [][]time.Duration) error {
	middle := fmt.Sprintf("%08d-0000-4000-8000-000000000000", volumes/2)
	rounds := make([][]time.Duration, len(pageWorks))
	for range b.rounds {
		for i, w := range pageWorks {
			path := w.path
			if w.name != "summary" && !w.cinder {
				path = fmt.Sprintf(w.path, middle)
			}
			request := z.message("GET", "/v3/"+apiProject+"/"+path, z.read.Token, "",
				"OpenStack-API-Version: volume 3.60")
			r, err := z.load(ctx, load{Request: request, Status: 200, Concurrency: 1, Count: 200})
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			rounds[i] = append(rounds[i], r.P50)
		}
	}
	for i := range rounds {
		took[i] = append(took[i], median(rounds[i]))
	}
	return nil
}

// fillCatalog writes rows of volumes by SQL, without the indexes, which are made
// at the end. Their bytes are nowhere; no request here asks for them.
func fillCatalog(ctx context.Context, path string, volumes int) (err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(0)&_pragma=cache_size(-200000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	var again []string
	rows, err := db.QueryContext(ctx, `SELECT name, type, sql FROM sqlite_master
		WHERE tbl_name = 'volumes' AND type = 'index' AND sql IS NOT NULL`)
	if err != nil {
		return err
	}
	var statements []string
	for rows.Next() {
		var name, kind, text string
		if err := rows.Scan(&name, &kind, &text); err != nil {
			return err
		}
		statements, again = append(statements, "DROP "+kind+" "+name), append(again, text)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	statements = append(
		statements,
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO volumes (id, project_id, user_id, name, size, status, type_id, backend, availability_zone, bootable,
			multiattach, encrypted, readonly, metadata, image_metadata, replication_status, epoch, created_at)
		SELECT printf('%%08d-0000-4000-8000-000000000000', i), '%s', 'u', 'volume-' || (i * 7919 %% 1000003), 1,
			CASE i %% 10 WHEN 0 THEN 'in-use' ELSE 'available' END, '%s', 'ssd', 'bench-a', 0, 0, 0, 0, '{}', '{}',
			'disabled', 1, 1700000000000000 + i * 1000 FROM n`, volumes, apiProject, apiType),
	)
	for _, statement := range append(statements, again...) {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.60s: %w", statement, err)
		}
	}
	return nil
}
