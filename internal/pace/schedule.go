package pace

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The bounds of a Limit. Less than MinRate would keep a peer waiting for longer
// than it is patient.
const (
	MinRate    = 16 << 10 // bytes a second
	MaxRate    = 1 << 40
	MaxWeight  = 1000
	MaxWindows = 32
)

// DefaultWeight is the weight of who was given none.
const DefaultWeight = 100

// Limit says how much may be sent.
type Limit struct {
	// Rate is how many bytes may go out in a second, on the wire; 0 for as many as
	// the network takes.
	Rate int64 `json:"rate,omitempty"`
	// CopyRate is the same for first copies alone, which count against Rate too.
	CopyRate int64 `json:"copy_rate,omitempty"`
	// Weight is the share that each volume gets where they are in each other's way,
	// beside those of other weights; DefaultWeight if 0.
	Weight int `json:"weight,omitempty"`
	// Schedule changes Rate by the hour.
	Schedule Schedule `json:"schedule,omitempty"`
}

// Schedule says at which hours another rate applies.
type Schedule struct {
	TimeZone string   `json:"time_zone,omitempty"` // a name of the IANA data base; UTC if empty
	Windows  []Window `json:"windows,omitempty"`   // the first that applies counts
}

// Window is a stretch of the day in which a rate applies.
type Window struct {
	Days []string `json:"days,omitempty"` // mon to sun, on which it begins; all if empty
	From string   `json:"from"`           // as 08:00
	To   string   `json:"to"`             // as 18:00, or 24:00; on the next day where it is not later than From
	Rate int64    `json:"rate"`           // bytes a second; 0 for no limit
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const day = 24 * 60 // minutes

// Check says what is wrong with a limit, in words for its author.
func (l Limit) Check() error {
	rates := []int64{l.Rate, l.CopyRate}
	if len(l.Schedule.Windows) > MaxWindows {
		return fmt.Errorf("a schedule has at most %d windows", MaxWindows)
	}
	if _, err := time.LoadLocation(l.Schedule.TimeZone); err != nil || strings.EqualFold(l.Schedule.TimeZone, "local") {
		return fmt.Errorf("time zone %q is unknown", l.Schedule.TimeZone)
	}
	for _, w := range l.Schedule.Windows {
		for _, d := range w.Days {
			if !slices.Contains(weekdays, strings.ToLower(d)) {
				return fmt.Errorf("%q is no day: mon, tue, wed, thu, fri, sat, sun", d)
			}
		}
		from, okFrom := minutes(w.From)
		_, okTo := minutes(w.To)
		if !okFrom || !okTo || from == day {
			return fmt.Errorf("a window is from a time such as 08:00 to one such as 18:00 or 24:00, not %q to %q", w.From, w.To)
		}
		rates = append(rates, w.Rate)
	}
	for _, r := range rates {
		if r != 0 && (r < MinRate || r > MaxRate) {
			return fmt.Errorf("a rate is 0 for no limit, or from %d to %d bytes a second", MinRate, int64(MaxRate))
		}
	}
	if l.Weight < 0 || l.Weight > MaxWeight {
		return fmt.Errorf("a weight is from 1 to %d", MaxWeight)
	}
	return nil
}

// minutes reads a time of day.
func minutes(text string) (int, bool) {
	if text == "24:00" {
		return day, true
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil
}

// At is the rate that applies at an instant, 0 for no limit. A limit that does
// not pass Check has the rate that it has outside of its windows.
func (l Limit) At(now time.Time) int64 {
	zone, err := time.LoadLocation(l.Schedule.TimeZone)
	if err != nil {
		return l.Rate
	}
	return l.in(now.In(zone))
}

// in is the rate at a local time.
func (l Limit) in(local time.Time) int64 {
	for _, w := range l.Schedule.Windows {
		if w.holds(local) {
			return w.Rate
		}
	}
	return l.Rate
}

// Tightest is the least rate of a stretch of time, and when that begins; 0 where
// nothing is limited in it.
func (l Limit) Tightest(now time.Time, ahead time.Duration) (rate int64, at time.Time) {
	if rate = l.At(now); len(l.Schedule.Windows) == 0 || rate != 0 && ahead <= 0 {
		return rate, now
	}
	zone, err := time.LoadLocation(l.Schedule.TimeZone)
	if err != nil {
		return rate, now
	}
	at = now
	for t := now.Truncate(time.Minute).Add(time.Minute); t.Before(now.Add(ahead)); t = t.Add(time.Minute) {
		if r := l.in(t.In(zone)); r != 0 && (rate == 0 || r < rate) {
			rate, at = r, t
		}
	}
	return rate, at
}

// holds reports whether a local time is within the window. A window goes by the
// clock on the wall: where that is set forward or back, it is as much shorter or
// longer.
func (w Window) holds(local time.Time) bool {
	from, _ := minutes(w.From)
	to, _ := minutes(w.To)
	at := local.Hour()*60 + local.Minute()
	if to > from {
		return at >= from && at < to && w.on(local.Weekday())
	}
	return at >= from && w.on(local.Weekday()) || at < to && w.on((local.Weekday()+6)%7)
}

func (w Window) on(d time.Weekday) bool {
	return len(w.Days) == 0 || slices.ContainsFunc(w.Days, func(s string) bool {
		return strings.EqualFold(s, weekdays[d])
	})
}

// weight is what a sender's share is multiplied with.
func (l Limit) weight() float64 {
	if l.Weight == 0 {
		return DefaultWeight
	}
	return float64(l.Weight)
}
