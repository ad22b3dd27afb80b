package nfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver/program"
)

// header is what kvol reads of a qcow2 file itself (docs/interop/qcow2.txt of
// QEMU). Its numbers are big-endian.
type header struct {
	size  int64  // of the volume, in bytes
	layer string // on which the file stands; "" for none
}

const (
	headerRead  = 4096 // bytes of a file that are looked at
	headerFixed = 32
)

func parseHeader(text []byte) (header, error) {
	bad := func(why string) (header, error) {
		return header{}, block.Errorf(block.Corrupt, "A volume's file is no image of ours: %s.", why)
	}
	if len(text) < headerFixed || string(text[:4]) != "QFI\xfb" {
		return bad("it has no header")
	}
	at, length := binary.BigEndian.Uint64(text[8:]), binary.BigEndian.Uint32(text[16:])
	size := binary.BigEndian.Uint64(text[24:])
	if size > math.MaxInt64 {
		return bad("it is too large")
	}
	h := header{size: int64(size)}
	if at == 0 {
		return h, nil
	}
	if at > uint64(len(text)) || uint64(length) > uint64(len(text))-at {
		return bad("its header is too long")
	}
	name, ours := strings.CutPrefix(string(text[at:at+uint64(length)]), layerPrefix)
	if !ours || !isLayer(name) {
		return bad("it stands on a file that is no layer")
	}
	h.layer = name
	return h, nil
}

func readHeader(f *os.File) (header, error) {
	text := make([]byte, headerRead)
	n, err := f.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, failed(err)
	}
	return parseHeader(text[:n])
}

// maxDepth is on how many layers a file may stand.
const maxDepth = 1024

// chain is an open image with the layers below it, the image first.
type chain []*os.File

func (c chain) close() {
	for _, f := range c {
		_ = f.Close() // they were only lent
	}
}

// open opens a file and what it stands on. A merge may rename what it is about to
// open; then it begins anew.
func (d *Driver) openChain(at place, flag int) (c chain, err error) {
	for range 10 {
		if c, err = d.tryChain(at, flag); !errors.Is(err, errMoved) {
			break
		}
	}
	if errors.Is(err, errMoved) {
		err = block.Wrap(block.Corrupt, err, "A layer of a volume is missing.")
	}
	return c, err
}

var errMoved = errors.New("a layer is not where it was")

func (d *Driver) tryChain(at place, flag int) (c chain, err error) {
	for next := at; ; flag = os.O_RDONLY {
		f, err := d.openFile(next, flag)
		if err != nil {
			c.close()
			if len(c) > 0 && block.Is(err, block.NotFound) {
				err = errors.Join(errMoved, err)
			}
			return nil, err
		}
		c = append(c, f)
		h, err := readHeader(f)
		if err == nil && len(c) > maxDepth {
			err = block.Errorf(block.Corrupt, "A volume stands on too many layers.")
		}
		if err != nil {
			c.close()
			return nil, err
		}
		if h.layer == "" {
			return c, nil
		}
		next = layerAt(h.layer)
	}
}

// node is an image as qemu takes it. What a header says of the file below is not
// looked at: that is named here.
type node struct {
	Driver  string `json:"driver"`
	File    file   `json:"file"`
	Backing *node  `json:"backing"`
}

type file struct {
	Driver   string `json:"driver"`
	Filename string `json:"filename"`
	Locking  string `json:"locking"`
}

// name is how a program of QEMU's takes the chain when its files are given to it
// as descriptors from first on. QEMU's own locks are off: kvol knows better who
// may do what at once.
func (c chain) name(first int) string {
	var top *node
	for i := len(c) - 1; i >= 0; i-- {
		top = &node{Driver: "qcow2", Backing: top,
			File: file{Driver: "file", Filename: descriptor(first + i), Locking: "off"}}
	}
	text, err := json.Marshal(top)
	if err != nil {
		panic(err) // strings only
	}
	return "json:" + string(text)
}

func descriptor(n int) string { return fmt.Sprintf("/proc/self/fd/%d", n) }

// firstFile is the number of the first file that a command is given.
const firstFile = 3

var errSlow = errors.New("it did not end in time")

// qemuImg runs qemu-img on files that it has as descriptors from firstFile on.
func (d *Driver) qemuImg(ctx context.Context, limit time.Duration, files []*os.File, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-img", args...)
	cmd.WaitDelay = time.Second
	cmd.ExtraFiles = append(files[:len(files):len(files)], d.lock)     // its death is waited for by who comes after us
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // all that it does may be interrupted
	var out bytes.Buffer
	var said program.Said
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	cause := fmt.Errorf("qemu-img %s: %w: %s", args[0], err, &said)
	switch {
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSlow):
		return nil, errors.Join(ctx.Err(), cause)
	case strings.Contains(said.String(), "No space left on device"):
		return nil, block.Wrap(block.NoSpace, cause, "The share is full.")
	case errors.Is(err, exec.ErrNotFound):
		return nil, block.Wrap(block.Unavailable, cause, "The command qemu-img could not be run in this zone.")
	}
	return nil, block.Wrap(block.Unavailable, cause, "The share does not answer as it should.")
}
