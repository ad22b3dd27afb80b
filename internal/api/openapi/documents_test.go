package openapi_test

import (
	"encoding/json"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"kvol/internal/api/dr"
	"kvol/internal/api/kvol"
	"kvol/internal/api/openapi"
)

// TestDocuments: the documents of the small front ends are OpenAPI 3.1.
func TestDocuments(t *testing.T) {
	for name, d := range map[string]*openapi.Document{"kvol": kvol.Document(), "dr": dr.Document()} {
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		read, err := openapi3.NewLoader().LoadFromData(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := read.Validate(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
