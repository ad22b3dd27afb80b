package control

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"kvol/internal/block"
	"kvol/internal/drill"
	"kvol/internal/driver"
	"kvol/internal/export/nbd"
)

// fsck checks the file systems on a clone.
func (r *drillRun) fsck(ctx context.Context, seq int) (e probeEvidence, err error) {
	c, from, _, err := r.made(ctx, seq)
	if err != nil {
		return e, err
	}
	d, giveBack, err := r.s.openClone(ctx, c, from)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	dir, remove, err := r.s.scratch()
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	run := func(ctx context.Context, command []string) (int, string, error) {
		path, err := findTool(command[0])
		if err != nil {
			return -1, "", err
		}
		said, exit, err := runCommand(ctx, append([]string{path}, command[1:]...), probeEnvironment(dir), nil)
		said.Output = strings.ReplaceAll(said.Output, dir+"/", "")
		if exit >= 0 {
			err = nil
		}
		return exit, said.Output, err
	}
	direct := func(ctx context.Context, p drill.Part, command []string) (int, string, error) {
		return r.s.checkInPlace(ctx, d, p, command, dir)
	}
	checked, err := drill.Checker{Run: run, Direct: direct, Hidden: from.Entry.Volume.Encryption.ByZone(),
		Most: r.s.cfg.DR.drillScratch()}.Check(ctx, d, dir)
	e = probeEvidence{Text: checked.Text, Output: checked.Output}
	if err == nil && !checked.Passed {
		err = block.Errorf(block.Corrupt, "%s", cmp.Or(checked.Text, "There is no file system."))
	}
	return e, err
}

// findTool looks a tool up, also where services' paths do not lead.
func findTool(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", block.Errorf(block.NotFound, "%s is not installed in this zone.", name)
}

// inPlace has a tool ($3 and on) work on an NBD export ($2) as on a file, which
// FUSE shows in a directory ($1) that only this process tree sees. It says
// inPlaceReady first, once that is so; without, nothing was done.
const (
	inPlaceReady = "kvol: ready\n"
	inPlace      = `dir=$1 uri=$2; shift 2
nbdfuse "$dir/disk" "$uri" 2>/dev/null & server=$!
until [ -e "$dir/disk" ]; do kill -0 $server 2>/dev/null || exit 125; sleep 0.02; done
echo kvol: ready
"$@" "$dir/disk"; status=$?
kill $server; wait $server
exit $status`
)

// checkInPlace runs a tool on a part of a clone without copying it: the part is
// served on a socket, of which nbdfuse makes a file in user and mount name spaces
// of its own, so that it needs no privilege and leaves no mount behind, whatever
// becomes of it. Unsupported where that can't be, as without /dev/fuse.
func (s *Service) checkInPlace(ctx context.Context, d driver.Device, p drill.Part, command []string, dir string) (
	exit int, output string, err error,
) {
	tool, err := findTool(command[0])
	if err != nil {
		return -1, "", err
	}
	unshare, missing := findTool("unshare")
	_, other := findTool("nbdfuse")
	if missing != nil || other != nil || p.Off%driver.BlockSize != 0 || p.Len%driver.BlockSize != 0 {
		return -1, "", block.Errorf(block.Unsupported, "It can't be checked in its place.")
	}
	shown := filepath.Join(dir, "shown")
	if err := os.MkdirAll(shown, 0o700); err != nil {
		return -1, "", err
	}
	out := newClonesServed()
	path, err := out.place(s, dir)
	if err != nil {
		return -1, "", err
	}
	if err := out.listen(ctx, s, path, partExport{window{d, p}}); err != nil {
		return -1, "", err
	}
	defer func() { err = errors.Join(err, out.stop()) }()
	uri := "nbd+unix:///?" + url.Values{"socket": {path}}.Encode()
	said, exit, err := runCommand(ctx, append([]string{unshare, "--user", "--map-root-user", "--mount", "--pid", "--fork",
		"--kill-child", "/bin/sh", "-c", inPlace, "sh", shown, uri, tool}, command[1:]...), probeEnvironment(dir), nil)
	text, ready := strings.CutPrefix(said.Output, inPlaceReady)
	switch {
	case ctx.Err() != nil:
		return exit, text, ctx.Err()
	case !ready:
		return -1, "", block.Errorf(block.Unsupported, "It can't be checked in its place.")
	case exit >= 0:
		err = nil
	}
	return exit, strings.ReplaceAll(text, shown+"/", ""), err
}

// window is a part of a device, as a device. Its Close does nothing.
type window struct {
	of   driver.Device
	part drill.Part
}

// ReadAt implements driver.Device.
func (w window) ReadAt(p []byte, off int64) (int, error) { return w.of.ReadAt(p, w.part.Off+off) }

// WriteAt implements driver.Device.
func (w window) WriteAt(p []byte, off int64) (int, error) { return w.of.WriteAt(p, w.part.Off+off) }

// Zero implements driver.Device.
func (w window) Zero(off, length int64) error { return w.of.Zero(w.part.Off+off, length) }

// Flush implements driver.Device.
func (w window) Flush() error { return w.of.Flush() }

// Size implements driver.Device.
func (w window) Size() int64 { return w.part.Len }

// Close implements driver.Device.
func (w window) Close() error { return nil }

// partExport serves one part, by whatever name.
type partExport struct{ window }

// Open implements nbd.Exports.
func (e partExport) Open(context.Context, string) (nbd.Export, error) {
	return nbd.Export{Device: e.window, Description: "a part of a drill's clone"}, nil
}
