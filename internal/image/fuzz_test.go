package image

import (
	"encoding/json"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Whatever is sent as a new image or as a change is refused as such, or leads
// to an image within its limits that can be shown.
func FuzzBodies(f *testing.F) {
	for _, requests := range goldens {
		for _, q := range requests {
			f.Add([]byte(q.body))
		}
	}
	f.Add([]byte(`{"name":null,"tags":null,"protected":null,"min_ram":1e3}`))
	f.Add([]byte(`[{"op":"add","path":"/tags","value":["a","a"]},{"op":"add","path":"/~0~1","value":""}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var members map[string]json.RawMessage
		if decodeBytes(body, &members) == nil {
			i, err := parseImage(alice, members)
			i.Visibility = "private"
			if err == nil && check(alice, i) == nil {
				shown(t, body, i)
			} else if err != nil && block.KindOf(err) == block.Internal {
				t.Errorf("%s: %v", body, err)
			}
		}
		var operations []operation
		if decodeBytes(body, &operations) == nil {
			i := catalog.Image{ID: one, Status: active, Visibility: "private", Properties: map[string]string{"p": "v"}}
			if err := apply(alice, &i, operations); err == nil {
				shown(t, body, i)
			} else if block.KindOf(err) == block.Internal {
				t.Errorf("%s: %v", body, err)
			}
		}
	})
}

func shown(t *testing.T, body []byte, i catalog.Image) {
	t.Helper()
	if i.MinDisk < 0 || len(i.Tags) > maxTags || len(i.Properties) > maxProperties {
		t.Errorf("%s: beyond the limits: %+v", body, i)
	}
	if _, err := json.Marshal(view(i)); err != nil {
		t.Errorf("%s: %v", body, err)
	}
}

// Whatever is asked of the list is refused as such or is a bounded query.
func FuzzQuery(f *testing.F) {
	f.Add("limit=5&marker=x&sort=name:asc,size&tag=a&tag=b&size_min=3&visibility=all&os_type=linux")
	f.Add("sort_key=name&sort_key=size&sort_dir=asc")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err == nil && (q.Limit < 0 || q.Limit > pageMax || len(q.Sort) > maxFilters || len(q.Filters) > maxFilters) {
			t.Errorf("%q: %+v", raw, q)
		}
		if err != nil && !block.Is(err, block.Invalid) {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
