package catalog

import (
	"fmt"
	"testing"

	"kvol/internal/block"
)

// TestPins plays what holders and the tenant do to one snapshot: "+a" pins for
// a, "-a" unpins, "x" releases. Each step says what it returns.
func TestPins(t *testing.T) {
	for _, script := range [][]string{
		{"+a ok", "-a keep"},
		{"x delete", "x delete"},
		{"x delete", "+a gone", "x delete"},
		{"+a ok", "x keep", "-a delete", "-a delete", "+a gone"},
		{"+a ok", "+a ok", "x keep", "-a delete"},
		{"+a ok", "+b ok", "x keep", "x keep", "-a keep", "-a keep", "-b delete", "x delete"},
		{"+a ok", "x keep", "+b ok", "-a keep", "-b delete"},
		{"+a ok", "-b keep", "x keep", "-b keep", "-a delete"},
		{"+a ok", "-a keep", "x delete"},
		{"-a keep", "x delete"},
	} {
		t.Run(fmt.Sprint(script), func(t *testing.T) {
			c := memory(t)
			commit(t, c, func(tx *Tx) error { return tx.Pin("v", "other", "a") })
			commit(t, c, func(tx *Tx) error { return tx.Pin("other", "s", "a") })
			for _, step := range script {
				commit(t, c, func(tx *Tx) error { return playPin(t, tx, step) })
			}
		})
	}
}

func playPin(t *testing.T, tx *Tx, step string) error {
	var what, want string
	if _, err := fmt.Sscan(step, &what, &want); err != nil {
		return err
	}
	var got string
	var deleteNow bool
	var err error
	switch what[0] {
	case '+':
		got = "ok"
		if err = tx.Pin("v", "s", what[1:]); block.Is(err, block.NotFound) {
			wantError(t, err, block.NotFound, "Snapshot s could not be found.")
			got, err = "gone", nil
		}
	case '-':
		deleteNow, err = tx.Unpin("v", "s", what[1:])
		got = map[bool]string{false: "keep", true: "delete"}[deleteNow]
	case 'x':
		deleteNow, err = tx.ReleaseSnapshot("v", "s")
		got = map[bool]string{false: "keep", true: "delete"}[deleteNow]
	}
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
	return err
}
