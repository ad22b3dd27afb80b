package cinder

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"kvol/internal/block"
)

// schema says what a value of a request must be, like the JSON schemas in
// cinder/api/schemas, and complains in the words of Python's jsonschema as
// Cinder passes them on. The zero value accepts anything.
type schema struct {
	kinds   []string // JSON types, in the order in which the complaint names them
	enum    []string // texts; a schema of booleans uses boolEnum
	booly   bool     // a boolean or one of the texts that Cinder takes for one
	pattern *regexp.Regexp
	whole   bool // a whole number, or digits: 1 to maxInt
	minLen  int
	maxLen  int    // characters; 0: any
	text    string // what InvalidInput calls it: at most 255 characters once stripped
	uuid    bool   // a UUID, dashed or not
	named   bool   // null, or a text that is more than blanks and at most 255 characters without them
	orNull  bool   // with uuid or booly: one of that and null, which has a complaint of its own

	bounds *[2]int64         // of a number, or of digits
	items  *schema           // of an array's items
	filled bool              // an array has an item
	unique bool              // no item of an array is there twice
	base64 bool              // a text that is base64
	format func(v any) error // what else must hold; its error is the answer

	members    []property
	closed     bool           // no members but those named
	keys       *regexp.Regexp // of members that are not named
	values     *schema        // of those members
	minMembers int
	maxMembers int      // 0: any
	oneOf      []string // of these members at least one is there
}

type property struct {
	name     string
	required bool
	schema   *schema
}

// maxInt is Cinder's db constants.MAX_INT, which bounds sizes and offsets.
const maxInt = 1<<31 - 1

// boolTexts are what cinder's parameter_types.boolean lists.
var boolTexts = []string{"True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t"}

const boolEnum = "[True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes', 'yes', 'y', 't', " +
	"False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off', 'NO', 'No', 'no', 'n', 'f']"

var boolNotTexts = []string{"False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"}

// check returns nil or an Invalid error with Cinder's sentence. name is the
// last step of the path to v; "" for a whole body.
func (s *schema) check(name string, v any) error {
	if v == nil && s.orNull {
		return nil
	}
	if complaint := s.complain(v); complaint != "" {
		if name == "" {
			return invalid("%s", complaint)
		}
		return invalid("Invalid input for field/attribute %s. Value: %s. %s", name, pyStr(v), complaint)
	}
	if s.format != nil {
		if err := s.format(v); err != nil {
			return err
		}
	}
	if list, ok := v.([]any); ok && s.items != nil {
		for i, item := range list {
			if err := s.items.check(strconv.Itoa(i), item); err != nil {
				return err
			}
		}
	}
	if text, ok := v.(string); ok && s.text != "" {
		if n := utf8.RuneCountInString(strings.TrimSpace(text)); n > 255 {
			return invalid("Invalid input received: %s has %d characters, more than 255.", s.text, n)
		}
	}
	if o, ok := v.(*object); ok {
		return s.checkMembers(o)
	}
	return nil
}

// checkMembers goes one step down.
func (s *schema) checkMembers(o *object) error {
	for _, p := range s.members {
		if v, ok := o.get(p.name); ok && p.schema != nil {
			if err := p.schema.check(p.name, v); err != nil {
				return err
			}
		}
	}
	if s.values == nil {
		return nil
	}
	for _, m := range o.members {
		if err := s.values.check(m.name, m.value); err != nil {
			return err
		}
	}
	return nil
}

// complain says what is wrong with v itself, or "".
func (s *schema) complain(v any) string {
	if _, ok := asBool(v); s.uuid && s.orNull && !isUUID(v) || s.booly && s.orNull && !ok {
		return pyRepr(v) + " is not valid under any of the given schemas"
	}
	if text, ok := v.(string); s.named && v != nil && (!ok || !isName(text)) {
		return pyRepr(v) + " is not valid under any of the given schemas"
	}
	if len(s.kinds) > 0 && !slices.ContainsFunc(s.kinds, func(k string) bool { return isKind(v, k) }) {
		return pyRepr(v) + " is not of type '" + strings.Join(s.kinds, "', '") + "'"
	}
	if s.booly && v != nil {
		if _, ok := asBool(v); !ok {
			return pyRepr(v) + " is not one of " + boolEnum
		}
	}
	if text, ok := v.(string); ok {
		if complaint := s.complainText(text); complaint != "" {
			return complaint
		}
	}
	if s.whole && v != nil {
		return complainWhole(v)
	}
	if s.bounds != nil && v != nil {
		return s.complainBounds(v)
	}
	if list, ok := v.([]any); ok && s.filled && len(list) == 0 {
		return "[] is too short"
	}
	if list, ok := v.([]any); ok && s.unique {
		return complainTwice(list)
	}
	if o, ok := v.(*object); ok {
		return s.complainObject(o)
	}
	return ""
}

