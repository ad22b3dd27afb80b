package zone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/goccy/go-yaml"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/driver/fenced"
)

// BackupConfig says where backups are kept: in a directory or in a bucket.
type BackupConfig struct {
	Directory string    `yaml:"directory"`
	S3        *S3Config `yaml:"s3"`
	Uploads   int       `yaml:"uploads"` // chunks of one backup under way at once; 0: the repository's default
}

// S3Config is a bucket of an S3-compatible service; see backup.S3Config.
type S3Config struct {
	Endpoint    string `yaml:"endpoint"`
	Region      string `yaml:"region"`
	Bucket      string `yaml:"bucket"`
	Prefix      string `yaml:"prefix"`
	CA          string `yaml:"ca"`          // file
	Credentials string `yaml:"credentials"` // file with access_key and secret_key
	VirtualHost bool   `yaml:"virtual_host"`
}

func (c *BackupConfig) files() []*string {
	files := []*string{&c.Directory}
	if c.S3 != nil {
		files = append(files, &c.S3.CA, &c.S3.Credentials)
	}
	return files
}

func (c *BackupConfig) check() error {
	switch {
	case c == nil:
		return nil
	case (c.Directory == "") == (c.S3 == nil):
		return errors.New("backup: exactly one of directory and s3 is needed, such as directory: /srv/backups")
	case c.Uploads < 0 || c.Uploads > 256:
		return fmt.Errorf("backup.uploads: %d is not between 1 and 256", c.Uploads)
	case c.S3 != nil && c.S3.Endpoint == "":
		return errors.New("backup.s3.endpoint: the service's URL is missing, such as https://s3.example.com")
	case c.S3 != nil && c.S3.Bucket == "":
		return errors.New("backup.s3.bucket: the name of a bucket that exists is missing")
	case c.S3 != nil && c.S3.Credentials == "":
		return errors.New("backup.s3.credentials: the name of a file with access_key and secret_key is missing")
	}
	return nil
}

// open makes a zone's repository, which is changed in a process's turn; at any time if
// that is nil. It makes none if none is configured.
func (c *BackupConfig) open(zone block.Zone, turn fenced.Turn, now func() time.Time) (*backup.Repository, error) {
	if c == nil {
		return nil, nil
	}
	if now == nil {
		now = time.Now
	}
	var store backup.Store
	var err error
	if c.S3 != nil {
		store, err = c.S3.open()
	} else {
		store, err = openDirectory(c.Directory, now())
	}
	if err != nil {
		return nil, err
	}
	if turn != nil {
		store = backup.InTurn(store, func(ctx context.Context, do func() error) error { return fenced.In(ctx, turn, do) })
	}
	return backup.New(store, backup.Options{Zone: zone, Uploads: c.Uploads})
}

func openDirectory(dir string, now time.Time) (*backup.Directory, error) {
	d, err := backup.NewDirectory(dir, now)
	if err != nil {
		return nil, fmt.Errorf("backup.directory: %w", err)
	}
	return d, nil
}

// open reads the files that the bucket's section names. What is in the file of
// credentials gets into no error.
func (c *S3Config) open() (*backup.S3, error) {
	text, err := os.ReadFile(c.Credentials)
	if err != nil {
		return nil, fmt.Errorf("backup.s3.credentials: %w", err)
	}
	var keys struct {
		Access string `yaml:"access_key"`
		Secret string `yaml:"secret_key"`
	}
	if yaml.UnmarshalWithOptions(text, &keys, yaml.Strict()) != nil || keys.Access == "" || keys.Secret == "" {
		return nil, fmt.Errorf("backup.s3.credentials: %s does not have access_key and secret_key, and nothing else",
			c.Credentials)
	}
	s3 := backup.S3Config{Endpoint: c.Endpoint, Region: c.Region, Bucket: c.Bucket, Prefix: c.Prefix,
		VirtualHost: c.VirtualHost, Credentials: backup.S3Credentials{AccessKey: keys.Access, SecretKey: keys.Secret}}
	if c.CA != "" {
		if s3.CA, err = os.ReadFile(c.CA); err != nil {
			return nil, fmt.Errorf("backup.s3.ca: %w", err)
		}
	}
	opened, err := backup.NewS3(s3)
	if err != nil {
		return nil, fmt.Errorf("backup.s3: %w", err)
	}
	return opened, nil
}
