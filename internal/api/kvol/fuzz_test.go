package kvol

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	"kvol/internal/block"
)

// FuzzQuery reads parameters of all kinds from any text: what passes is of the
// promised form, and what does not is Invalid with a sentence that names the
// parameter.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "mitaka1", "6a21db69-dc6b-4423-834c-679ae153a638", "6A21DB69DC6B4423834C679AE153A638", "yes", "No", "5", "-1",
		"1001", "9223372036854775808", "+5", "0x10", "None", "\x00", "\xff\xfe", "{6a21db69-dc6b-4423-834c-679ae153a638}",
		strings.Repeat("a", 300), "５", "1_000", " 5",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		read := func(fn func(*query)) *query {
			q := &query{values: url.Values{"p": {text}}, used: url.Values{}}
			fn(q)
			if message, ok := block.UserMessage(q.err); q.err != nil &&
				(!ok || !block.Is(q.err, block.Invalid) || !strings.HasPrefix(message, "p ")) {
				t.Errorf("%q: %v", text, q.err)
			}
			if len(q.used.Get("p")) > maxName {
				t.Errorf("%d bytes for the audit log", len(q.used.Get("p")))
			}
			return q
		}
		var id string
		if q := read(func(q *query) { id = q.id("p") }); q.err == nil {
			if again, ok := block.ParseID(id); !ok || again != id || len(id) != 36 {
				t.Errorf("%q is taken as id %q", text, id)
			}
		}
		var zone block.Zone
		if q := read(func(q *query) { zone = q.zone("p") }); q.err == nil && (zone == "" || len(zone) > maxName) {
			t.Errorf("%q is taken as zone %q", text, zone)
		}
		var yes bool
		if q := read(func(q *query) { yes = q.yes("p") }); q.err == nil && yes != strings.EqualFold(text, "yes") {
			t.Errorf("%q is taken as %v", text, yes)
		}
		var n int64
		if q := read(func(q *query) { n = q.number("p", 1, maxLimit, 5) }); q.err == nil {
			if m, err := strconv.ParseInt(text, 10, 64); err != nil || m != n || n < 1 || n > maxLimit {
				t.Errorf("%q is taken as %d", text, n)
			}
		}
		read(func(q *query) { q.project("p") })
		read(func(q *query) { q.anyZone("p") })
	})
}