func (s *schema) complainText(text string) string {
	switch n := utf8.RuneCountInString(text); {
	case n < s.minLen:
		return pyRepr(text) + " is too short"
	case s.maxLen > 0 && n > s.maxLen:
		return pyRepr(text) + " is too long"
	case s.pattern != nil && !s.pattern.MatchString(text):
		return pyRepr(text) + " does not match " + pyRepr(s.pattern.String())
	case s.enum != nil && !slices.Contains(s.enum, text):
		return pyRepr(text) + " is not one of " + pyList(s.enum)
	case s.uuid && !isUUID(text):
		return pyRepr(text) + " is not a 'uuid'"
	case s.base64 && !isBase64(text):
		return pyRepr(text) + " is not a 'base64'"
	}
	return ""
}

func isName(text string) bool {
	n := utf8.RuneCountInString(strings.TrimSpace(text))
	return n > 0 && n <= 255
}

// isBase64 reports whether oslo.serialization would decode a text: Python passes
// over what is not of the alphabet.
func isBase64(text string) bool {
	_, err := base64.StdEncoding.DecodeString(strings.Map(func(r rune) rune {
		if r == '=' || r == '+' || r == '/' || r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return -1
	}, text))
	return err == nil
}

// complainWhole wants 1 to maxInt. Texts are digits by now (s.pattern).
func complainWhole(v any) string {
	n, ok := new(big.Int).SetString(pyStr(v), 10)
	if !ok {
		return pyRepr(v) + " is not of type 'integer'"
	}
	if n.Sign() < 1 {
		return n.String() + " is less than the minimum of 1"
	}
	if n.Cmp(big.NewInt(maxInt)) > 0 {
		return n.String() + " is greater than the maximum of " + strconv.Itoa(maxInt)
	}
	return ""
}

// complainBounds is silent on what is no number.
func (s *schema) complainBounds(v any) string {
	n, ok := new(big.Int).SetString(pyStr(v), 10)
	switch {
	case !ok:
		return ""
	case n.Cmp(big.NewInt(s.bounds[0])) < 0:
		return fmt.Sprintf("%s is less than the minimum of %d", n, s.bounds[0])
	case n.Cmp(big.NewInt(s.bounds[1])) > 0:
		return fmt.Sprintf("%s is greater than the maximum of %d", n, s.bounds[1])
	}
	return ""
}

func complainTwice(list []any) string {
	seen := map[string]bool{}
	for _, item := range list {
		if text := pyRepr(item); seen[text] {
			return pyRepr(list) + " has non-unique elements"
		} else {
			seen[text] = true
		}
	}
	return ""
}

func (s *schema) complainObject(o *object) string {
	var unknown []string
	for _, m := range o.members {
		named := slices.ContainsFunc(s.members, func(p property) bool { return p.name == m.name })
		switch {
		case named:
		case s.keys != nil && !s.keys.MatchString(m.name):
			return pyRepr(m.name) + " does not match any of the regexes: " + pyRepr(s.keys.String())
		case s.closed:
			unknown = append(unknown, pyRepr(m.name))
		}
	}
	for _, p := range s.members {
		if _, ok := o.get(p.name); p.required && !ok {
			return pyRepr(p.name) + " is a required property"
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		verb := "was"
		if len(unknown) > 1 {
			verb = "were"
		}
		return fmt.Sprintf("Additional properties are not allowed (%s %s unexpected)", strings.Join(unknown, ", "), verb)
	}
	if len(o.members) < s.minMembers {
		return pyRepr(o) + " does not have enough properties"
	}
	if s.maxMembers > 0 && len(o.members) > s.maxMembers {
		return pyRepr(o) + " has too many properties"
	}
	if s.oneOf != nil && !slices.ContainsFunc(o.members, func(m member) bool { return slices.Contains(s.oneOf, m.name) }) {
		return pyRepr(o) + " is not valid under any of the given schemas"
	}
	return ""
}

func isKind(v any, kind string) bool {
	switch v := v.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string"
	case json.Number:
		return kind == "integer" && isWhole(v)
	case []any:
		return kind == "array"
	case *object:
		return kind == "object"
	}
	return false
}

func isUUID(v any) bool {
	text, ok := v.(string)
	if ok {
		_, ok = block.ParseID(text)
	}
	return ok
}

// asBool reads what the schema booly accepts.
func asBool(v any) (value, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case string:
		if slices.Contains(boolTexts, v) {
			return true, true
		}
		return false, slices.Contains(boolNotTexts, v)
	}
	return false, false
}
