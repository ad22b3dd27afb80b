package zone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/backup"
	"kvol/internal/block"
)

const backedUpZone = `
zone: a
listen: 127.0.0.1:0
stores: [{name: main, driver: mem}]
backends: [{name: ssd, store: main}]
volume_types: [{id: 6a21db69-dc6b-4423-834c-679ae153a638, name: ssd, extra_specs: {volume_backend_name: ssd}}]
backup: `

// TestBackupConfig: what can't work is refused with a sentence that says where,
// and that repeats nothing of the credentials.
func TestBackupConfig(t *testing.T) {
	const secret = "wJalrXUtnFEMI"
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("keys", "access_key: AKIA\nsecret_key: "+secret+"\n")
	write("half", "secret_key: "+secret+"\n")
	write("more", "access_key: AKIA\nsecret_key: "+secret+"\nanother: "+secret+"\n")
	write("text", secret+": [")
	const s3 = "{s3: {endpoint: 'http://127.0.0.1:1', bucket: b, credentials: "
	for section, want := range map[string]string{
		"{directory: backups}":                   "",
		s3 + "keys}, uploads: 9}":                "",
		"{}":                                     "exactly one of directory and s3 is needed",
		"{directory: d, s3: {bucket: b}}":        "exactly one of directory and s3 is needed",
		"{directory: d, uploads: 257}":           "backup.uploads: 257 is not between 1 and 256",
		"{s3: {bucket: b, credentials: keys}}":   "backup.s3.endpoint: the service's URL is missing",
		"{s3: {endpoint: e, credentials: keys}}": "backup.s3.bucket: the name of a bucket that exists",
		"{s3: {endpoint: e, bucket: b}}":         "backup.s3.credentials: the name of a file",
		s3 + "none}}":                            "backup.s3.credentials: open ",
		s3 + "half}}":                            "half does not have access_key and secret_key",
		s3 + "more}}":                            "more does not have access_key and secret_key, and nothing else",
		s3 + "text}}":                            "text does not have access_key and secret_key",
		s3 + "keys, ca: keys}}":                  "has no certificate in PEM form",
		s3 + "keys, ca: none}}":                  "backup.s3.ca: open ",
		s3 + "keys, prefix: ../x}}":              "prefix",
		"{directory: keys}":                      "backup.directory: ",
		"{s3: {endpoint: e, bucket: b, secret: " + secret + "}}":                      "unknown field",
		"{s3: {endpoint: 'http://u:" + secret + "@h', bucket: b, credentials: keys}}": "the endpoint names a user",
	} {
		c, err := ParseConfig([]byte(backedUpZone+section), dir)
		if err == nil {
			_, err = c.Backup.open("z", nil, time.Now)
		}
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s:\n got %v\nwant %s", section, err, want)
		case err != nil && strings.Contains(err.Error(), secret) && !strings.Contains(section, "secret: "):
			t.Errorf("%s: the secret is told: %v", section, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "backups", ".unfinished")); err != nil {
		t.Errorf("the directory is not where the file is: %v", err)
	}
	c, err := ParseConfig([]byte(backedUpZone+s3+"keys}}"), dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Backup.open("z", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%+v", c.Backup.S3), fmt.Sprintf("%#v", c), fmt.Sprintf("%+v", r)} {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is printed: %s", text)
		}
	}
}

// over is a turn that another process has by now.
type over struct{}

func (over) Enter(context.Context) error { return errors.New("it is over") }
func (over) Leave()                      {}

// TestRepositoryInTurn: a process whose turn is over changes nothing in the zone's
// repository.
func TestRepositoryInTurn(t *testing.T) {
	dir := t.TempDir()
	l, id := backup.LocationOf("z", "p"), block.BackupID(block.NewID())
	name := filepath.Join(dir, string(l), "manifests", string(id))
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	c := &BackupConfig{Directory: dir}
	r, err := c.open("z", over{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(t.Context(), l, id); !block.Is(err, block.Unavailable) {
		t.Errorf("removed out of turn: %v", err)
	}
	if _, err := os.Stat(name); err != nil {
		t.Error(err)
	}
}
