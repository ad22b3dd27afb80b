package main

import (
	"encoding/pem"
	"io"
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

// TestLoginAsOpenstackClientsDo sets what keystoneauth reads, and looks at what Keystone is
// asked for.
func TestLoginAsOpenstackClientsDo(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		asked = string(text)
		w.Header().Set("X-Subject-Token", "t")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"token":{}}`)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	text := `{clouds: {here: {auth: {auth_url: "` + server.URL + `/v3", username: u, password: p, project_name: x,
		user_domain_name: Default, project_domain_name: acme}}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const byPassword = `"identity":{"methods":["password"],"password":{"user":{"domain":{"name":"Default"},"name":"u",` +
		`"password":"p"}}}`
	for name, tt := range map[string]struct {
		set  map[string]string
		want string // "" for an error
	}{
		"project": {map[string]string{"OS_PROJECT_NAME": "x"},
			`{"auth":{` + byPassword + `,"scope":{"project":{"domain":{"name":"Default"},"name":"x"}}}}`},
		"project's domain": {map[string]string{"OS_PROJECT_NAME": "x", "OS_PROJECT_DOMAIN_ID": "d"},
			`{"auth":{` + byPassword + `,"scope":{"project":{"domain":{"id":"d"},"name":"x"}}}}`},
		"project's id": {map[string]string{"OS_PROJECT_ID": "i", "OS_PROJECT_NAME": "x"},
			`{"auth":{` + byPassword + `,"scope":{"project":{"id":"i"}}}}`},
		"system": {map[string]string{"OS_SYSTEM_SCOPE": "all", "OS_PROJECT_NAME": "x"},
			`{"auth":{` + byPassword + `,"scope":{"system":{"all":true}}}}`},
		"domain": {map[string]string{"OS_DOMAIN_NAME": "acme"},
			`{"auth":{` + byPassword + `,"scope":{"domain":{"name":"acme"}}}}`},
		"no scope": {nil, ""},
		"credential": {map[string]string{"OS_APPLICATION_CREDENTIAL_ID": "c", "OS_APPLICATION_CREDENTIAL_SECRET": "s",
			"OS_USERNAME": "", "OS_PASSWORD": ""},
			`{"auth":{"identity":{"application_credential":{"id":"c","secret":"s"},"methods":["application_credential"]}}}`},
		"token": {map[string]string{"OS_TOKEN": "k", "OS_PROJECT_ID": "i", "OS_USERNAME": "", "OS_PASSWORD": ""},
			`{"auth":{"identity":{"methods":["token"],"token":{"id":"k"}},"scope":{"project":{"id":"i"}}}}`},
		"clouds.yaml": {map[string]string{"OS_CLOUD": "here", "OS_CLIENT_CONFIG_FILE": file, "OS_USERNAME": "another"},
			`{"auth":{` + byPassword + `,"scope":{"project":{"domain":{"name":"acme"},"name":"x"}}}}`},
		"no such cloud": {map[string]string{"OS_CLOUD": "there", "OS_CLIENT_CONFIG_FILE": file}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pair := range os.Environ() {
				if key, _, _ := strings.Cut(pair, "="); strings.HasPrefix(key, "OS_") {
					t.Setenv(key, "")
				}
			}
			own := map[string]string{"OS_AUTH_URL": server.URL + "/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p"}
			for key, value := range own {
				t.Setenv(key, value)
			}
			for key, value := range tt.set {
				t.Setenv(key, value)
			}
			asked = ""
			if _, err := login(t.Context()); (err == nil) != (tt.want != "") || asked != tt.want {
				t.Errorf("%v; asked for %s, want %s", err, asked, tt.want)
			}
		})
	}
}
