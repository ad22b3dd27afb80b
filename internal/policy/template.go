package policy

import (
	"fmt"
	"strings"
)

// template is a text with places for attributes of the target, `%(name)s`:
// texts and names in turns, beginning with a text.
type template []string

func readTemplate(text string) (template, error) {
	var parts template
	var plain strings.Builder
	for {
		before, after, found := strings.Cut(text, "%")
		plain.WriteString(before)
		if !found {
			return append(parts, plain.String()), nil
		}
		if rest, ok := strings.CutPrefix(after, "%"); ok {
			plain.WriteByte('%')
			text = rest
			continue
		}
		name, rest, ok := strings.Cut(after, ")s")
		if !ok || !strings.HasPrefix(name, "(") || strings.ContainsAny(name[1:], "()%") {
			return nil, fmt.Errorf("%q: after %% comes (name)s", "%"+after)
		}
		parts = append(parts, plain.String(), name[1:])
		plain.Reset()
		text = rest
	}
}

// fill puts a target's attributes in their places; ok is false if it lacks one.
func (t template) fill(q *question) (text string, ok bool) {
	if len(t) == 1 {
		return t[0], true
	}
	if len(t) == 3 && t[0] == "" && t[2] == "" { // the usual %(project_id)s
		return q.attribute(t[1])
	}
	var filled strings.Builder
	for i, part := range t {
		if i%2 == 1 {
			if part, ok = q.attribute(part); !ok {
				return "", false
			}
		}
		filled.WriteString(part)
	}
	return filled.String(), true
}
