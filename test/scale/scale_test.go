package main

import (
	"database/sql"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to ask how statements are run

	"kvol/internal/catalog"
)

// trial is a zone of a size in a test.
func trial(t *testing.T, s size) *lab {
	t.Helper()
	s.rounds, s.watch, s.projects, s.sample = 20, 2*time.Second, 20, 50
	l, err := build(t.Context(), s, t.TempDir(), &paper{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// figures are what was noted, as numbers.
func figures(t *testing.T, l *lab) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, row := range l.paper.rows {
		what, _ := row[0].(string)
		text, ok := row[1].(string)
		n, err := strconv.ParseFloat(text, 64)
		if ok && err == nil {
			out[what] = n
		}
	}
	return out
}

// TestQueriesDoNotGrow: what is asked of the catalog for a page, a place, a job
// or a link is as many statements in a zone of ten thousand volumes as in one of a
// hundred, and each of them goes by an index.
func TestQueriesDoNotGrow(t *testing.T) {
	ctx := t.Context()
	measure := func(s size) (*lab, map[string]float64) {
		l := trial(t, s)
		l.policy.Interval = time.Minute // or looks would count with first copies, on a machine that is slow with these
		l.seen.mu.Lock()
		l.seen.ever = map[string]bool{}
		l.seen.mu.Unlock()
		for _, part := range []func() error{func() error { return l.lists(ctx) }, func() error { return l.places(ctx) },
			func() error { return l.jobs(ctx) }, func() error { return l.replicate(ctx) },
			func() error { return l.health(ctx) }} {
			if err := part(); err != nil {
				t.Fatal(err)
			}
		}
		return l, figures(t, l)
	}
	_, few := measure(size{volumes: 100, protected: 10, ended: 100, waiting: 100})
	l, many := measure(size{volumes: 10_000, protected: 40, ended: 500, waiting: 200})
	compared := 0
	for what, n := range many {
		if !strings.Contains(what, "statements") || strings.HasPrefix(what, "idle") {
			continue
		}
		compared++
		if before := few[what]; n > 1.2*before+1 {
			t.Errorf("%s: %.1f of ten thousand volumes, %.1f of a hundred", what, n, before)
		}
	}
	if compared < 19 {
		t.Errorf("only %d figures were compared: %v", compared, slices.Sorted(maps.Keys(many)))
	}
	l.policy.Interval = time.Second
	if err := l.replicate(ctx); err != nil { // which asks what is asked of replicas that rest
		t.Fatal(err)
	}
	wantIndexed(t, l)
}

// large are the tables of which nothing that runs often may read all.
var large = []string{"volumes", "snapshots", "attachments", "jobs", "links", "replicas", "points"}

// wholly are statements that do read all of a table, and when.
var wholly = []string{
	"FROM links ORDER BY volume_id, protection", // once, when the sender starts; and each look at health
	"FROM replicas ORDER BY created_at, id",     // each look at health
	"(gone OR volume_id NOT IN (SELECT id FROM", // each visit of the doctor
	"UNION ALL SELECT id, backend, '', TRUE",    // the same
}

// wantIndexed asks SQLite how it runs each statement that was seen.
func wantIndexed(t *testing.T, l *lab) {
	t.Helper()
	l.seen.mu.Lock()
	seen := maps.Clone(l.seen.ever)
	l.seen.mu.Unlock()
	if len(seen) < 30 {
		t.Errorf("only %d statements were seen", len(seen))
	}
	db, err := sql.Open("sqlite", l.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for text := range seen {
		if slices.ContainsFunc(wholly, func(part string) bool { return strings.Contains(text, part) }) {
			continue
		}
		word, _, _ := strings.Cut(strings.TrimSpace(text), " ")
		if !slices.Contains([]string{"SELECT", "UPDATE", "DELETE", "WITH"}, word) {
			continue
		}
		for _, step := range planOf(t, db, text) {
			for _, name := range large {
				if strings.HasPrefix(step+" ", "SCAN "+name+" ") && !strings.Contains(step, "USING") {
					t.Errorf("%s\n  reads all of %s: %s", text, name, step)
				}
			}
		}
	}
}

func planOf(t *testing.T, db *sql.DB, text string) (steps []string) {
	t.Helper()
	params := 0
	for _, match := range regexp.MustCompile(`\$(\d+)`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		params = max(params, n)
	}
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, slices.Repeat([]any{1}, params)...)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer rows.Close()
	for rows.Next() {
		var n int
		var step string
		if err := rows.Scan(&n, &n, &n, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	return steps
}

// TestBulkIsCounted: what is written past the catalog is in its accounts.
func TestBulkIsCounted(t *testing.T) {
	l := trial(t, size{volumes: 2000, protected: 10})
	err := l.catalog.View(t.Context(), func(tx *catalog.Tx) error {
		rooms, err := tx.BackendRooms()
		var n int64
		for _, r := range rooms {
			n += r.Volumes
		}
		if n != 2000 {
			t.Errorf("%d volumes are known to lie somewhere", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
