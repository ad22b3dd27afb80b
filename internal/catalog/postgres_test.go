package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kvol/internal/block"
	pgserver "kvol/test/postgres"
)

// serverVariable names the environment variable that makes the tests of this
// package use a PostgreSQL database in place of SQLite.
const serverVariable = "KVOL_CATALOG_TEST_DATABASE"

func onPostgres() bool { return os.Getenv(serverVariable) != "" }

// options are those of a test's catalog: the file at path, none for one in
// memory; or in PostgreSQL a schema that belongs to the path.
func options(t testing.TB, path string) Options {
	t.Helper()
	if !onPostgres() {
		return Options{Path: path}
	}
	if path == "" {
		path = block.NewID()
	}
	name := sha256.Sum256([]byte(path))
	schema := "s" + hex.EncodeToString(name[:8])
	u, err := url.Parse(os.Getenv(serverVariable))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA IF NOT EXISTS "+schema); err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return Options{URL: u.String()}
}

// optionsAt are options of a catalog with a clock.
func optionsAt(t testing.TB, now func() time.Time) Options {
	t.Helper()
	o := options(t, "")
	o.Now = now
	return o
}

// sqliteOnly skips a test of what only SQLite has.
func sqliteOnly(t testing.TB) {
	t.Helper()
	if onPostgres() {
		t.Skip("it is about SQLite")
	}
}

// TestOnPostgres runs the tests of this package on a real PostgreSQL.
func TestOnPostgres(t *testing.T) {
	if onPostgres() {
		t.Skip("that is where it is")
	}
	server := pgserver.Start(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.short", "-rapid.checks=10")
	cmd.Env = append(os.Environ(), serverVariable+"="+server.Database(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
