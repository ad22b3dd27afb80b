package openapi

import (
	"slices"
	"testing"
)

// TestMembers: pages name each member once, below what it belongs to.
func TestMembers(t *testing.T) {
	s := Object(map[string]Schema{
		"id":    Text.With("pattern", "^a").With("description", "its name"),
		"kind":  {"enum": []string{"one", "two"}},
		"parts": List(Object(map[string]Schema{"on": OrNull(Boolean)}, "on")),
		"some": {"type": "object", "properties": map[string]Schema{"a": Text}, "anyOf": []Schema{
			{"required": []string{"a"}}}},
		"texts": Texts,
		"by": {"type": "object", "additionalProperties": Object(map[string]Schema{
			"n": Whole.With("minimum", 1).With("maximum", 2147483647)})},
		"other": {"anyOf": []Schema{Text, Object(map[string]Schema{"x": Number})}},
	}, "kind")
	want := []member{{"the whole", 0, "object", true, ""},
		{"by", 1, "map to object", true, ""}, {"…", 2, "object", false, ""},
		{"n", 3, "integer", true, "at least 1; at most 2147483647"},
		{"id", 1, "string", true, "its name; matches ^a"}, {"kind", 1, "string", false, `one of "one", "two"`},
		{"other", 1, "string or object", true, ""}, {"either", 2, "object", false, ""}, {"x", 3, "number", true, ""},
		{"parts", 1, "list of object", true, ""}, {"on", 2, "boolean or null", false, ""},
		{"some", 1, "object", true, "with at least one of a"}, {"a", 2, "string", false, ""},
		{"texts", 1, "map to string", true, ""}}
	if got := members(s); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
