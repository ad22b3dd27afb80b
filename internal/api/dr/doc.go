// Package dr is the front end of the DR API: what a zone knows of zones,
// protections, replicas and their recovery points, links, and the operations
// behind the rowkeys of the kvol API. Administrators see all of it, tenants
// their own volumes. docs/api/dr.md has its documents.
//
// It only reads, and it is not the kvol API, whose form is fixed.
package dr
