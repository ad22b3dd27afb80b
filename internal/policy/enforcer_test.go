package policy_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/policy"
)

// TestReload changes the file of a running enforcer. Run reads it when asked,
// one message after another: when the second is taken the first was served.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := policy.New(policy.Config{Path: path}); err == nil {
		t.Error("a file that is not there is read")
	}
	write(`"volume:create": "role:`)
	if _, err := policy.New(policy.Config{Path: path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a broken file at the start: %v", err)
	}
	write(`"volume:create": "!"`)
	var log bytes.Buffer
	outcomes := make(chan error, 10)
	e, err := policy.New(policy.Config{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Observe: func(err error) { outcomes <- err }})
	if err != nil {
		t.Fatal(err)
	}
	may := func() bool { return e.Rules().Allows(as("member"), "volume:create", "", policy.Self(as("member"))) }
	if may() {
		t.Fatal("the file is not read")
	}
	ctx, stop := context.WithCancel(t.Context())
	asked, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- e.Run(ctx, asked) }()
	before := e.Rules()
	write(`"volume:create": "role:`)
	asked <- struct{}{}
	if err := <-outcomes; err == nil {
		t.Error("a broken file is no error")
	}
	if may() || e.Rules() != before {
		t.Error("a broken file changes the rules")
	}
	write(`"volume:create": "@"` + "\n" + `"volume:creat": "@"`)
	asked <- struct{}{}
	if err := <-outcomes; err != nil || !may() {
		t.Errorf("the repaired file: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, want := range []string{"the policy file is broken", "there is no rule volume:creat"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, &log)
		}
	}
}
