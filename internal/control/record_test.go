package control

import (
	"encoding/base64"
	"strings"
	"testing"

	"kvol/internal/backup"
)

// FuzzRecord: whatever an administrator is given to import is refused, or names
// a place in a repository, a size and ids that are such.
func FuzzRecord(f *testing.F) {
	f.Add(`{"id":"11111111-1111-1111-1111-111111111111","volume_id":"11111111-1111-1111-1111-111111111111","size":1,` +
		`"data_timestamp":"2026-01-01T00:00:00Z","location":"a/b","root":"` + strings.Repeat("ab", 32) + `"}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRecord(base64.StdEncoding.EncodeToString([]byte(text)))
		if err != nil {
			return
		}
		_, err = backup.ParseLocation(r.Location)
		if err != nil || r.Size < 1 || len(r.ID) != 36 || len(r.VolumeID) != 36 || strings.ContainsAny(string(r.ID), "/.") {
			t.Fatalf("%+v", r)
		}
	})
}
