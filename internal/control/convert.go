package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"kvol/internal/block"
)

// qemuFormats maps disk formats as images name them to qemu-img's names. raw
// and iso need no conversion.
var qemuFormats = map[string]string{
	"qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "vhd": "vpc", "ploop": "parallels",
}

// qemuImg finds the converter.
func (s *Service) qemuImg() (string, error) {
	name := s.cfg.QemuImg
	if name == "" {
		name = "qemu-img"
	}
	path, err := exec.LookPath(name)
	return path, block.Wrap(block.Unsupported, err, "This zone has no qemu-img, so that only raw images can be used.")
}

// canWrite refuses a format of an image to be made that can't be written.
func (s *Service) canWrite(format string) error {
	if format == "raw" {
		return nil
	}
	if qemuFormats[format] == "" {
		return invalidInput("Disk format %s can't be written; use raw, qcow2, vmdk, vdi, vhd or vhdx.", format)
	}
	if _, err := s.qemuImg(); err != nil {
		return invalidInput("This zone has no qemu-img and can't write disk format %s; use raw.", format)
	}
	return nil
}

// qemuInfo is the part of `qemu-img info --output=json` that decides whether a
// file may be read.
type qemuInfo struct {
	VirtualSize     int64  `json:"virtual-size"`
	BackingFile     string `json:"backing-filename"`
	FullBackingFile string `json:"full-backing-filename"`
	Specific        struct {
		Data struct {
			CreateType string `json:"create-type"`
			DataFile   string `json:"data-file"`
		} `json:"data"`
	} `json:"format-specific"`
}

// inspect reads an image file's header under the format that it claims, and
// refuses one that would make qemu-img read other files of this machine: a
// backing file, a data file, a VMDK of several extents.
func (s *Service) inspect(ctx context.Context, path, format string) (qemuInfo, error) {
	if err := checkHead(path, format); err != nil {
		return qemuInfo{}, err
	}
	out, err := s.qemu(ctx, "info", "--output=json", "-f", qemuFormats[format], path)
	if err != nil {
		return qemuInfo{}, block.Wrap(block.Invalid, err, "The image is no valid %s.", format)
	}
	var info qemuInfo
	if err := json.Unmarshal(out, &info); err != nil {
		return info, block.Wrap(block.Invalid, err, "The image is no valid %s.", format)
	}
	kind := info.Specific.Data.CreateType
	switch {
	case info.BackingFile != "" || info.FullBackingFile != "":
		return info, block.Errorf(block.Invalid, "The image has a backing file, which is not allowed.")
	case info.Specific.Data.DataFile != "":
		return info, block.Errorf(block.Invalid, "The image has an external data file, which is not allowed.")
	case format == "vmdk" && kind != "monolithicSparse" && kind != "streamOptimized":
		return info, block.Errorf(block.Invalid, "A VMDK image of type %q is not allowed.", kind)
	}
	return info, nil
}

// rawBytes is how much a file that inspect took has at most once it is raw: what
// holds data, or all if that can't be told.
func (s *Service) rawBytes(ctx context.Context, path, format string, info qemuInfo) (int64, error) {
	// Of raw itself qemu-img tells the size only. A qcow2 has what the source has, and
	// some tables.
	out, err := s.qemu(ctx, "measure", "--output=json", "-f", format, "-O", "qcow2", path)
	if ctx.Err() != nil {
		return 0, err
	}
	var measured struct{ Required int64 }
	if err != nil || json.Unmarshal(out, &measured) != nil || measured.Required <= 0 {
		return info.VirtualSize, nil
	}
	return min(info.VirtualSize, measured.Required), nil
}

// convert writes from, a file of one of qemu-img's formats, to another file. Where
// that is to be qcow2 it is compressed, as by Cinder (image_compress_on_upload).
func (s *Service) convert(ctx context.Context, from, fromFormat, to, toFormat string) error {
	args := []string{"convert", "-f", fromFormat, "-O", toFormat}
	if toFormat == "qcow2" {
		args = append(args, "-c")
	}
	_, err := s.qemu(ctx, append(args, from, to)...)
	return err
}

// infoLimits are what `qemu-img info`, and what looks at headers besides, may take of a header that somebody sent: a
// minute of a processor, and 1 GiB of addresses (cinder/image/image_utils.py,
// QEMU_IMG_LIMITS).
var infoLimits = []string{"--cpu=60", "--as=1073741824"}

// limited is the command that runs qemu-img: under prlimit (util-linux) if it reads
// what nobody has looked at yet.
func limited(ctx context.Context, path string, args []string) *exec.Cmd {
	if prlimit, err := exec.LookPath("prlimit"); err == nil && args[0] != "convert" {
		return exec.CommandContext(ctx, prlimit, slices.Concat(infoLimits, []string{path}, args)...)
	}
	return exec.CommandContext(ctx, path, args...)
}

// qemu runs qemu-img and returns its output. It is killed when ctx ends.
func (s *Service) qemu(ctx context.Context, args ...string) ([]byte, error) {
	path, err := s.qemuImg()
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := limited(ctx, path, args)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, block.Wrap(block.Internal, err, "qemu-img %s: %s", args[0], strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

const scratchName = "kvol-image-"

// emptyScratch makes the zone's directory for conversions, and removes what a
// process that was killed left there.
func (s *Service) emptyScratch() error {
	if s.cfg.TempDir == "" {
		return nil // shared with others
	}
	if err := os.MkdirAll(s.cfg.TempDir, 0o700); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(s.cfg.TempDir, scratchName+"*"))
	short, failed := filepath.Glob(filepath.Join(os.TempDir(), s.shortScratch()+"*"))
	err = errors.Join(err, failed)
	for _, dir := range append(left, short...) {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// scratch makes a directory for a conversion, and the function that removes
// it.
func (s *Service) scratch() (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp(s.cfg.TempDir, scratchName)
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// writeFile copies a stream to a new file, leaving holes where it has zeros.
func writeFile(path string, from io.Reader, limit int64, each func(done int64) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer closing(&err, f.Close)
	n, err := stream(f, from, limit, each)
	if err != nil {
		return err
	}
	return f.Truncate(n)
}
