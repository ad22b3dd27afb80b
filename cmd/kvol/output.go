package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// output prints results as the user asked: a table to read, or JSON for
// programs.
type output struct {
	format string
}

// check refuses a form that nobody knows.
func (o *output) check() error {
	if o.format != "table" && o.format != "json" {
		return fmt.Errorf("--output %q is neither table nor json", o.format)
	}
	return nil
}

// rows prints a list. value is what JSON shows; header and row what the table
// shows.
func (o *output) rows(w io.Writer, value any, header table.Row, rows []table.Row) error {
	switch o.format {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(value)
	case "table":
		t := table.NewWriter()
		t.SetOutputMirror(w)
		t.SetStyle(table.StyleDefault)
		t.Style().Format.Header = text.FormatDefault
		t.AppendHeader(header)
		t.AppendRows(rows)
		t.Render()
		return nil
	}
	return fmt.Errorf("--output %q is neither table nor json", o.format)
}

// one prints a single thing as a table of fields and values.
func (o *output) one(w io.Writer, value any, fields ...[2]any) error {
	rows := make([]table.Row, 0, len(fields))
	for _, f := range fields {
		rows = append(rows, table.Row{f[0], f[1]})
	}
	return o.rows(w, value, table.Row{"Field", "Value"}, rows)
}

// text shows a nullable string.
func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// pairs prints metadata in the order of its keys.
func pairs(m map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return strings.Join(all, ", ")
}

// waiter shows on a terminal that something is under way, with the time it
// has taken; elsewhere it prints each change of status on a line.
type waiter struct {
	w        io.Writer
	what     string
	last     string
	progress progress.Writer
	tracker  *progress.Tracker
}

// waiting starts a waiter on standard error, so that standard output keeps
// only the result.
func waiting(what string) *waiter {
	w := &waiter{w: os.Stderr, what: what}
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return w
	}
	w.progress = progress.NewWriter()
	w.progress.SetOutputWriter(os.Stderr)
	w.progress.SetUpdateFrequency(100 * time.Millisecond)
	w.progress.SetTrackerLength(20)
	w.progress.SetStyle(progress.StyleBlocks)
	w.progress.Style().Visibility.Percentage = false
	w.progress.Style().Visibility.Value = false
	w.tracker = &progress.Tracker{Message: what}
	w.progress.AppendTracker(w.tracker)
	go w.progress.Render()
	return w
}

// saw tells of the present status.
func (w *waiter) saw(status string) {
	if status == w.last {
		return
	}
	w.last = status
	if w.tracker != nil {
		w.tracker.UpdateMessage(w.what + ": " + status)
		return
	}
	fmt.Fprintf(w.w, "%s: %s\n", w.what, status)
}

// done ends the waiter.
func (w *waiter) done(err error) {
	if w.tracker == nil {
		return
	}
	if err != nil {
		w.tracker.MarkAsErrored()
	} else {
		w.tracker.MarkAsDone()
	}
	for w.progress.IsRenderInProgress() && w.progress.LengthActive() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	w.progress.Stop()
}
