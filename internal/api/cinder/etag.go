package cinder

import (
	"crypto/md5" //nolint:gosec // Cinder's tag, not a secret
	"encoding/hex"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// entityTag is the ETag of a volume's metadata: Cinder's is the MD5 of the
// answer as Python prints it, with the keys in order here.
func entityTag(m map[string]string) string {
	var b strings.Builder
	b.WriteString(`{"metadata": {`)
	for i, key := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.Write(quoted(key))
		b.WriteString(": ")
		b.Write(quoted(m[key]))
	}
	b.WriteString("}}")
	sum := md5.Sum([]byte(b.String())) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// unchanged reports whether the condition of a request holds: its If-Match names
// the tag of what is there, or any ("*"), or there is none. Only strong tags count
// (webob.etag, ETagMatcher): those in quotes, or the whole header if nothing is.
func unchanged(r *http.Request, tag string) bool {
	wanted := r.Header.Get("If-Match")
	if wanted == "" || wanted == "*" {
		return true
	}
	tags := quotedTag.FindAllStringSubmatch(wanted, -1)
	if tags == nil {
		return wanted == tag
	}
	return slices.ContainsFunc(tags, func(m []string) bool { return m[1] == "" && m[2] == tag })
}

// quotedTag finds tags, and which of them are weak.
var quotedTag = regexp.MustCompile(`(W/)?"((?:\\"|[^"])*)"`)
