package cinder

import (
	"crypto/md5" //nolint:gosec // Cinder's tag, not a secret
	"encoding/hex"
	"maps"
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

// matches reports whether a list of If-Match names a tag, or any ("*").
func matches(list, tag string) bool {
	for item := range strings.SplitSeq(list, ",") {
		item = strings.Trim(strings.TrimSpace(item), `"`)
		if item == tag || item == "*" {
			return true
		}
	}
	return false
}
