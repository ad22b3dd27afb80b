package cinder

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// Cinder's error sentences show values as Python prints them. pyStr is str(),
// pyRepr is repr() of what decode makes of JSON.
func pyStr(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return pyRepr(v)
}

func pyRepr(v any) string {
	var b strings.Builder
	writeRepr(&b, v)
	return b.String()
}

func writeRepr(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case string:
		writeQuoted(b, v)
	case json.Number:
		b.WriteString(pyNumber(v))
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, e)
		}
		b.WriteByte(']')
	case *object:
		b.WriteByte('{')
		for i, m := range v.members {
			if i > 0 {
				b.WriteString(", ")
			}
			writeQuoted(b, m.name)
			b.WriteString(": ")
			writeRepr(b, m.value)
		}
		b.WriteByte('}')
	}
}

// pyNumber prints whole numbers as written and others as Python's floats.
func pyNumber(n json.Number) string {
	if isWhole(n) {
		return n.String()
	}
	f, err := n.Float64()
	if err != nil {
		return n.String()
	}
	if size := math.Abs(f); size != 0 && (size < 1e-4 || size >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// isWhole reports whether Python would read n as an int.
func isWhole(n json.Number) bool { return !strings.ContainsAny(n.String(), ".eE") }

func writeQuoted(b *strings.Builder, s string) {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteRune(quote)
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			b.WriteString(`\x` + string("0123456789abcdef"[r>>4]) + string("0123456789abcdef"[r&15]))
		case !unicode.IsPrint(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteRune(quote)
}

// pyList prints strings as a Python list.
func pyList(items []string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, s := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		writeQuoted(&b, s)
	}
	b.WriteByte(']')
	return b.String()
}

// pyDict reads a Python or JSON dict literal of strings, as the filter
// `metadata={'k': 'v'}` has it. ok is false for anything else.
func pyDict(s string) (dict map[string]string, ok bool) {
	p := literal{rest: s}
	dict = map[string]string{}
	if !p.take('{') {
		return nil, false
	}
	for !p.take('}') {
		if len(dict) > 0 && !p.take(',') {
			return nil, false
		}
		if len(dict) > 0 && p.take('}') { // a comma may end the list
			break
		}
		key, ok := p.quoted()
		if !ok || !p.take(':') {
			return nil, false
		}
		if dict[key], ok = p.quoted(); !ok {
			return nil, false
		}
	}
	return dict, strings.TrimSpace(p.rest) == ""
}

// literal is a reader of Python literals.
type literal struct{ rest string }

// take skips blanks and the byte c, if it comes next.
func (p *literal) take(c byte) bool {
	s := strings.TrimLeft(p.rest, " \t\r\n")
	if s == "" || s[0] != c {
		return false
	}
	p.rest = s[1:]
	return true
}

// quoted reads a string in either kind of quotes; a leading u is allowed.
func (p *literal) quoted() (string, bool) {
	p.take('u')
	quote := byte('\'')
	if !p.take('\'') {
		if !p.take('"') {
			return "", false
		}
		quote = '"'
	}
	var b strings.Builder
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == quote:
			p.rest = p.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(p.rest):
			i++
			if at := strings.IndexByte("nrt", p.rest[i]); at >= 0 {
				b.WriteByte("\n\r\t"[at])
			} else {
				b.WriteByte(p.rest[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
