package cinder_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// TestMessageVersions: messages are there from 3.3, paged and filtered from
// 3.5, their filters checked from 3.31, and never under /v2.
func TestMessageVersions(t *testing.T) {
	f := newFixture(t)
	var ids []string
	for i := range 3 {
		m := block.Message{ID: block.NewID(), Project: project, RequestID: "req-" + block.NewID(), ResourceType: "VOLUME",
			ResourceID: block.NewID(), Action: "007", Detail: "010", EventID: "VOLUME_VOLUME_007_010", Level: "ERROR",
			ExpiresAt: time.Now().Add(time.Hour)}
		if i == 2 {
			m.ResourceType = "VOLUME_SNAPSHOT"
		}
		ids = append(ids, m.ID)
		f.must(f.catalog.Update(t.Context(), func(tx *catalog.Tx) error { return tx.InsertMessage(m) }))
	}
	f.want(404, "GET", "messages", "")
	f.wantAt(2, "member", 404, "GET", "messages", "")
	a := f.wantAt(3, "member", 200, "GET", "messages/"+ids[0], "")
	want := []string{"created_at", "event_id", "guaranteed_until", "id", "links", "message_level", "request_id",
		"resource_type", "resource_uuid", "user_message"}
	if got := a.keys(t, "message"); !slices.Equal(got, want) {
		t.Errorf("keys %v", got)
	}
	if text := a.text(t, "message.user_message"); text != "extend volume:Volume Driver failed to extend volume." {
		t.Errorf("%q", text)
	}
	for _, tt := range []struct {
		minor int
		token string
		query string
		code  int
		n     int
	}{
		{3, "member", "", 200, 3}, {3, "member", "?limit=1", 200, 3}, {5, "member", "?limit=1", 200, 1},
		{5, "member", "?limit=x", 400, 0}, {5, "member", "?resource_type=VOLUME_SNAPSHOT", 200, 1},
		{5, "member", "?nope=1", 200, 3}, {31, "member", "?nope=1", 400, 0},
		{5, "member", "?marker=" + ids[1], 200, 1}, {5, "member", "?marker=" + noSuchID, 404, 0},
		{5, "reader", "", 200, 3}, {5, "admin", "", 200, 3}, {5, "other", "", 200, 0}, {5, "service", "", 403, 0},
	} {
		a := f.wantAt(tt.minor, tt.token, tt.code, "GET", "messages"+tt.query, "")
		if tt.code != 200 {
			continue
		}
		if list, _ := a.get(t, "messages").([]any); len(list) != tt.n {
			t.Errorf("%s in 3.%d of %s: %s", tt.query, tt.minor, tt.token, a.body)
		}
		if linked := strings.Contains(string(a.body), "messages_links"); linked != (tt.query == "?limit=1" && tt.n == 1) {
			t.Errorf("%s in 3.%d: %s", tt.query, tt.minor, a.body)
		}
	}
	f.wantAt(3, "other", 404, "DELETE", "messages/"+ids[0], "")
	f.wantAt(3, "reader", 403, "DELETE", "messages/"+ids[0], "")
	f.wantAt(3, "member", 204, "DELETE", "messages/"+ids[0], "")
	f.wantAt(3, "member", 404, "GET", "messages/"+ids[0], "")
}
