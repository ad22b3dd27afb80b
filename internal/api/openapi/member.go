package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// member is a line of a page about a schema: a member of an object, or what a
// list or a map consists of.
type member struct {
	Name     string
	Depth    int
	Type     string
	Required bool
	Note     string
}

// members are the lines of a schema: the whole, and below it its parts.
func members(s Schema) []member {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // schemas hold nothing that has no JSON form
	}
	var plain map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // bounds are shown as they are written
	if err := d.Decode(&plain); err != nil {
		panic(err)
	}
	var all []member
	describe(&all, member{Name: "the whole", Required: true}, plain)
	return all
}

// describe adds a schema's line and those of its parts.
func describe(to *[]member, line member, s map[string]any) {
	line.Type, line.Note = typeOf(s), noteOf(s)
	*to = append(*to, line)
	for _, part := range partsOf(s) {
		part.line.Depth = line.Depth + 1
		describe(to, part.line, part.schema)
	}
}

type part struct {
	line   member
	schema map[string]any
}

// partsOf are the members of an object, of the items of a list or of the values
// of a map, and the alternatives of what may be several things.
func partsOf(s map[string]any) (all []part) {
	if items, ok := s["items"].(map[string]any); ok {
		return partsOf(items)
	}
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if of, ok := properties[name].(map[string]any); ok {
			all = append(all, part{member{Name: name, Required: slices.Contains(required, any(name))}, of})
		}
	}
	if more, ok := s["additionalProperties"].(map[string]any); ok && len(partsOf(more)) > 0 {
		all = append(all, part{member{Name: "…"}, more})
	}
	for _, of := range alternatives(s) {
		if len(partsOf(of)) > 0 {
			all = append(all, part{member{Name: "either"}, of})
		}
	}
	return all
}

// alternatives are what something may be. Those that only say which member has to
// be there are none: see anyOfMembers.
func alternatives(s map[string]any) (all []map[string]any) {
	for _, keyword := range []string{"anyOf", "oneOf"} {
		list, _ := s[keyword].([]any)
		for _, of := range list {
			if of, ok := of.(map[string]any); ok && (len(of) > 1 || of["required"] == nil) {
				all = append(all, of)
			}
		}
	}
	return all
}

// anyOfMembers are the members of which at least one has to be there.
func anyOfMembers(s map[string]any) (names []string) {
	list, _ := s["anyOf"].([]any)
	for _, of := range list {
		of, _ := of.(map[string]any)
		required, _ := of["required"].([]any)
		if len(of) != 1 || len(required) != 1 {
			return nil
		}
		names = append(names, fmt.Sprint(required[0]))
	}
	return names
}

// typeOf is a schema's type in a few words.
func typeOf(s map[string]any) string {
	var kinds []string
	switch kind := s["type"].(type) {
	case string:
		kinds = append(kinds, kind)
	case []any:
		for _, k := range kind {
			kinds = append(kinds, fmt.Sprint(k))
		}
	}
	if list, ok := s["enum"].([]any); ok && len(kinds) == 0 {
		kinds = kindsOf(list)
	}
	for i, kind := range kinds {
		if items, ok := s["items"].(map[string]any); ok && kind == "array" {
			kinds[i] = "list of " + typeOf(items)
		}
		if more, ok := s["additionalProperties"].(map[string]any); ok && kind == "object" {
			kinds[i] = "map to " + typeOf(more)
		}
	}
	for _, of := range alternatives(s) {
		if kind := typeOf(of); !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return "any"
	}
	return strings.Join(kinds, " or ")
}

// kindsOf are the types of values, as far as they are texts and null.
func kindsOf(values []any) (kinds []string) {
	for _, v := range values {
		kind := "any"
		switch v.(type) {
		case string:
			kind = "string"
		case nil:
			kind = "null"
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// bounds are keywords that pages put into words.
var bounds = []struct{ keyword, words string }{
	{"minLength", "letters: at least %v"},
	{"maxLength", "letters: at most %v"},
	{"minimum", "at least %v"},
	{"maximum", "at most %v"},
	{"minItems", "items: at least %v"},
	{"maxItems", "items: at most %v"},
	{"minProperties", "members: at least %v"},
	{"maxProperties", "members: at most %v"},
	{"pattern", "matches %v"},
	{"format", "%v"},
	{"const", "always %v"},
}

// noteOf is what else a schema says.
func noteOf(s map[string]any) string {
	var notes []string
	if text, ok := s["description"].(string); ok {
		notes = append(notes, text)
	}
	if list, ok := s["enum"].([]any); ok {
		var values []string
		for _, v := range list {
			values = append(values, indented(v))
		}
		notes = append(notes, "one of "+strings.Join(values, ", "))
	}
	if names := anyOfMembers(s); names != nil {
		notes = append(notes, "with at least one of "+strings.Join(names, ", "))
	}
	for _, b := range bounds {
		if v, ok := s[b.keyword]; ok {
			notes = append(notes, fmt.Sprintf(b.words, v))
		}
	}
	return strings.Join(notes, "; ")
}
