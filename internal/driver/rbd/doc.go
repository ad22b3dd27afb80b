// Package rbd keeps volumes as images of a Ceph pool. It needs no cgo: what
// concerns images goes through the rbd command, one process for each change,
// with time-outs that the command and the caller's context both keep; bytes go
// through qemu-nbd, one process for each open volume or snapshot, that serves
// the image on a socket which nobody else can reach. A build with the tag ceph
// has cgo, and makes the calls that come most often by librbd instead: see calls.
//
// An image is named kvol-<volume id>, a snapshot by its point's id. Clones are
// of format 2: a snapshot with clones can be deleted, and lives on in the
// pool's trash until its last clone is gone. A volume that is deleted is moved to the
// trash too, and its bytes are swept out of there beside all else.
//
// Writes bypass librbd's cache, so that what was acknowledged is on the OSDs
// when qemu-nbd is killed. A cluster that doesn't answer costs the caller
// Options.Timeout for a change and Options.IOTimeout for bytes; no other volume
// waits for it.
package rbd
