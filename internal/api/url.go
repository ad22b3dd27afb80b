package api

import (
	"net/http"
	"strings"
)

// PublicURL returns the address under which the caller reaches this server,
// without a trailing slash: what is configured, or else what the request says:
// X-Forwarded-Proto and X-Forwarded-Host of a proxy in front (the first of
// each, oslo.middleware http_proxy_to_wsgi), or Host.
func PublicURL(r *http.Request, configured string) string {
	if configured != "" {
		return strings.TrimRight(configured, "/")
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if p := strings.ToLower(first(r.Header.Get("X-Forwarded-Proto"))); p == "http" || p == "https" {
		scheme = p
	}
	if h := first(r.Header.Get("X-Forwarded-Host")); h != "" && !strings.ContainsFunc(h, notHost) {
		host = h
	}
	return scheme + "://" + host
}

func first(list string) string {
	head, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(head)
}

// notHost reports whether r stands in no host name, address or port.
func notHost(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune(".-_:[]", r)
}
