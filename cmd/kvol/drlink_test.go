package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kvol/internal/client"
)

func TestWindowsAsPeopleWriteThem(t *testing.T) {
	w, err := parseWindow("fri-mon 22:00-06:00 1.5MiB")
	if err != nil || !slices.Equal(w.Days, []string{"fri", "sat", "sun", "mon"}) || w.From != "22:00" || w.To != "06:00" ||
		w.Rate != 3<<19 {
		t.Errorf("%+v, %v", w, err)
	}
	if w, err = parseWindow("08:00-18:00 0"); err != nil || w.Days != nil || w.Rate != 0 {
		t.Errorf("%+v, %v", w, err)
	}
	if w, err = parseWindow("sat,sun 00:00-24:00 500KiB"); err != nil || len(w.Days) != 2 || w.Rate != 500<<10 {
		t.Errorf("%+v, %v", w, err)
	}
	for _, bad := range []string{"", "mon-fri", "someday 08:00-18:00 1MiB", "08:00 1MiB", "08:00-18:00 fast", "a b c d",
		"08:00-18:00 -1"} {
		if _, err := parseWindow(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A link of which nothing is confirmed shows no time, not the first one of the calendar.
func TestLinkWithoutAPoint(t *testing.T) {
	var l client.Link
	text := `{"volume_id": "v", "destination": "kilo1", "replicated_up_to": null, "transport": "stream", "confirmed": null}`
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q", linkRow(l)); got != `["v" "kilo1" "" "" ""]` {
		t.Error(got)
	}
	if out, err := json.Marshal(l); err != nil || strings.Contains(string(out), "0001") {
		t.Errorf("%s, %v", out, err)
	}
}
