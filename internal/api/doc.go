// Package api holds what all HTTP front ends share: request ids, the access
// log, metrics, recovery from panics, limits on bodies, a router whose every
// answer is the front end's own, and the caller in a context. It knows no API:
// paths, codes, error bodies and rules belong to the front ends and to control.
package api
