package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
)

// tally is what a member did in a stretch of time, or has at its end.
type tally struct {
	statements, beats, wired int
	dialled                  int
	rows, bytes              int64           // of the catalog
	ages                     []time.Duration // since when the others know of it, in order
}

// counts are what a member did so far.
func (one *member) counts() tally {
	one.seen.mu.Lock()
	defer one.seen.mu.Unlock()
	return tally{statements: one.seen.n, beats: one.seen.beats, wired: int(one.wired.Load()),
		dialled: int(one.dialled.Load())}
}

// runMesh makes zones, has them replicate to each other, asks each what a single
// zone is asked, and prints what all that took.
func runMesh(ctx context.Context, s size, dir string, p *paper, to io.Writer) (err error) {
	before := heap()
	m, err := join(ctx, s, dir, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	m.start()
	if err := m.firstCopies(ctx); err != nil {
		return err
	}
	links := int64(max(1, s.zones*(s.zones-1)*s.each))
	grown := heap() - before
	p.note("heap of all zones, with their stores in memory", grown>>20, "MiB")
	p.note("heap for a link, at both ends", grown/links, "bytes")
	p.note("resident memory of the process", resident()>>20, "MiB")
	all, err := m.watchIdle(ctx)
	if err != nil {
		return err
	}
	if err := m.questions(ctx); err != nil {
		return err
	}
	m.halt()
	if err := errors.Join(m.tidying(ctx), m.documents(ctx), m.health(ctx)); err != nil {
		return err
	}
	p.print(to)
	m.print(all, to)
	return nil
}

// firstCopies waits until each zone has all volumes of the others.
func (m *mesh) firstCopies(ctx context.Context) error {
	began, used, asked := time.Now(), processor(), m.asked()
	links := m.zones * (m.zones - 1) * m.each
	for left, told := links, began; left > 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(2*time.Second, time.Millisecond*time.Duration(max(50, links/50)))):
		}
		left = links
		for _, one := range m.members {
			for _, st := range one.sender.Status() {
				if !st.ReplicatedTo.IsZero() {
					left--
				}
			}
		}
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			m.paper.say(fmt.Sprintf("%d of %d first copies are to be made", left, links))
		}
	}
	n := float64(max(1, links))
	m.paper.note("first copies of empty volumes", fmt.Sprintf("%.0f", n/time.Since(began).Seconds()), "/s")
	m.paper.note("processor for a first copy, both ends", fmt.Sprintf("%.3f", 1000*(processor()-used).Seconds()/n), "ms")
	m.paper.note("statements for a first copy, both ends", fmt.Sprintf("%.1f", float64(m.asked()-asked)/n), "")
	return nil
}

func (m *mesh) asked() (n int) {
	for _, one := range m.members {
		n += one.seen.count()
	}
	return n
}

