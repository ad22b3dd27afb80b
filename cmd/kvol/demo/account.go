package demo

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// account is what the demo tells while it goes: one line for each thing that
// was done, and at the end a table of everything that was compared.
type account struct {
	out    io.Writer
	start  time.Time
	now    func() time.Time
	checks []check
}

// check is one comparison and how it came out.
type check struct {
	what, saw string
	held      bool
}

func (a *account) chapter(n int, title string) {
	fmt.Fprintf(a.out, "\n%d. %s\n", n, title)
}

// did tells of one thing that was done.
func (a *account) did(format string, args ...any) {
	fmt.Fprintf(a.out, "   %6.1fs  %s\n", a.now().Sub(a.start).Seconds(), fmt.Sprintf(format, args...))
}

// compare notes a comparison, tells how it came out, and returns an error if
// it did not hold.
func (a *account) compare(what string, held bool, format string, args ...any) error {
	c := check{what: what, saw: fmt.Sprintf(format, args...), held: held}
	a.checks = append(a.checks, c)
	if !held {
		a.did("FAILED: %s: %s", what, c.saw)
		return fmt.Errorf("%s: %s", what, c.saw)
	}
	a.did("held: %s: %s", what, c.saw)
	return nil
}

// summary prints the table of comparisons and whether all held.
func (a *account) summary() {
	if len(a.checks) == 0 {
		return
	}
	t := table.NewWriter()
	t.SetOutputMirror(a.out)
	t.SetStyle(table.StyleDefault)
	t.Style().Format.Header = text.FormatDefault
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 2, WidthMax: 64}})
	t.AppendHeader(table.Row{"what was compared", "what was seen", "held"})
	for _, c := range a.checks {
		held := "yes"
		if !c.held {
			held = "NO"
		}
		t.AppendRow(table.Row{c.what, c.saw, held})
	}
	fmt.Fprintln(a.out)
	t.Render()
}

// size prints bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
