package cinder

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"kvol/internal/api"
)

// encoder writes JSON straight into bytes, since lists of a thousand volumes
// are what clients ask for most. Commas are put by the encoder; the caller
// keeps objects and arrays balanced.
type encoder struct {
	b     []byte
	comma bool // something precedes at this level
}

var encoders = sync.Pool{New: func() any { return &encoder{b: make([]byte, 0, 4096)} }}

// maxPooled is the largest buffer, in bytes, that is kept for the next answer.
const maxPooled = 4 << 20

// document answers with what fill writes.
func (c *call) document(status int, fill func(*encoder)) error {
	e, _ := encoders.Get().(*encoder)
	e.b, e.comma = e.b[:0], false
	fill(e)
	api.WriteRawJSON(c.w, status, e.b)
	if cap(e.b) <= maxPooled {
		encoders.Put(e)
	}
	return nil
}

// ok answers 200 with what fill writes.
func (c *call) ok(fill func(*encoder)) error { return c.document(http.StatusOK, fill) }

func (e *encoder) next() {
	if e.comma {
		e.b = append(e.b, ',')
	}
	e.comma = true
}

func (e *encoder) open(c byte) {
	e.next()
	e.b = append(e.b, c)
	e.comma = false
}

func (e *encoder) close(c byte) {
	e.b = append(e.b, c)
	e.comma = true
}

// key writes a member's name; its value must follow.
func (e *encoder) key(name string) {
	e.next()
	e.quote(name)
	e.b = append(e.b, ':')
	e.comma = false
}

func (e *encoder) null() {
	e.next()
	e.b = append(e.b, "null"...)
}

func (e *encoder) text(s string) {
	e.next()
	e.quote(s)
}

func (e *encoder) whole(n int64) {
	e.next()
	e.b = strconv.AppendInt(e.b, n, 10)
}

func (e *encoder) boolean(v bool) {
	e.next()
	e.b = strconv.AppendBool(e.b, v)
}

// stringMember and its fellows write a member with its value.
func (e *encoder) stringMember(name, s string) { e.key(name); e.text(s) }

func (e *encoder) nullMember(name string) { e.key(name); e.null() }

func (e *encoder) wholeMember(name string, n int64) { e.key(name); e.whole(n) }

func (e *encoder) boolMember(name string, v bool) { e.key(name); e.boolean(v) }

// orNull writes a string, or null for a nil pointer.
func orNull[T ~string](e *encoder, name string, s *T) {
	e.key(name)
	if s == nil {
		e.null()
		return
	}
	e.text(string(*s))
}

// timeForm is how Cinder prints times: UTC without a zone, always six digits.
const timeForm = "2006-01-02T15:04:05.000000"

// timeMember writes a time; null for the zero time.
func (e *encoder) timeMember(name string, t time.Time) {
	e.key(name)
	if t.IsZero() {
		e.null()
		return
	}
	e.next()
	e.b = append(e.b, '"')
	e.b = t.UTC().AppendFormat(e.b, timeForm)
	e.b = append(e.b, '"')
}

// textsMember writes an object of strings.
func (e *encoder) textsMember(name string, m map[string]string) {
	e.key(name)
	e.open('{')
	for k, v := range m {
		e.stringMember(k, v)
	}
	e.close('}')
}

// quote appends s as a JSON string; invalid UTF-8 becomes U+FFFD.
func (e *encoder) quote(s string) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			e.b = append(e.b, quoted(s)...)
			return
		}
	}
	e.b = append(e.b, '"')
	e.b = append(e.b, s...)
	e.b = append(e.b, '"')
}

// quoted is quote for strings that need escapes.
func quoted(s string) []byte {
	var b bytes.Buffer
	j := json.NewEncoder(&b)
	j.SetEscapeHTML(false)
	_ = j.Encode(s) // strings can always be encoded
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// unquoted is s as it stands between the quotes of a JSON string.
func unquoted(s string) string {
	q := quoted(s)
	return string(q[1 : len(q)-1])
}
