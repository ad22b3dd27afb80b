package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
)

// paper is what is measured.
type paper struct {
	rows  []table.Row
	quiet bool // nothing is said on the way
}

func (p *paper) note(what string, value any, unit string) {
	p.rows = append(p.rows, table.Row{what, value, unit})
	p.say(fmt.Sprintf("%s: %v %s", what, value, unit))
}

// say tells how far it is.
func (p *paper) say(text string) {
	if !p.quiet {
		fmt.Fprintln(os.Stderr, text)
	}
}

// value is what was noted of something, or nil.
func (p *paper) value(what string) any {
	for _, row := range p.rows {
		if row[0] == what {
			return row[1]
		}
	}
	return nil
}

func (p *paper) print(to io.Writer) {
	t := table.NewWriter()
	t.SetOutputMirror(to)
	t.AppendHeader(table.Row{"What", "Figure", "Unit"})
	t.AppendRows(p.rows)
	t.Render()
}

// times notes how long a question takes that is asked again and again, and how
// many statements that is.
func (l *lab) times(what string, rounds int, ask func(i int) error) error {
	return l.timesAfter(what, rounds, func(int) error { return nil }, ask)
}

// timesAfter is times where something is done before each question that is not
// measured.
func (l *lab) timesAfter(what string, rounds int, before, ask func(i int) error) error {
	took := make([]time.Duration, rounds)
	asked, cost := 0, time.Duration(0)
	for i := range took {
		if err := before(i); err != nil {
			return fmt.Errorf("before %s: %w", what, err)
		}
		count, used, began := l.seen.count(), processor(), time.Now()
		if err := ask(i); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		took[i] = time.Since(began)
		cost += processor() - used
		asked += l.seen.count() - count
	}
	statements := float64(asked) / float64(rounds)
	cost /= time.Duration(rounds)
	slices.Sort(took)
	l.paper.note(what+", p50", milliseconds(took[len(took)/2]), "ms")
	l.paper.note(what+", p99", milliseconds(took[len(took)*99/100]), "ms")
	l.paper.note(what+", processor", milliseconds(cost), "ms")
	l.paper.note(what+", statements", fmt.Sprintf("%.1f", statements), "")
	return nil
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.3f", float64(d)/float64(time.Millisecond))
}

// bytesOf is how large a catalog is, without what is free in it.
func bytesOf(ctx context.Context, path string) (n int64, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return n, db.QueryRowContext(ctx, `SELECT (page_count - freelist_count) * page_size
		FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()`).Scan(&n)
}

// heap is how many bytes are reachable.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// resident is how many bytes of memory the process ever had at once.
func resident() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Maxrss << 10
}

// processor is how much of it the process used.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// statements are those that a catalog ran. Its methods may be called at once.
type statements struct {
	mu sync.Mutex // guards all below
	n  int
	of map[string]int // by text, since keep; nil: only counted

	beats int // heartbeats of other zones that were taken in

	ever map[string]bool // texts; nil: not kept
}

func (s *statements) saw(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	word, _, _ := strings.Cut(text, " ")
	if word == "BEGIN" || word == "COMMIT" || word == "ROLLBACK" {
		return
	}
	if strings.HasPrefix(text, "UPDATE replicas SET current_at") {
		s.beats++
	}
	if s.n++; s.of != nil {
		s.of[text]++
	}
	if s.ever != nil {
		s.ever[text] = true
	}
}

func (s *statements) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// keep has texts kept from now on, and returns those there were.
func (s *statements) keep() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.of
	s.of = map[string]int{}
	return was
}

// most are the texts that ran most often.
func most(of map[string]int, n int) (lines []string) {
	for text, times := range of {
		lines = append(lines, fmt.Sprintf("%8d %s", times, strings.Join(strings.Fields(text), " ")))
	}
	slices.SortFunc(lines, func(a, b string) int { return -cmp.Compare(a, b) })
	return lines[:min(n, len(lines))]
}
