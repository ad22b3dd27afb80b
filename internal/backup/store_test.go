package backup_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/backup"
	"kvol/internal/backup/storetest"
	"kvol/internal/block"
)

func directory(t *testing.T) backup.Store {
	t.Helper()
	d, err := backup.NewDirectory(filepath.Join(t.TempDir(), "repository"), time.Now())
	must(t, err)
	return d
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) backup.Store { return backup.NewMemory() })
}

func TestDirectory(t *testing.T) { storetest.Run(t, directory) }

func TestS3(t *testing.T) {
	config := storetest.S3(t)
	n := 0
	storetest.Run(t, func(t *testing.T) backup.Store {
		c := config
		n++
		c.Prefix = fmt.Sprintf("part/%d", n)
		s, err := backup.NewS3(c)
		must(t, err)
		return s
	})
}

// TestDirectoryTidies: what an interrupted process left is removed once it is
// a day old.
func TestDirectoryTidies(t *testing.T) {
	root := t.TempDir()
	open := func(now time.Time) {
		_, err := backup.NewDirectory(root, now)
		must(t, err)
	}
	open(time.Now())
	left := filepath.Join(root, ".unfinished", "x")
	must(t, os.WriteFile(left, []byte{1}, 0o600))
	open(time.Now())
	if _, err := os.Stat(left); err != nil {
		t.Fatal("what another process may be writing was removed")
	}
	open(time.Now().Add(25 * time.Hour))
	if _, err := os.Stat(left); err == nil {
		t.Fatal("it is still there")
	}
}

// TestS3Refuses tells what a service that is not there, a bucket that is not
// there and wrong credentials lead to. No secret is in any of it.
func TestS3Refuses(t *testing.T) {
	good := storetest.S3(t)
	for name, change := range map[string]func(*backup.S3Config){
		"no bucket": func(c *backup.S3Config) { c.Bucket = "nowhere" },
		"no secret": func(c *backup.S3Config) { c.Credentials.SecretKey = "wrong-secret" },
		"no user":   func(c *backup.S3Config) { c.Credentials.AccessKey = "nobody" },
	} {
		c := good
		change(&c)
		s, err := backup.NewS3(c)
		must(t, err)
		_, err = s.Get(t.Context(), "a/b", 10)
		putErr := s.Put(t.Context(), "a/b", []byte{1})
		for _, err := range []error{err, putErr} {
			message, _ := block.UserMessage(err)
			if !block.Is(err, block.Unavailable) || message != "The backup repository can't be reached." {
				t.Errorf("%s: %v", name, err)
			}
			if text := fmt.Sprintf("%v", err); strings.Contains(text, "secret") {
				t.Errorf("%s: a secret is told: %s", name, text)
			}
		}
	}
	for _, endpoint := range []string{"", "s3.example.com", "ftp://s3.example.com", "https://s3.example.com/path"} {
		c := good
		c.Endpoint = endpoint
		if _, err := backup.NewS3(c); err == nil {
			t.Errorf("endpoint %q is taken", endpoint)
		}
	}
}

func TestCredentialsAreNotPrinted(t *testing.T) {
	c := backup.S3Config{Credentials: backup.S3Credentials{AccessKey: "kkkk", SecretKey: "ssss"}}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "credentials", c.Credentials, "config", c)
	text := b.String() + fmt.Sprintf("%v %+v %#v", c, c, c)
	if strings.Contains(text, "ssss") || strings.Contains(text, "kkkk") {
		t.Errorf("%s", text)
	}
}
