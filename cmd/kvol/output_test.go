package main

import "testing"

func TestPairs(t *testing.T) {
	if text := pairs(map[string]string{"owner": "alice", "a": ""}); text != "a=, owner=alice" {
		t.Errorf("metadata is printed as %q", text)
	}
	if text := pairs(nil); text != "" {
		t.Errorf("no metadata is printed as %q", text)
	}
}
