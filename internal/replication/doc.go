// Package replication copies volumes to other zones point by point: it cuts
// recovery points of protected volumes, plans what a target lacks, sends the
// difference, and commits at the target what was proven to be whole.
//
// A Sender runs in the zone that owns the volumes; a Receiver in the zone that
// keeps the copies. What goes between them is in docs/stream.md. Four rules
// carry everything:
//
//   - The target writes down a step (base, target, epoch) before its first
//     write, resumes only that very step, and rewinds to its base before any
//     other one.
//   - Both ends compute the root hash of the target point for themselves; a
//     point is committed only if they agree, and by one transaction.
//   - Whoever holds a lower epoch than the target knows is refused, in the
//     transaction of the commit at the latest.
//   - The source keeps base and target until the target confirmed.
//
// The package is not a recovery: what is done with a replica when its zone is
// lost is package recovery's. It opens no listener and knows no TLS; it is
// given connections. It never holds up a writer: it only reads snapshots.
package replication
