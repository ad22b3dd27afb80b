package zonetest

import (
	"database/sql"
	"fmt"
	"path/filepath"
)

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
