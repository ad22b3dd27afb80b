// Package peer is how zones talk to each other: a handler for the second
// listener of a zone, which takes mutual TLS only, and the client half that
// control and replication reach other zones by. Each zone has a certificate
// with its name, and may speak for itself only.
//
// It is no API for users or operators, and it does not replicate: it hands
// upgraded connections to a replication.Receiver.
package peer
