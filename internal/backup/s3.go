package backup

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"kvol/internal/block"
)

const (
	s3Attempts = 4
	s3Stall    = time.Minute // without an answer's head
)

// S3Config says where a bucket is. It must exist.
type S3Config struct {
	Endpoint string // URL: "https://s3.example.com", with a port if it is another one
	Region   string // "us-east-1" if ""
	Bucket   string
	Prefix   string // put before the names of all objects, with a slash between; none if ""
	CA       []byte // PEM of whom to trust beside the system's authorities; nil for nobody
	// VirtualHost puts the bucket's name into the host's, as some services want;
	// else it is the first step of the path.
	VirtualHost bool
	Credentials S3Credentials
}

// S3Credentials are a key and its secret. They print and log as nothing.
type S3Credentials struct{ AccessKey, SecretKey string }

func (S3Credentials) String() string { return "(credentials)" }

// GoString implements fmt.GoStringer, for %#v.
func (S3Credentials) GoString() string { return "(credentials)" }

// LogValue implements slog.LogValuer.
func (S3Credentials) LogValue() slog.Value { return slog.StringValue("(credentials)") }

// S3 is a Store in a bucket of a service that speaks Amazon's S3, by the
// requests that all of them have: PutObject in one piece, GetObject,
// HeadObject, DeleteObject and ListObjectsV2.
type S3 struct {
	client *minio.Client
	bucket string
	prefix string // "" or with a slash at its end
}

// NewS3 makes a Store of a bucket. Nothing is asked of the service yet.
func NewS3(c S3Config) (*S3, error) {
	u, err := url.Parse(c.Endpoint)
	if err == nil && u.User != nil {
		return nil, errors.New("the endpoint names a user: keys belong into the file of credentials")
	}
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("endpoint %q is no URL such as https://s3.example.com", c.Endpoint)
	}
	if c.Prefix != "" {
		if err := checkName(c.Prefix); err != nil {
			return nil, fmt.Errorf("prefix %q: %w", c.Prefix, err)
		}
		c.Prefix += "/"
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	transport, err := s3Transport(c.CA)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupPath
	if c.VirtualHost {
		lookup = minio.BucketLookupDNS
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(c.Credentials.AccessKey, c.Credentials.SecretKey, ""),
		Secure: u.Scheme == "https", Region: c.Region, BucketLookup: lookup, Transport: transport, MaxRetries: s3Attempts,
	})
	if err != nil {
		return nil, err
	}
	return &S3{client, c.Bucket, c.Prefix}, nil
}

func s3Transport(ca []byte) (*http.Transport, error) {
	standard, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the program's HTTP transport is not the standard one")
	}
	t := standard.Clone()
	t.ResponseHeaderTimeout, t.MaxIdleConnsPerHost, t.DisableCompression = s3Stall, 64, true
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == nil {
		return t, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the ca has no certificate in PEM form")
	}
	t.TLSClientConfig.RootCAs = roots
	return t, nil
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, name string, content []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, bytes.NewReader(content), int64(len(content)),
		minio.PutObjectOptions{DisableMultipart: true, SendContentMd5: true, ContentType: "application/octet-stream"})
	return s3Failed(name, err)
}

// Get implements Store.
func (s *S3) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	o, err := s.client.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, s3Failed(name, err)
	}
	content, err := io.ReadAll(io.LimitReader(o, limit+1))
	if err = errors.Join(err, o.Close()); err != nil {
		return nil, s3Failed(name, err)
	}
	if int64(len(content)) > limit {
		return nil, tooLong(name, limit)
	}
	return content, nil
}

// Has implements Store.
func (s *S3) Has(ctx context.Context, name string) (bool, error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	_, err := s.client.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
	if err = s3Failed(name, err); block.Is(err, block.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := s3Failed(name, s.client.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{}))
	if block.Is(err, block.NotFound) {
		return nil
	}
	return err
}

// List implements Store.
func (s *S3) List(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := checkName(dir); err != nil {
			yield("", err)
			return
		}
		for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + dir + "/"}) {
			if o.Err != nil {
				yield("", s3Failed(dir, o.Err))
				return
			}
			if strings.HasSuffix(o.Key, "/") {
				continue // what lies deeper
			}
			if !yield(strings.TrimPrefix(o.Key, s.prefix), nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield("", err)
		}
	}
}

// s3Failed gives a service's answer its kind.
func s3Failed(name string, err error) error {
	if err == nil {
		return nil
	}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.Code == minio.NoSuchKey {
		return missing(name)
	}
	return failed(err)
}
