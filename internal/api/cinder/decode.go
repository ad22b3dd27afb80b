package cinder

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"unicode/utf8"

	"kvol/internal/api"
)

// maxDepth is how deep arrays and objects of a body may nest.
const maxDepth = 64

// object is a JSON object in the order in which it was sent, since error
// sentences show it so.
type object struct{ members []member }

type member struct {
	name  string
	value any // nil, bool, json.Number, string, []any or *object
}

// get returns a member's value; ok is false where there is none.
func (o *object) get(name string) (v any, ok bool) {
	for _, m := range o.members {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
}

// plain turns a decoded value into maps and slices.
func plain(v any) any {
	switch v := v.(type) {
	case *object:
		m := make(map[string]any, len(v.members))
		for _, e := range v.members {
			m[e.name] = plain(e.value)
		}
		return m
	case []any:
		s := make([]any, len(v))
		for i, e := range v {
			s[i] = plain(e)
		}
		return s
	default:
		return v
	}
}

// body reads the request's body as an object. A body without a Content-Type
// counts as none (cinder wsgi.py, get_body), and none is (nil, nil).
func (c *call) body() (*object, error) {
	raw, err := io.ReadAll(io.LimitReader(c.r.Body, api.MaxBody+1))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) || len(raw) > api.MaxBody {
		return nil, errBodyTooLong
	}
	if err != nil {
		return nil, errBadBody // the connection broke; nobody reads this
	}
	contentType := c.r.Header.Get("Content-Type")
	if len(raw) == 0 || contentType == "" {
		return nil, nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil || media != "application/json" && media != "application/vnd.openstack.volume+json" {
		return nil, errContentType
	}
	return decode(raw)
}

// decode reads one JSON object and nothing after it.
func decode(raw []byte) (*object, error) {
	if !utf8.Valid(raw) {
		return nil, errBadBody
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := decodeValue(d, maxDepth)
	if err != nil {
		return nil, errBadBody
	}
	if _, err = d.Token(); !errors.Is(err, io.EOF) {
		return nil, errBadBody
	}
	o, ok := v.(*object)
	if !ok {
		return nil, errBadBody
	}
	return o, nil
}

var errDepth = errors.New("nested too deep")

func decodeValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == 0 {
		return nil, errDepth
	}
	if open == '[' {
		return decodeArray(d, depth)
	}
	return decodeObject(d, depth)
}

func decodeArray(d *json.Decoder, depth int) (any, error) {
	list := []any{}
	for d.More() {
		v, err := decodeValue(d, depth-1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

func decodeObject(d *json.Decoder, depth int) (any, error) {
	o, seen := &object{}, map[string]int{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, errBadBody
		}
		v, err := decodeValue(d, depth-1)
		if err != nil {
			return nil, err
		}
		if i, again := seen[name]; again {
			o.members[i].value = v
			continue
		}
		seen[name] = len(o.members)
		o.members = append(o.members, member{name, v})
	}
	_, err := d.Token()
	return o, err
}
