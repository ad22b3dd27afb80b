package pace

import (
	"testing"
	"time"
)

func TestScheduleGoesByTheClockOnTheWall(t *testing.T) {
	office := Limit{Rate: 100 << 20, Schedule: Schedule{TimeZone: "Europe/Berlin", Windows: []Window{
		{Days: []string{"mon", "tue", "wed", "thu", "Fri"}, From: "08:00", To: "18:00", Rate: 5 << 20},
		{Days: []string{"sat"}, From: "22:00", To: "06:00", Rate: 0},
		{From: "23:00", To: "24:00", Rate: 7 << 20},
	}}}
	if err := office.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   string
		want int64
	}{
		{"2026-01-14T06:59:59Z", 100 << 20}, // a Wednesday in winter: 07:59:59
		{"2026-01-14T07:00:00Z", 5 << 20},
		{"2026-01-14T16:59:59Z", 5 << 20},
		{"2026-01-14T17:00:00Z", 100 << 20},
		{"2026-07-15T06:00:00Z", 5 << 20}, // in summer an hour earlier
		{"2026-07-15T16:00:00Z", 100 << 20},
		{"2026-01-17T12:00:00Z", 100 << 20}, // a Saturday
		{"2026-01-17T21:30:00Z", 0},         // from 22:00, the first window that applies
		{"2026-01-18T04:59:00Z", 0},         // and beyond midnight
		{"2026-01-18T05:00:00Z", 100 << 20},
		{"2026-01-18T22:30:00Z", 7 << 20}, // every day
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := office.At(at); got != c.want {
			t.Errorf("at %s: %d bytes a second, want %d", c.at, got, c.want)
		}
	}
}

func TestTheTightestHourOfTheNextDay(t *testing.T) {
	night := time.Date(2026, 1, 14, 3, 0, 30, 0, time.UTC)
	office := Limit{Rate: 8 << 20, Schedule: Schedule{Windows: []Window{{From: "08:00", To: "18:00", Rate: 1 << 20}}}}
	if r, at := office.Tightest(night, 24*time.Hour); r != 1<<20 || !at.Equal(night.Truncate(time.Hour).Add(5*time.Hour)) {
		t.Errorf("%d bytes a second from %s", r, at)
	}
	if r, at := office.Tightest(night, time.Hour); r != 8<<20 || !at.Equal(night) {
		t.Errorf("within an hour %d bytes a second from %s", r, at)
	}
	if r, _ := (Limit{}).Tightest(night, 24*time.Hour); r != 0 {
		t.Errorf("without a limit %d bytes a second", r)
	}
}

func TestLimitsThatMakeNoSense(t *testing.T) {
	window := func(w Window) Limit { return Limit{Schedule: Schedule{Windows: []Window{w}}} }
	for name, l := range map[string]Limit{
		"too little":   {Rate: MinRate - 1},
		"negative":     {CopyRate: -1},
		"too much":     {Rate: MaxRate + 1},
		"a weight":     {Weight: MaxWeight + 1},
		"no time zone": {Schedule: Schedule{TimeZone: "Middle/Earth"}},
		"whose local":  {Schedule: Schedule{TimeZone: "Local"}},
		"no day":       window(Window{Days: []string{"monday"}, From: "08:00", To: "18:00"}),
		"no time":      window(Window{From: "8", To: "18:00"}),
		"no hour":      window(Window{From: "08:00", To: "25:00"}),
		"from the end": window(Window{From: "24:00", To: "01:00"}),
		"its rate":     window(Window{From: "08:00", To: "18:00", Rate: 1}),
		"many windows": {Schedule: Schedule{Windows: make([]Window, MaxWindows+1)}},
	} {
		if l.Check() == nil {
			t.Errorf("%s: %+v is taken", name, l)
		}
	}
}
