package openapi_test

import (
	"testing"

	"kvol/internal/api/dr"
	"kvol/internal/api/keymanager"
	"kvol/internal/api/kvol"
	"kvol/internal/api/openapi"
	"kvol/internal/api/openapi/openapitest"
	"kvol/internal/api/store"
)

// TestDocuments: the documents of the small front ends are OpenAPI 3.1.
func TestDocuments(t *testing.T) {
	for name, d := range map[string]*openapi.Document{"kvol": kvol.Document(), "dr": dr.Document(),
		"store": store.Document(), "key-manager": keymanager.Document()} {
		openapitest.Validate(t, name, d)
	}
}
