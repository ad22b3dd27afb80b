package drill

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"seconds": seconds, "bytes": bytesText, "clock": clock, "ratio": ratio,
}).Parse(pageText))

// Page writes a report as a page of HTML that needs nothing else.
func Page(w io.Writer, r Report) error { return page.Execute(w, r) }

// seconds is a length of time as people read it.
func seconds(v any) string {
	var s float64
	switch v := v.(type) {
	case float64:
		s = v
	case *float64:
		if v == nil {
			return "–"
		}
		s = *v
	}
	switch {
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 600:
		return fmt.Sprintf("%.2f s", s)
	}
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

// bytesText is a number of bytes as people read it.
func bytesText(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " bytes"
	}
	units, unit, v := []string{"KiB", "MiB", "GiB", "TiB"}, 0, float64(n)/1024
	for ; v >= 1024 && unit < len(units)-1; unit++ {
		v /= 1024
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + " " + units[unit]
}

func clock(v any) string {
	switch t := v.(type) {
	case time.Time:
		return t.UTC().Format("2006-01-02 15:04:05.000")
	case *time.Time:
		if t != nil {
			return t.UTC().Format("2006-01-02 15:04:05.000")
		}
	}
	return "–"
}

// ratio is how much worse one figure is than another.
func ratio(during, before float64) string {
	if before <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", during/before)
}
