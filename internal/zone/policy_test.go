package zone_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/client"
	"kvol/internal/zone"
)

// TestPolicyFile runs a zone whose operator has rules of its own, and changes
// them meanwhile.
func TestPolicyFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("kvol.yaml", fmt.Sprintf(lonely, "policy: {file: policy.yaml}"))
	c, err := zone.LoadConfig(filepath.Join(dir, "kvol.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	write("policy.yaml", `"volume:create": "http://server/"`)
	if _, err := zone.Open(t.Context(), c, zone.Environment{}); err == nil ||
		!strings.Contains(err.Error(), "would ask a server") {
		t.Fatalf("a zone starts with a broken policy: %v", err)
	}
	write("policy.yaml", `"volume:create": "role:maker"`)
	reload := make(chan struct{})
	s, err := zone.Open(t.Context(), c, zone.Environment{Reload: reload})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	user, err := client.Login(t.Context(), client.Auth{URL: s.URL() + "/identity", User: "alice",
		Password: "a long password", Project: "blue"})
	if err != nil {
		t.Fatal(err)
	}
	create := func() error {
		_, err := user.CreateVolume(t.Context(), client.NewVolume{Name: "v", Size: 1})
		return err
	}
	const refused = "Policy doesn't allow volume:create to be performed."
	if err := create(); err == nil || !strings.Contains(err.Error(), refused) {
		t.Errorf("without the role: %v", err)
	}
	read := func() { // the second message is taken when the first was served
		reload <- struct{}{}
		reload <- struct{}{}
	}
	write("policy.yaml", `"volume:create": "role:`)
	read()
	if err := create(); err == nil || !strings.Contains(err.Error(), refused) {
		t.Errorf("with a broken file: %v", err)
	}
	if m := metrics(t, s.URL()); !strings.Contains(m, "kvol_policy_file_broken 1") {
		t.Error("the metrics do not tell of the broken file")
	}
	write("policy.yaml", "{}")
	read()
	if err := create(); err != nil {
		t.Errorf("with the defaults: %v", err)
	}
	if m := metrics(t, s.URL()); !strings.Contains(m, "kvol_policy_file_broken 0") {
		t.Error("the metrics tell of a broken file")
	}
}

func metrics(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
