package cinder

import (
	"encoding/json"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestPythonTexts(t *testing.T) {
	for raw, want := range map[string]string{
		`null`: "None", `true`: "True", `false`: "False", `1`: "1", `-0`: "-0", `1.0`: "1.0", `1e2`: "100.0",
		`1e400`: "1e400", `0.1`: "0.1", `1e7`: "10000000.0", `1e16`: "1e+16", `0.00001`: "1e-05", `0.0`: "0.0",
		`1e300`: "1e+300", `"a"`: "'a'", `"it's"`: `"it's"`, `"'\""`: `'\'"'`,
		`"\\"`: `'\\'`, `"\n\r\t\u0001\u007f"`: `'\n\r\t\x01\x7f'`, `"한"`: "'한'", `"\u2028"`: `'\u2028'`,
		`[1,[],"x"]`: "[1, [], 'x']", `{"b":1,"a":{"c":null},"b":2}`: "{'b': 2, 'a': {'c': None}}",
	} {
		o, err := decode([]byte(`{"v":` + raw + `}`))
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		v, _ := o.get("v")
		if got := pyRepr(v); got != want {
			t.Errorf("repr of %s = %s, want %s", raw, got, want)
		}
	}
	if pyStr("a") != "a" {
		t.Error("str of a text is not the text")
	}
}

// The encoder writes what encoding/json reads back.
func TestEncoderTexts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name, text := rapid.String().Draw(t, "name"), rapid.String().Draw(t, "text")
		e := &encoder{}
		e.open('{')
		e.stringMember(name, text)
		e.textsMember("", map[string]string{text: name})
		e.close('}')
		var got map[string]any
		if err := json.Unmarshal(e.b, &got); err != nil {
			t.Fatalf("%s: %v", e.b, err)
		}
		if name != "" && got[name] != text {
			t.Fatalf("%q = %v, want %q", name, got[name], text)
		}
		if inner, _ := got[""].(map[string]any); inner[text] != name {
			t.Fatalf("%v", got)
		}
		if quotedText := `"` + unquoted(text) + `"`; string(quoted(text)) != quotedText {
			t.Fatalf("unquoted %s", quotedText)
		}
	})
}

// Whatever decode takes, encoding/json takes too, with the same content.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,{"b":null}],"a":2}`, `{"a":`, `[]`, `{} {}`, `{"a":1e999}`, `{"\ud800":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := decode(raw)
		if err != nil {
			return
		}
		var want map[string]any
		if err := json.Unmarshal(raw, &want); err != nil {
			var n *json.UnmarshalTypeError // a number that no float holds is fine here
			if !errors.As(err, &n) {
				t.Fatalf("decode took %q: %v", raw, err)
			}
			return
		}
		if len(o.members) != len(want) {
			t.Fatalf("%q: %d members, want %d", raw, len(o.members), len(want))
		}
		pyRepr(o)
	})
}