// watchIdle lets nothing change, and tells what each zone did.
func (m *mesh) watchIdle(ctx context.Context) ([]tally, error) {
	before := make([]tally, len(m.members))
	for i, one := range m.members {
		before[i] = one.counts()
	}
	began, used := time.Now(), processor()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(m.watch):
	}
	took, cost := time.Since(began).Seconds(), (processor() - used).Seconds()
	var sum tally
	all := make([]tally, len(m.members))
	now := time.Now()
	for i, one := range m.members {
		t := one.counts()
		t.statements, t.beats = t.statements-before[i].statements, t.beats-before[i].beats
		t.wired -= before[i].wired
		for _, st := range one.sender.Status() {
			t.ages = append(t.ages, now.Sub(st.ReplicatedTo))
		}
		slices.Sort(t.ages)
		sum.statements, sum.beats, sum.wired = sum.statements+t.statements, sum.beats+t.beats, sum.wired+t.wired
		sum.dialled += t.dialled
		sum.ages = append(sum.ages, t.ages...)
		all[i] = t
	}
	slices.Sort(sum.ages)
	per := func(n int) string { return fmt.Sprintf("%.1f", float64(n)/took) }
	m.paper.note("idle replication, all zones, statements", per(sum.statements), "/s")
	m.paper.note("idle replication, all zones, heartbeats", per(sum.beats), "/s")
	m.paper.note("idle replication, all zones, bytes on the wire", per(sum.wired), "/s")
	m.paper.note("idle replication, all zones, processors", fmt.Sprintf("%.2f", cost/took), "")
	if sum.beats > 0 {
		n := float64(sum.beats)
		m.paper.note("processor for a heartbeat, both ends, with all else", fmt.Sprintf("%.3f", 1000*cost/n), "ms")
		m.paper.note("statements for a heartbeat, both ends", fmt.Sprintf("%.1f", float64(sum.statements)/n), "")
		m.paper.note("bytes on the wire for a heartbeat", sum.wired/sum.beats, "")
	}
	m.paper.note("connections that were made, all zones", sum.dialled, "")
	if n := len(sum.ages); n > 0 {
		m.paper.note("idle replication, known up to, p50", sum.ages[n/2].Round(time.Millisecond), "ago")
		m.paper.note("idle replication, known up to, p99", sum.ages[n*99/100].Round(time.Millisecond), "ago")
		m.paper.note("idle replication, known up to, worst", sum.ages[n-1].Round(time.Millisecond), "ago")
	}
	for i, one := range m.members {
		var err error
		if all[i].rows, err = rowsOf(ctx, one.path); err != nil {
			return nil, err
		}
		if all[i].bytes, err = bytesOf(ctx, one.path); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// questions asks each zone for pages and has it do jobs, beside the replication of
// all.
func (m *mesh) questions(ctx context.Context) error {
	for _, one := range m.members {
		if err := errors.Join(one.lists(ctx), one.jobs(ctx)); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return nil
}

// tidying has each zone look once through the replicas that it has, as it does each
// minute.
func (m *mesh) tidying(ctx context.Context) error {
	asked, used := m.asked(), processor()
	for _, one := range m.members {
		if err := one.receiver.Tidy(ctx); err != nil {
			return err
		}
	}
	n := float64(max(1, m.zones*(m.zones-1)*m.each))
	m.paper.note("tidying a replica, once a minute, statements", fmt.Sprintf("%.1f", float64(m.asked()-asked)/n), "")
	m.paper.note("tidying a replica, processor", fmt.Sprintf("%.3f", 1000*(processor()-used).Seconds()/n), "ms")
	return nil
}

// documents has each zone say again what it tells the others every ten seconds, now
// that it has links.
func (m *mesh) documents(ctx context.Context) error {
	began, used := time.Now(), processor()
	for _, one := range m.members {
		if _, err := one.rules.Document(ctx); err != nil {
			return err
		}
	}
	n := time.Duration(len(m.members))
	m.paper.note("a zone's document, with links", milliseconds(time.Since(began)/n), "ms")
	m.paper.note("processor for that", milliseconds((processor()-used)/n), "ms")
	return nil
}

// health asks each zone how well all could be recovered that it sends and has,
// twice: the second time it knows whose the replicas are.
func (m *mesh) health(ctx context.Context) error {
	for _, one := range m.members {
		for _, what := range []string{"first health", "health"} {
			err := one.timesAfter(what, 1, func(int) error {
				one.ahead.Add(int64(2 * time.Second)) // an answer is good for a second
				return nil
			}, func(int) error {
				h, err := one.rules.Health(ctx, operator)
				if want := 2 * one.protected; err == nil && len(h.Volumes) != want {
					err = fmt.Errorf("%s knows of %d volumes and replicas, and not of %d", one.name, len(h.Volumes), want)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// print shows what each zone did and has.
func (m *mesh) print(all []tally, to io.Writer) {
	t := table.NewWriter()
	t.SetOutputMirror(to)
	t.AppendHeader(table.Row{"Zone", "Links", "Rows", "Catalog MB", "Document KB", "Statements/s", "Beats in/s",
		"Wire B/s", "Conns", "Up to p50", "Worst", "Page ms", "By name ms", "Job ms", "Jobs/s",
		"Health ms", "Its statements"})
	per := func(n int) string { return fmt.Sprintf("%.1f", float64(n)/m.watch.Seconds()) }
	for i, one := range m.members {
		c := all[i]
		row := table.Row{one.name, one.protected, c.rows, c.bytes >> 20, one.told >> 10, per(c.statements), per(c.beats),
			per(c.wired), c.dialled}
		if n := len(c.ages); n > 0 {
			row = append(row, c.ages[n/2].Round(100*time.Millisecond), c.ages[n-1].Round(100*time.Millisecond))
		}
		for _, what := range []string{"page of 50 from the middle, large tenant, p50",
			"page of 50 by name from the middle, large tenant, p50", "claiming a job, one at a time, p50",
			"jobs that the runner does, claimed and ended durably", "health, p50", "health, statements"} {
			row = append(row, one.paper.value(what))
		}
		t.AppendRow(row)
	}
	t.Render()
}

// rowsOf is how many rows a catalog has, in all tables.
func rowsOf(ctx context.Context, path string) (n int64, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	names, err := namesOf(ctx, db)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		var rows int64
		if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM "`+name+`"`).Scan(&rows); err != nil {
			return 0, err
		}
		n += rows
	}
	return n, nil
}

func namesOf(ctx context.Context, db *sql.DB) (names []string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT name FROM sqlite_master WHERE type = 'table'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
