package cinder

import (
	"strconv"
	"strings"

	"kvol/internal/block"
	"kvol/internal/control"
)

// checked reads the body and checks it. name is the member that the body is
// about, for the sentence that says it is missing.
func (c *call) checked(name string, s *schema) (*object, error) {
	o, err := c.body()
	if err != nil {
		return nil, err
	}
	if o == nil {
		return nil, invalid("Missing required element '%s' in request body.", name)
	}
	return o, s.check("", o)
}

// The readers below take what a schema has passed; what is absent, null or of
// another type is nil or zero.

func (o *object) object(name string) *object {
	v, _ := o.get(name)
	inner, _ := v.(*object)
	return inner
}

// without returns the object without a member.
func (o *object) without(name string) *object {
	rest := &object{}
	for _, m := range o.members {
		if m.name != name {
			rest.members = append(rest.members, m)
		}
	}
	return rest
}

func (o *object) text(name string) *string {
	v, _ := o.get(name)
	if s, ok := v.(string); ok {
		return &s
	}
	return nil
}

// stripped is text without blanks around it, as Cinder stores names.
func (o *object) stripped(names ...string) *string {
	for _, name := range names {
		if _, ok := o.get(name); ok {
			return strip(o.text(name))
		}
	}
	return nil
}

// change is stripped for changes: the first of names that is there.
func (o *object) change(names ...string) control.Text {
	for _, name := range names {
		if _, ok := o.get(name); ok {
			return control.Text{Set: true, Value: strip(o.text(name))}
		}
	}
	return control.Text{}
}

func strip(s *string) *string {
	if s == nil {
		return nil
	}
	t := strings.TrimSpace(*s)
	return &t
}

func (o *object) flag(name string) bool {
	v, _ := o.get(name)
	value, _ := asBool(v)
	return value
}

// whole reads a number or digits.
func (o *object) whole(name string) *int64 {
	v, _ := o.get(name)
	if v == nil {
		return nil
	}
	n, err := strconv.ParseInt(pyStr(v), 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// id reads a UUID into its dashed form.
func id[T ~string](o *object, name string) *T {
	s := o.text(name)
	if s == nil {
		return nil
	}
	dashed, ok := block.ParseID(*s)
	if !ok {
		return nil
	}
	t := T(dashed)
	return &t
}

// texts reads an object of strings; nil where there is none.
func (o *object) texts(name string) map[string]string {
	inner := o.object(name)
	if inner == nil {
		return nil
	}
	m := make(map[string]string, len(inner.members))
	for _, e := range inner.members {
		if s, ok := e.value.(string); ok {
			m[e.name] = s
		}
	}
	return m
}

// nonEmpty turns "" into nil, where an API takes both for "none".
func nonEmpty(s *string) *string {
	if s == nil || *s == "" {
		return nil
	}
	return s
}
