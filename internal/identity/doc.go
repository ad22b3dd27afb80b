// Package identity answers who asks: an embedded identity service that speaks
// Keystone's v2.0 and v3, and the tokens of the kvol API. Users, projects and
// roles come from the zone's configuration or from its operators; passwords
// are kept as argon2id hashes and tokens as SHA-256 hashes, so that nothing at
// rest lets anybody in.
//
// It is no authorization: which role may do what to a volume is control's
// matter. It has one domain ("default"), no groups, no trusts and no
// federation, and it is absent where a Keystone is configured.
package identity
