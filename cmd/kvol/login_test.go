package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwnAuthority reaches a server whose certificate only OS_CACERT vouches
// for: the answer is its own, not a complaint about the certificate.
func TestOwnAuthority(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.crt")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", "") // given back when the test ends
	for key, value := range map[string]string{"OS_CACERT": file, "OS_AUTH_URL": server.URL, "OS_USERNAME": "u",
		"OS_PASSWORD": "p", "OS_PROJECT_NAME": "x"} {
		t.Setenv(key, value)
	}
	if _, err := login(t.Context()); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("login: %v", err)
	}
}
