// Package logstore is the embedded store: one directory on any Linux file
// system that holds volumes, snapshots and clones. The log is the store: every
// change is one record in a segment file, data included, and stays there; an
// index tells where each block of each moment lies. The index (Pebble without
// a log of its own) is brought up to date from the log when the store is
// opened.
//
// A write is acknowledged once its record is in the page cache, so it survives
// a kill of the process; a flush once the log is on the disk up to it. After a
// power cut all volumes together show one prefix of what was done, in order of
// completion, at least up to the last flush. Each block is checked against its
// CRC32C when it is read.
//
// It is not a cache, knows no tenants and no network, and keeps no second copy:
// what the disk loses, replication has to bring back. docs/format.md has every
// byte, docs/adr/0002-engine-index.md the reasons for the index.
package logstore
