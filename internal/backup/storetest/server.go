package storetest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"kvol/internal/backup"
	"kvol/test/port"
)

// serverName is the S3 service that test/setup.sh builds (tools/s3).
const serverName = "versitygw"

// server finds the service's program.
func server(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("KVOL_TOOLS")
	if cache == "" {
		cache = "/var/cache/kvol-tools"
	}
	path := filepath.Join(cache, serverName)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if path, err := exec.LookPath(serverName); err == nil {
		return path
	}
	if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
		t.Fatalf("%s is not there; test/setup.sh builds it", serverName)
	}
	t.Skipf("%s is not there; test/setup.sh builds it", serverName)
	return ""
}

// S3 starts a real S3 service of its own for a test and makes an empty bucket
// in it. The service is stopped, by its process, when the test ends.
func S3(t *testing.T) backup.S3Config {
	t.Helper()
	program := server(t)
	address := port.Address(t)
	config := backup.S3Config{Endpoint: "http://" + address, Bucket: "backups", Prefix: "kvol",
		Credentials: backup.S3Credentials{AccessKey: "test-access", SecretKey: "test-secret-key"}}
	data, side := t.TempDir(), t.TempDir()
	command := exec.Command(program, "--port", address, "--quiet", "--max-connections", "64", "--max-requests", "64",
		"posix", "--sidecar", side, data)
	command.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+config.Credentials.AccessKey,
		"ROOT_SECRET_KEY="+config.Credentials.SecretKey)
	command.Stderr = os.Stderr
	must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may be gone already
		_ = command.Wait()         // it was killed, and says so
	})
	client, err := minio.New(address, &minio.Options{Region: "us-east-1",
		Creds: credentials.NewStaticV4(config.Credentials.AccessKey, config.Credentials.SecretKey, "")})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			must(t, conn.Close())
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("%s does not listen: %v", program, err)
		}
	}
	must(t, client.MakeBucket(ctx, config.Bucket, minio.MakeBucketOptions{}))
	return config
}
