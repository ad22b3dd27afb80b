package kvol

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"kvol/internal/block"
)

// query reads parameters. The first that is wrong sticks in err; unknown ones
// are ignored, and of several with one name the first counts. used holds those
// that were read, for the audit log.
type query struct {
	values url.Values
	used   url.Values
	err    error
}

const (
	maxName  = 255 // bytes of a zone's name or an idempotency key
	maxLimit = 1000
)

func (q *query) fail(name, why string) {
	if q.err == nil {
		q.err = block.Errorf(block.Invalid, "%s %s", name, why)
	}
}

// text returns a parameter and whether it was given at all.
func (q *query) text(name string) (string, bool) {
	all := q.values[name]
	if len(all) == 0 {
		return "", false
	}
	q.used.Set(name, clip(all[0]))
	return all[0], true
}

// needed returns a parameter that must be given and not be empty.
func (q *query) needed(name string) string {
	text, _ := q.text(name)
	if text == "" {
		q.fail(name, "is required")
	}
	return text
}

// zone reads the name of a zone.
func (q *query) zone(name string) block.Zone {
	text := q.needed(name)
	if text != "" && !plain(text) {
		q.fail(name, "is not the name of a zone")
	}
	return block.Zone(text)
}

// anyZone reads the name of a zone that may be left out: absent, empty and
// "None" stand for all.
func (q *query) anyZone(name string) block.Zone {
	text, _ := q.text(name)
	if text == "" || text == "None" {
		return ""
	}
	return q.zone(name)
}

func plain(text string) bool {
	return len(text) <= maxName && utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r)
	}) < 0
}

// id reads a UUID, dashed or not.
func (q *query) id(name string) string {
	text := q.needed(name)
	if text == "" {
		return ""
	}
	id, ok := block.ParseID(text)
	if !ok {
		q.fail(name, "must be a UUID")
	}
	return id
}

// project reads the id of a tenant.
func (q *query) project(name string) block.ProjectID {
	text := q.needed(name)
	if text == "" {
		return ""
	}
	id, ok := block.ParseProjectID(text)
	if !ok {
		q.fail(name, "must be 32 hexadecimal digits or a UUID")
	}
	return id
}

// yes reads yes or no; no if it was not given.
func (q *query) yes(name string) bool {
	text, given := q.text(name)
	if given && !strings.EqualFold(text, "yes") && !strings.EqualFold(text, "no") {
		q.fail(name, "must be yes or no")
	}
	return strings.EqualFold(text, "yes")
}

// number reads digits; otherwise if they were not given.
func (q *query) number(name string, low, high, otherwise int64) int64 {
	text, given := q.text(name)
	if !given {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || int64(n) < low || int64(n) > high {
		if high == maxLimit {
			q.fail(name, "must be a number from 1 to 1000")
		} else {
			q.fail(name, "must be a number that is not negative")
		}
		return otherwise
	}
	return int64(n)
}
