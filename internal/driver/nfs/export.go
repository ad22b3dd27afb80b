package nfs

import (
	"context"
	"os"

	"kvol/internal/block"
	"kvol/internal/driver/program"
)

// startExport has qemu-nbd serve a file, which it is given with all that the file
// stands on.
func (d *Driver) startExport(ctx context.Context, at place, readOnly bool) (*program.Export, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.o.Timeout, errSlow)
	defer cancel()
	flag := os.O_RDWR
	args := []string{"--cache=writeback", "--discard=unmap"}
	if readOnly {
		flag = os.O_RDONLY
		args = append(args, "--read-only")
	}
	c, err := d.openChain(at, flag)
	if err != nil {
		return nil, err
	}
	defer c.close()
	files := append(c[:len(c):len(c)], d.lock) // its end is waited for by who opens the share after us
	e, err := program.Start(ctx, program.NBD{Sockets: d.sockets.Dir, Files: files,
		Args: append(args, c.name(program.FirstFile))})
	if err != nil {
		return nil, block.Wrap(block.Unavailable, err, unanswered)
	}
	return e, nil
}
