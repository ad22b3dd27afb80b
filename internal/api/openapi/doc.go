// Package openapi holds what OpenAPI 3.1 documents are made of, and serves
// them, as JSON and as pages to read. What they say comes from the front ends:
// from the tables by which these route requests and check bodies. It knows no
// API.
package openapi
