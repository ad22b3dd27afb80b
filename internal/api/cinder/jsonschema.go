package cinder

import (
	"slices"

	"kvol/internal/api/openapi"
)

// document says in a JSON schema what check lets pass.
func (s *schema) document() openapi.Schema {
	d := openapi.Schema{}
	switch {
	case s == nil:
		return d
	case s.booly:
		texts := openapi.Schema{"enum": append(append([]string{}, boolTexts...), boolNotTexts...)}
		either := []openapi.Schema{openapi.Boolean, texts}
		if slices.Contains(s.kinds, "null") {
			either = append(either, openapi.Null)
		}
		return openapi.Schema{"anyOf": either}
	case s.named:
		d["type"] = []string{"string", "null"}
		d["pattern"] = `\S`
	case s.uuid:
		d["description"] = "a UUID, dashed or not"
		d["type"] = "string"
		if s.orNull || slices.Contains(s.kinds, "null") {
			d["type"] = []string{"string", "null"}
		}
	case len(s.kinds) == 1:
		d["type"] = s.kinds[0]
	case len(s.kinds) > 1:
		d["type"] = s.kinds
	}
	s.documentValue(d)
	s.documentMembers(d)
	return d
}

// documentValue writes what single values and arrays are held to.
func (s *schema) documentValue(d openapi.Schema) {
	if s.enum != nil {
		values := []any{}
		for _, text := range s.enum {
			values = append(values, text)
		}
		if slices.Contains(s.kinds, "null") {
			values = append(values, nil)
		}
		d["enum"] = values
	}
	if s.pattern != nil {
		d["pattern"] = s.pattern.String()
	}
	if s.minLen > 0 {
		d["minLength"] = s.minLen
	}
	switch {
	case s.maxLen > 0:
		d["maxLength"] = s.maxLen
	case s.text != "":
		d["description"] = "at most 255 characters, without the blanks around them"
	}
	if s.whole {
		d["minimum"], d["maximum"] = 1, maxInt
	}
	if s.bounds != nil {
		d["minimum"], d["maximum"] = s.bounds[0], s.bounds[1]
	}
	if s.items != nil {
		d["items"] = s.items.document()
	}
	if s.filled {
		d["minItems"] = 1
	}
	if s.unique {
		d["uniqueItems"] = true
	}
	if s.base64 {
		d["contentEncoding"] = "base64"
	}
}

// documentMembers writes what objects are held to.
func (s *schema) documentMembers(d openapi.Schema) {
	if len(s.members) > 0 {
		members, required := map[string]openapi.Schema{}, []string{}
		for _, p := range s.members {
			members[p.name] = p.schema.document()
			if p.required {
				required = append(required, p.name)
			}
		}
		d["properties"] = members
		if len(required) > 0 {
			d["required"] = required
		}
	}
	switch {
	case s.closed:
		d["additionalProperties"] = false
	case s.values != nil:
		d["additionalProperties"] = s.values.document()
	}
	if s.keys != nil {
		d["propertyNames"] = openapi.Schema{"pattern": s.keys.String()}
	}
	if s.oneOf != nil {
		either := []openapi.Schema{}
		for _, name := range s.oneOf {
			either = append(either, openapi.Schema{"required": []string{name}})
		}
		d["anyOf"] = either
	}
	if s.minMembers > 0 {
		d["minProperties"] = s.minMembers
	}
	if s.maxMembers > 0 {
		d["maxProperties"] = s.maxMembers
	}
}
