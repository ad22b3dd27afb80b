// Package glance is control.Images on an OpenStack Glance (its v2 API), asked with
// the token of the user on whose behalf it is asked, and with a token of kvol's own
// service user beside it, so that a job goes on after the user's has expired.
//
// Bytes are streamed in both directions and compared with the hash that Glance
// keeps; what is in an image is the business of whoever makes a volume of it. It
// takes the place of package image where a Glance is configured.
package glance
