package keystone

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// accessRule is what an application credential may do: a method of a path of a
// service.
type accessRule struct {
	Service string `json:"service"`
	Method  string `json:"method"`
	Path    string `json:"path"`
}

// maxRulePath is the longest path of a rule that is looked at, in bytes.
const maxRulePath = 2048

// allows reports whether a rule lets a request pass
// (keystonemiddleware/auth_token, validate_allowed_request).
func (a accessRule) allows(r *http.Request) bool {
	return a.Method == r.Method && slices.Contains(serviceTypes, a.Service) && pathMatches(a.Path, r.URL.EscapedPath())
}

// pathMatches compares a path with a rule's: {anything} and * stand for one step,
// ** for any number.
func pathMatches(rule, path string) bool {
	if len(rule) > maxRulePath {
		return false
	}
	var text strings.Builder
	text.WriteString(`\A`)
	for rest := rule; rest != ""; {
		at := strings.IndexAny(rest, "{*")
		if at < 0 {
			at = len(rest)
		}
		text.WriteString(regexp.QuoteMeta(rest[:at]))
		rest = rest[at:]
		end := strings.IndexByte(rest, '}')
		switch {
		case rest == "":
		case strings.HasPrefix(rest, "**"):
			text.WriteString(`.*`)
			rest = rest[2:]
		case rest[0] == '*':
			text.WriteString(`[^/]+`)
			rest = rest[1:]
		case end < 0: // a brace that is never closed stands for itself
			text.WriteString(regexp.QuoteMeta(rest))
			rest = ""
		default:
			text.WriteString(`[^/]+`)
			rest = rest[end+1:]
		}
	}
	text.WriteString(`\z`)
	match, err := regexp.Compile(text.String())
	return err == nil && match.MatchString(path)
}
