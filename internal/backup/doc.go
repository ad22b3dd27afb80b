// Package backup keeps copies of volumes away from the stores that hold them: a
// repository of content-addressed chunks in a directory or in a bucket of an
// S3-compatible service. It knows no catalog. docs/backup.md is its format,
// docs/adr/0008-backups.md says why it is so.
package backup
