package zonetest

import (
	"database/sql"
	"fmt"
	"path/filepath"
)

// ByHand changes a catalog as somebody would who has the file and not kvol. The
// zone must not run.
func (c *Cloud) ByHand(name string, statements ...string) {
	c.t.Helper()
	if c.Running(name) {
		c.t.Fatalf("zone %s runs", name)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(c.zones[name].config.DataDir, "catalog.db"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			c.t.Fatalf("%s: %v", s, err)
		}
	}
}

// Rows are all rows of some tables of a zone's catalog, as texts, so that a test
// can tell whether something changed.
func (c *Cloud) Rows(name string, tables ...string) (rows []string) {
	c.t.Helper()
	path := filepath.Join(c.zones[name].config.DataDir, "catalog.db")
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		c.t.Fatal(err)
	}
	defer db.Close()
	for _, table := range tables {
		found, err := db.Query("SELECT * FROM " + table)
		if err != nil {
			c.t.Fatal(err)
		}
		columns, err := found.Columns()
		if err != nil {
			c.t.Fatal(err)
		}
		for found.Next() {
			values := make([]any, len(columns))
			into := make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			if err := found.Scan(into...); err != nil {
				c.t.Fatal(err)
			}
			rows = append(rows, table+fmt.Sprintf("%v", values))
		}
		if err := found.Err(); err != nil {
			c.t.Fatal(err)
		}
		found.Close()
	}
	return rows
}

// Value is a text that a query of a zone's catalog finds.
func (c *Cloud) Value(name, query string) (text string) {
	c.t.Helper()
	path := filepath.Join(c.zones[name].config.DataDir, "catalog.db")
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		c.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query).Scan(&text); err != nil {
		c.t.Fatalf("%s: %v", query, err)
	}
	return text
}
