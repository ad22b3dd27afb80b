package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/spf13/cobra"

	"kvol/internal/client"
)

// trust makes OS_CACERT the authorities that are trusted, in place of the
// system's, as OpenStack's own clients do. It must be called before the first
// connection.
func trust() error {
	if file := os.Getenv("OS_CACERT"); file != "" {
		return os.Setenv("SSL_CERT_FILE", file)
	}
	return nil
}

// login logs in as the environment says.
func login(ctx context.Context) (*client.Session, error) {
	if err := trust(); err != nil {
		return nil, err
	}
	if os.Getenv("OS_CLOUD") != "" {
		return loginToCloud(ctx)
	}
	o, err := ownOptions(os.Getenv)
	if err != nil {
		return nil, err
	}
	return client.LoginAs(ctx, o, os.Getenv("OS_REGION_NAME"), nil)
}

// loginToCloud logs in to a cloud of clouds.yaml.
func loginToCloud(ctx context.Context) (*client.Session, error) {
	o, endpoint, trusted, err := clouds.Parse()
	if err != nil {
		return nil, fmt.Errorf("OS_CLOUD: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = trusted
	return client.LoginAs(ctx, o, endpoint.Region, &http.Client{Timeout: time.Minute, Transport: transport})
}

// ownOptions are what the variables of OpenStack's clients say, by keystoneauth's names.
func ownOptions(get func(string) string) (gophercloud.AuthOptions, error) {
	o := gophercloud.AuthOptions{IdentityEndpoint: get("OS_AUTH_URL"), TokenID: get("OS_TOKEN"),
		ApplicationCredentialID:     get("OS_APPLICATION_CREDENTIAL_ID"),
		ApplicationCredentialName:   get("OS_APPLICATION_CREDENTIAL_NAME"),
		ApplicationCredentialSecret: get("OS_APPLICATION_CREDENTIAL_SECRET")}
	domain := gophercloud.AuthScope{DomainID: get("OS_USER_DOMAIN_ID"), DomainName: get("OS_USER_DOMAIN_NAME")}
	if domain == (gophercloud.AuthScope{}) {
		domain.DomainName = "Default"
	}
	byCredential := o.ApplicationCredentialSecret != ""
	switch {
	case o.TokenID != "" || o.ApplicationCredentialID != "":
	case get("OS_USER_ID") != "":
		o.UserID = get("OS_USER_ID")
	default:
		o.Username, o.DomainID, o.DomainName = get("OS_USERNAME"), domain.DomainID, domain.DomainName
	}
	if o.TokenID == "" && !byCredential {
		o.Password = get("OS_PASSWORD")
	}
	if !byCredential { // which has a scope
		o.Scope = scopeOf(get, domain)
	}
	if o.IdentityEndpoint == "" || o.TokenID+o.Password+o.ApplicationCredentialSecret == "" ||
		!byCredential && o.Scope == nil {
		return o, errors.New("set OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME, as OpenStack's clients " +
			"want them, or OS_CLOUD")
	}
	return o, nil
}

// scopeOf is the scope that the environment asks for; nil for none. A project's domain is
// the user's one if nothing is said.
func scopeOf(get func(string) string, users gophercloud.AuthScope) *gophercloud.AuthScope {
	project, id := get("OS_PROJECT_NAME"), get("OS_PROJECT_ID")
	switch {
	case get("OS_SYSTEM_SCOPE") == "all":
		return &gophercloud.AuthScope{System: true}
	case id != "":
		return &gophercloud.AuthScope{ProjectID: id}
	case project != "":
		s := gophercloud.AuthScope{DomainID: get("OS_PROJECT_DOMAIN_ID"), DomainName: get("OS_PROJECT_DOMAIN_NAME")}
		if s == (gophercloud.AuthScope{}) {
			s = users
		}
		s.ProjectName = project
		return &s
	case get("OS_DOMAIN_ID")+get("OS_DOMAIN_NAME") != "":
		return &gophercloud.AuthScope{DomainID: get("OS_DOMAIN_ID"), DomainName: get("OS_DOMAIN_NAME")}
	}
	return nil
}

// kvolLogin gets a token of the kvol API as the environment says.
func kvolLogin(ctx context.Context) (*client.Kvol, error) {
	if err := trust(); err != nil {
		return nil, err
	}
	url, user, password := os.Getenv("KVOL_URL"), os.Getenv("KVOL_USER"), os.Getenv("KVOL_PASSWORD")
	if user == "" {
		user = "gabianet"
	}
	if url == "" || password == "" {
		return nil, errors.New("set KVOL_URL (a zone's address) and KVOL_PASSWORD to use the kvol API")
	}
	return client.KvolLogin(ctx, url, user, password)
}

// with makes a command's body from a function that needs a session.
func with(
	fn func(ctx context.Context, c *cobra.Command, s *client.Session, args []string) error,
) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		s, err := login(c.Context())
		if err != nil {
			return err
		}
		s.Tell = func(text string) { fmt.Fprintln(c.ErrOrStderr(), text) }
		return fn(c.Context(), c, s, args)
	}
}
