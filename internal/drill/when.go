package drill

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"kvol/internal/block"
)

// When says at which instants something is due: after each stretch of time, or
// as five fields of cron say, in UTC.
type When struct {
	every time.Duration
	sets  [5]uint64 // minute, hour, day of the month, month, day of the week: a bit for each value
	days  bool      // day of the month and day of the week are both limited: either will do, as crontab(5) says
}

const (
	maxWhen   = 200 // bytes
	leastWhen = time.Minute
	mostWhen  = 366 * 24 * time.Hour
	// farthest is how far ahead an instant is looked for: leap days are eight years
	// apart at most.
	farthest = 9 * 366
)

// fields are the bounds of cron's five.
var fields = [5]struct {
	name     string
	min, max int
}{{"minute", 0, 59}, {"hour", 0, 23}, {"day of the month", 1, 31}, {"month", 1, 12}, {"day of the week", 0, 7}}

// ParseWhen reads "every 24h" (Go's durations, a minute at least) or five fields
// of cron: numbers, *, lists, ranges and steps. All else is Invalid, and so is
// what never comes.
func ParseWhen(text string) (w When, err error) {
	if len(text) > maxWhen {
		return w, block.Errorf(block.Invalid, "when has at most %d bytes.", maxWhen)
	}
	if every, ok := strings.CutPrefix(strings.TrimSpace(text), "every "); ok {
		w.every, err = time.ParseDuration(strings.TrimSpace(every))
		if err != nil || w.every < leastWhen || w.every > mostWhen {
			return w, block.Errorf(block.Invalid, "when: %q is no duration between %s and %s.", every, leastWhen, mostWhen)
		}
		return w, nil
	}
	parts := strings.Fields(text)
	if len(parts) != len(fields) {
		return w, block.Errorf(block.Invalid, "when is \"every DURATION\" or five fields: minute, hour, day of the month, "+
			"month, day of the week.")
	}
	for i, part := range parts {
		if w.sets[i], err = parseField(part, fields[i].min, fields[i].max); err != nil {
			return w, block.Errorf(block.Invalid, "when: %q is no %s.", part, fields[i].name)
		}
	}
	if w.sets[4]&(1<<7) != 0 { // Sunday is 0 and 7
		w.sets[4] = w.sets[4]&^(1<<7) | 1
	}
	w.days = !strings.HasPrefix(parts[2], "*") && !strings.HasPrefix(parts[4], "*")
	if w.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return w, block.Errorf(block.Invalid, "when: %q never comes.", text)
	}
	return w, nil
}

// parseField reads a list of numbers, ranges and steps as a set of bits.
func parseField(text string, least, most int) (set uint64, err error) {
	for item := range strings.SplitSeq(text, ",") {
		span, step, stepped := strings.Cut(item, "/")
		by := 1
		if stepped {
			if by, err = number(step, 1, most); err != nil {
				return 0, err
			}
		}
		from, to := least, most
		if span != "*" {
			low, high, ranged := strings.Cut(span, "-")
			if from, err = number(low, least, most); err != nil {
				return 0, err
			}
			switch {
			case ranged:
				if to, err = number(high, from, most); err != nil {
					return 0, err
				}
			case !stepped:
				to = from
			}
		}
		for n := from; n <= to; n += by {
			set |= 1 << n
		}
	}
	return set, nil
}

func number(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most || text[0] == '+' {
		return 0, block.Errorf(block.Invalid, "%q is not between %d and %d", text, least, most)
	}
	return n, nil
}

// Next is the first instant after another one; zero where there is none.
func (w When) Next(after time.Time) time.Time {
	after = after.UTC()
	if w.every > 0 {
		return after.Add(w.every)
	}
	t := after.Truncate(time.Minute).Add(time.Minute)
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	for range farthest {
		if w.on(day) {
			for minute := range 24 * 60 {
				at := day.Add(time.Duration(minute) * time.Minute)
				if !at.Before(t) && w.has(1, at.Hour()) && w.has(0, at.Minute()) {
					return at
				}
			}
		}
		day = day.AddDate(0, 0, 1)
	}
	return time.Time{}
}

// on reports whether a day is one of those that are meant.
func (w When) on(day time.Time) bool {
	month, week := w.has(2, day.Day()), w.has(4, int(day.Weekday()))
	if !w.has(3, int(day.Month())) {
		return false
	}
	if w.days {
		return month || week
	}
	return month && week
}

func (w When) has(field, value int) bool { return w.sets[field]&(1<<value) != 0 }

// Spread is the time between the first and the last of some instants.
func Spread(all []time.Time) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return slices.MaxFunc(all, time.Time.Compare).Sub(slices.MinFunc(all, time.Time.Compare))
}
