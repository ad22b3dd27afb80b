package zonetest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
)

// Stock asks as a stock client does, by /v3 in the newest microversion.
func Stock(t *testing.T, s *client.Session, method, path, body string, want int, out any) string {
	t.Helper()
	base, err := s.URL("volumev3")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, base+"/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", s.Token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("OpenStack-API-Version", "volume 3.60")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != want {
		t.Fatalf("%s %s: %d %s, %v; want %d", method, path, answer.StatusCode, text, err, want)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return string(text)
}

// Grouped puts volumes of Alice's in a zone into a group that is to be replicated, and
// returns its id. Their type must have the extra spec replication_enabled.
func (c *Cloud) Grouped(t *testing.T, zone string, all []*Journey) string {
	t.Helper()
	admin, s := c.Session(zone, Admin), c.Session(zone, Alice)
	var out struct {
		Type  struct{ ID string }         `json:"group_type"`
		Group struct{ ID, Status string } `json:"group"`
	}
	var volumes []string
	for _, j := range all {
		volumes = append(volumes, j.Volume)
	}
	Stock(t, admin, "POST", "group_types", `{"group_type":{"name":"one instant"}}`, 202, &out)
	Stock(t, admin, "POST", "group_types/"+out.Type.ID+"/group_specs",
		`{"group_specs":{"consistent_group_replication_enabled":"<is> True"}}`, 202, nil)
	Stock(t, s, "POST", "groups", `{"group":{"name":"g","group_type":"`+out.Type.ID+`","volume_types":["`+
		TypeID(zone)+`"]}}`, 202, &out)
	settled := func() {
		if err := client.Poll(t.Context(), 5*time.Millisecond, func() (bool, error) {
			Stock(t, s, "GET", "groups/"+out.Group.ID, "", 200, &out)
			return out.Group.Status == "available", nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	settled()
	Stock(t, s, "PUT", "groups/"+out.Group.ID, `{"group":{"add_volumes":"`+strings.Join(volumes, ",")+`"}}`, 202, nil)
	settled()
	return out.Group.ID
}
