// Package nfs keeps volumes as files in a directory that a storage server
// exports by NFS. Hosts may mount the share and open the files themselves; kvol
// works on the directory, which is local to it or mounted.
//
// A volume is the file volume-<id> at the top of the share, where Cinder would
// put it; all else is in the directory .kvol beside it. There is no catalog of
// files: what is there is what counts. A change is prepared under a name that
// begins with "new-", made durable, and takes effect with one rename; what a
// crash leaves of it is removed when the share is opened.
//
// Where the file system shares blocks between files on request (FICLONE: xfs,
// btrfs, NFS 4.2 in front of them), volumes are raw files, and snapshots and
// clones are such copies. Differences are found by comparing where the blocks of
// two files lie: what is at one place on the disk can't differ.
//
// Elsewhere volumes are qcow2 files. A snapshot turns the file into a layer that
// is never written again and puts a new one on top; a clone stands on the layer
// of its snapshot. A layer that nothing names any more and on which one other
// stands is merged with it: the upper one's data is written down, which changes
// nothing of what anybody reads, however often it is interrupted, and then the
// lower file takes the upper one's name. That programs of QEMU's do: qemu-img for
// files, qemu-nbd for the bytes of those that are open.
package nfs
