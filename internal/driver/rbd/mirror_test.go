package rbd

import (
	"encoding/json"
	"testing"

	"kvol/internal/block"
)

// TestMirrorState reads what `rbd snap ls --all` of Ceph 16 prints of copies.
func TestMirrorState(t *testing.T) {
	const user = `{"id":4,"name":"p1","size":67108864,"protected":"false","timestamp":"Sun Nov 22 15:49:36 2026",` +
		`"namespace":{"type":"user"}}`
	mirror := func(id, state, complete, primary string) string {
		return `{"id":` + id + `,"name":".mirror.x","size":67108864,"protected":"false","timestamp":"","namespace":{` +
			`"type":"mirror","state":"` + state + `","mirror_peer_uuids":[],"complete":` + complete +
			`,"primary_mirror_uuid":"8710abc3","primary_snap_id":` + primary + `,"last_copied_object_number":16}}`
	}
	there := mirror("6", "non-primary", "true", "7")
	for name, c := range map[string]struct {
		all   []string
		whole bool
		kind  block.Kind
	}{
		"nothing yet":              {nil, false, 0},
		"our snapshot came first":  {[]string{user}, false, 0},
		"under way":                {[]string{user, mirror("6", "non-primary", "false", "7")}, false, 0},
		"an earlier moment":        {[]string{user, mirror("6", "non-primary", "true", "6")}, false, 0},
		"the moment":               {[]string{user, there}, true, 0},
		"a later one is under way": {[]string{mirror("8", "non-primary", "false", "9"), there}, true, 0},
		"promoted":                 {[]string{there, mirror("8", "primary", "true", "0")}, false, block.Conflict},
		"demoted":                  {[]string{mirror("8", "demoted", "true", "0"), there}, false, block.Conflict},
	} {
		text := "["
		for i, s := range c.all {
			if i > 0 {
				text += ","
			}
			text += s
		}
		var all []mirrorSnap
		if err := json.Unmarshal([]byte(text+"]"), &all); err != nil {
			t.Fatal(err)
		}
		s, err := mirrorState("v", all, 7)
		if c.kind == 0 && err != nil || c.kind != 0 && !block.Is(err, c.kind) || err == nil && s.Whole != c.whole {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// TestParseWatchers reads what `rados listwatchers` of Ceph 16 prints.
func TestParseWatchers(t *testing.T) {
	got := parseWatchers([]byte("watcher=127.0.0.1:0/539564676 client.4137 cookie=94053799712384\n" +
		"watcher=[2001:db8::7]:0/12 client.9 cookie=1\n"))
	if len(got) != 2 || !got["127.0.0.1:0/539564676"] || !got["[2001:db8::7]:0/12"] {
		t.Errorf("%v", got)
	}
}
