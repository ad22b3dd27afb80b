// Package image keeps images: the part of Glance's v2 API that clients of
// volumes use, over the catalog and a directory of files, and control.Images
// on the same. An image's bytes are taken as they come and given back so.
//
// It converts nothing, looks into no format and follows no backing file: what
// is in an image is the business of whoever makes a volume of it. It is absent
// where a Glance is configured.
package image
