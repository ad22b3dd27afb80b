package main

import (
	"context"
	"errors"
	"os"

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
	project := os.Getenv("OS_PROJECT_ID")
	if project == "" {
		project = os.Getenv("OS_PROJECT_NAME")
	}
	return client.Login(ctx, client.Auth{URL: os.Getenv("OS_AUTH_URL"), User: os.Getenv("OS_USERNAME"),
		Password: os.Getenv("OS_PASSWORD"), Project: project, Domain: os.Getenv("OS_USER_DOMAIN_NAME"),
		Region: os.Getenv("OS_REGION_NAME")})
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
		return fn(c.Context(), c, s, args)
	}
}
