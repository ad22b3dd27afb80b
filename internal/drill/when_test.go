package drill

import (
	"testing"
	"time"

	"kvol/internal/block"
)

func TestWhen(t *testing.T) {
	after := time.Date(2026, 11, 22, 10, 30, 20, 0, time.UTC) // a Sunday
	for text, want := range map[string]string{
		"every 90m":                  "2026-11-22T12:00:20Z",
		"* * * * *":                  "2026-11-22T10:31:00Z",
		"30 3 * * *":                 "2026-11-23T03:30:00Z",
		"30 10 * * *":                "2026-11-23T10:30:00Z",
		"*/20 10-11 * * *":           "2026-11-22T10:40:00Z",
		"0 0 1 1 *":                  "2027-01-01T00:00:00Z",
		"0 12 29 2 *":                "2028-02-29T12:00:00Z",
		"15,45 * * * 1-5":            "2026-11-23T00:15:00Z",
		"0 4 * * 7":                  "2026-11-29T04:00:00Z", // Sunday is 0 and 7
		"0 4 * * 0":                  "2026-11-29T04:00:00Z",
		"0 0 25 * 2":                 "2026-11-24T00:00:00Z", // either will do where both are limited
		"0 0 */30 * 2":               "2026-12-01T00:00:00Z", // and both where one begins with *
		"5/25 9 * * *":               "2026-11-23T09:05:00Z",
		"  0   0  1-7   12    *    ": "2026-12-01T00:00:00Z",
	} {
		w, err := ParseWhen(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := w.Next(after).Format(time.RFC3339); got != want {
			t.Errorf("%q comes at %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "every", "every 59s", "every 9000h", "every x", "* * * *", "* * * * * *",
		"60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "+1 * * * *",
		"1,, * * * *",
		"a * * * *", "0 0 30 2 *", "-1 * * * *"} {
		if w, err := ParseWhen(text); !block.Is(err, block.Invalid) {
			t.Errorf("%q: %+v, %v", text, w, err)
		}
	}
}

// FuzzWhen: whatever is taken comes again and again, in whole minutes.
func FuzzWhen(f *testing.F) {
	for _, text := range []string{"every 1h", "*/5 0-6 1,15 * 1-5", "0 0 29 2 *", "0 0 31 4 *"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWhen(text)
		if err != nil {
			if !block.Is(err, block.Invalid) {
				t.Fatal(err)
			}
			return
		}
		at := time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC)
		for range 3 {
			next := w.Next(at)
			if !next.After(at) || w.every == 0 && !next.Equal(next.Truncate(time.Minute)) {
				t.Fatalf("%q: %s after %s", text, next, at)
			}
			at = next
		}
	})
}
