package rbd

import (
	"context"
	"strings"

	"kvol/internal/block"
	"kvol/internal/driver/program"
)

// startExport has qemu-nbd serve an image, or a snapshot of it for reading.
// Writes bypass every cache: nothing is lost with the process.
func (d *Driver) startExport(ctx context.Context, image, snapshot string) (*program.Export, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*d.o.Timeout+killAfter, errSlow)
	defer cancel()
	args := []string{"--cache=none", "--discard=unmap", "--format=raw"}
	if snapshot != "" {
		args = append(args, "--read-only")
	}
	e, err := program.Start(ctx, program.NBD{
		Sockets: d.sockets.Dir, Args: append(args, d.qemuName(image, snapshot)), Connections: connections,
	})
	if err != nil {
		return nil, block.Wrap(block.Unavailable, err, silent)
	}
	return e, nil
}

// qemuName is how qemu takes an image: settings of librados follow the name.
func (d *Driver) qemuName(image, snapshot string) string {
	var b strings.Builder
	b.WriteString("rbd:" + quote(d.o.Pool) + "/")
	if d.o.Namespace != "" {
		b.WriteString(quote(d.o.Namespace) + "/")
	}
	b.WriteString(quote(image))
	if snapshot != "" {
		b.WriteString("@" + quote(snapshot))
	}
	b.WriteString(":id=" + quote(d.o.User) + ":conf=" + quote(d.o.Conf))
	b.WriteString(":client_mount_timeout=" + seconds(d.o.Timeout))
	b.WriteString(":rados_mon_op_timeout=" + seconds(d.o.IOTimeout)) // as the blocklist's, when a lock is broken
	b.WriteString(":rados_osd_op_timeout=" + seconds(d.o.IOTimeout))
	return b.String()
}

// quote takes their meaning from the characters that part a name for qemu.
func quote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `@`, `\@`, `/`, `\/`, `=`, `\=`).Replace(s)
}
