package openapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Schema is a JSON schema of draft 2020-12. Schemas are never written to once
// they are part of others.
type Schema map[string]any

// The schemas of single values.
var (
	Any     = Schema{}
	Text    = Schema{"type": "string"}
	Whole   = Schema{"type": "integer"}
	Number  = Schema{"type": "number"}
	Boolean = Schema{"type": "boolean"}
	Null    = Schema{"type": "null"}
	Texts   = Schema{"type": "object", "additionalProperties": Text}
	Free    = Schema{"type": "object"}
)

// List is an array.
func List(of Schema) Schema { return Schema{"type": "array", "items": of} }

// OrNull is a value that may be missing.
func OrNull(s Schema) Schema {
	if kind, ok := s["type"].(string); ok {
		wide := Schema{}
		for k, v := range s {
			wide[k] = v
		}
		wide["type"] = []string{kind, "null"}
		return wide
	}
	return Schema{"anyOf": []Schema{s, Null}}
}

// With is a schema with one more keyword.
func (s Schema) With(keyword string, value any) Schema {
	more := Schema{keyword: value}
	for k, v := range s {
		if k != keyword {
			more[k] = v
		}
	}
	return more
}

// Object is an object with these members and no others; those that are not
// named as optional must be there.
func Object(members map[string]Schema, optional ...string) Schema {
	required := []string{}
	for name := range members {
		if !slices.Contains(optional, name) {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	s := Schema{"type": "object", "properties": members, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// Of is the schema of what encoding/json makes of a value of a struct's type,
// or of a slice, map or pointer of such. Pointers may be null; members with
// omitempty or omitzero may be missing.
func Of(v any) Schema { return ofType(reflect.TypeOf(v)) }

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
	textType = reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()
)

func ofType(t reflect.Type) Schema {
	switch {
	case t == timeType:
		return Schema{"type": "string", "format": "date-time"}
	case t == rawType || t.Kind() == reflect.Interface:
		return Any
	case t.Kind() != reflect.Pointer && t.Implements(textType):
		return Text
	}
	switch t.Kind() {
	case reflect.Pointer:
		return OrNull(ofType(t.Elem()))
	case reflect.Slice, reflect.Array:
		return List(ofType(t.Elem()))
	case reflect.Map:
		return Schema{"type": "object", "additionalProperties": ofType(t.Elem())}
	case reflect.Struct:
		return ofStruct(t)
	case reflect.String:
		return Text
	case reflect.Bool:
		return Boolean
	case reflect.Float32, reflect.Float64:
		return Number
	default:
		return Whole
	}
}

func ofStruct(t reflect.Type) Schema {
	members, optional := map[string]Schema{}, []string{}
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		members[name] = ofType(t.Field(i).Type)
		if strings.Contains(options, "omit") { // omitempty or omitzero
			optional = append(optional, name)
		}
	}
	return Object(members, optional...)
}
