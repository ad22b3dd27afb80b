// Package keystone asks an OpenStack Keystone who sends a request, as
// keystonemiddleware does in front of Cinder: tokens are validated by its v3 API
// and remembered for a while, service tokens and the access rules of application
// credentials are looked at, and a Keystone that does not answer makes requests
// Unavailable. It has a token of kvol's own service user and renews it.
//
// It takes the place of package identity where a Keystone is configured.
package keystone
