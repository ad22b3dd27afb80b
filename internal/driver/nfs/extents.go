package nfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"kvol/internal/driver"
)

// span is a part of a file and where on the disk it is.
type span struct {
	off, len int64
	disk     uint64
	// unsure spans have data of which nobody says where it is: packed, inline,
	// on its way.
	unsure bool
}

func (s span) end() int64 { return s.off + s.len }

// The ioctl FS_IOC_FIEMAP and its structures, from linux/fiemap.h.
const (
	fiemapCall   = 0xc020660b
	fiemapHeader = 32
	fiemapExtent = 56
	fiemapSync   = 1
	fiemapAtOnce = 512

	extentLast      = 0x1
	extentUnwritten = 0x800
	// extentSure are the flags of an extent whose place counts; with any other one
	// it is unsure.
	extentSure = extentLast | extentUnwritten | 0x1000 /* merged */ | 0x2000 /* shared */
)

// spans tells where a file's data is. Parts that read as zeros are left out. It
// fails with ENOTSUP where the file system can't tell.
func spans(ctx context.Context, f *os.File, size int64) (all []span, err error) {
	buf := make([]byte, fiemapHeader+fiemapAtOnce*fiemapExtent)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		clear(buf[:fiemapHeader])
		binary.NativeEndian.PutUint64(buf[0:], uint64(off))
		binary.NativeEndian.PutUint64(buf[8:], uint64(size-off))
		binary.NativeEndian.PutUint32(buf[16:], fiemapSync)
		binary.NativeEndian.PutUint32(buf[24:], fiemapAtOnce)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemapCall, uintptr(unsafe.Pointer(&buf[0])))
		runtime.KeepAlive(f)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return nil, os.NewSyscallError("fiemap", errno)
		}
		n := int(binary.NativeEndian.Uint32(buf[20:]))
		if n == 0 {
			return all, nil
		}
		found, next, last := parseSpans(buf[fiemapHeader:], n, off, size)
		all = append(all, found...)
		if last || next <= off {
			return all, nil
		}
		off = next
	}
	return all, nil
}

// parseSpans reads n extents as the kernel wrote them, of which those count that
// lie from off up to size; next is where they end.
func parseSpans(text []byte, n int, off, size int64) (all []span, next int64, last bool) {
	next = off
	for ; n > 0 && len(text) >= fiemapExtent; n, text = n-1, text[fiemapExtent:] {
		logical, disk := binary.NativeEndian.Uint64(text), binary.NativeEndian.Uint64(text[8:])
		length, flags := binary.NativeEndian.Uint64(text[16:]), binary.NativeEndian.Uint32(text[40:])
		last = last || flags&extentLast != 0
		if logical >= uint64(size) || length == 0 {
			continue
		}
		s := span{off: int64(logical), len: int64(min(length, uint64(size)-logical)), disk: disk,
			unsure: flags&^extentSure != 0}
		if cut := next - s.off; cut > 0 { // its beginning was dealt with
			if cut >= s.len {
				continue
			}
			s.off, s.len, s.disk = s.off+cut, s.len-cut, s.disk+uint64(cut)
		}
		next = s.end()
		if flags&extentUnwritten == 0 || s.unsure {
			all = append(all, s)
		}
	}
	return all, next, last
}

// places walks two files' spans side by side.
type places struct{ all []span }

// at returns what is at off, and up to where that is so.
func (p *places) at(off, end int64) (s span, data bool, until int64) {
	for len(p.all) > 0 && p.all[0].end() <= off {
		p.all = p.all[1:]
	}
	if len(p.all) == 0 || p.all[0].off >= end {
		return span{}, false, end
	}
	if s = p.all[0]; s.off > off {
		return span{}, false, s.off
	}
	return s, true, min(s.end(), end)
}

// compareSpans yields what may differ between two files, by where their data is.
// older may be shorter: it goes on with zeros.
func compareSpans(older, newer []span, size int64, yield func(driver.Extent) bool) {
	a, b := places{older}, places{newer}
	out := collector{size: size, yield: yield}
	for off := int64(0); off < size && !out.over; {
		x, dataX, untilX := a.at(off, size)
		y, dataY, untilY := b.at(off, size)
		end := min(untilX, untilY)
		same := !dataX && !dataY || dataX && dataY && !x.unsure && !y.unsure &&
			x.disk+uint64(off-x.off) == y.disk+uint64(off-y.off)
		if !same {
			out.add(off, end, !dataY)
		}
		off = end
	}
	out.done()
}

// collector makes extents of whole blocks out of ranges of bytes that come in
// order. A block of which only a part became zeros is data.
type collector struct {
	size  int64
	yield func(driver.Extent) bool
	last  driver.Extent
	over  bool // nobody wants more
}

func floor(off int64) int64 { return off / driver.BlockSize * driver.BlockSize }

func ceil(off int64) int64 { return floor(off + driver.BlockSize - 1) }

func (c *collector) add(off, end int64, zero bool) {
	if !zero {
		c.put(floor(off), min(ceil(end), c.size), false)
		return
	}
	first, last := ceil(off), floor(end)
	if end == c.size {
		last = end
	}
	if first >= last { // within one block, or at the edge of two
		c.put(floor(off), min(ceil(end), c.size), false)
		return
	}
	c.put(floor(off), first, false)
	c.put(first, last, true)
	c.put(last, min(ceil(end), c.size), false)
}

// put takes [off, end), which may begin in the last block of what it has.
func (c *collector) put(off, end int64, zero bool) {
	if c.last.Len > 0 && off < c.last.End() {
		if c.last.Zero && !zero { // a part of its last block is data after all
			keep := c.last.End() - driver.BlockSize
			c.last.Len = keep - c.last.Off
			c.flush()
			c.last = driver.Extent{Off: keep, Len: max(end, keep+driver.BlockSize) - keep}
			c.last.Len = min(c.last.End(), c.size) - c.last.Off
			return
		}
		off = c.last.End()
	}
	switch {
	case off >= end:
	case c.last.Len > 0 && c.last.End() == off && c.last.Zero == zero:
		c.last.Len += end - off
	default:
		c.flush()
		c.last = driver.Extent{Off: off, Len: end - off, Zero: zero}
	}
}

func (c *collector) flush() {
	if c.last.Len > 0 && !c.over {
		c.over = !c.yield(c.last)
	}
	c.last = driver.Extent{}
}

func (c *collector) done() { c.flush() }

// diff implements form. Snapshots' files are never written to, so what lies at
// one place of the disk in both is the same.
func (r raw) diff(ctx context.Context, from, to place, yield func(driver.Extent) bool) error {
	newer, sizeB, err := r.openSized(to)
	if err != nil {
		return err
	}
	defer newer.Close()
	var older *os.File
	var sizeA int64
	if from != "" {
		if older, sizeA, err = r.openSized(from); err != nil {
			return err
		}
		defer older.Close()
	}
	b, err := spans(ctx, newer, sizeB)
	var a []span
	if err == nil && older != nil {
		a, err = spans(ctx, older, min(sizeA, sizeB))
	}
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
		return readDiff(ctx, older, sizeA, newer, sizeB, yield)
	}
	if err != nil {
		return failed(err)
	}
	compareSpans(a, b, sizeB, yield)
	return ctx.Err()
}

func (r raw) openSized(at place) (*os.File, int64, error) {
	f, err := r.d.openFile(at, os.O_RDONLY)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, failed(errors.Join(err, f.Close()))
	}
	return f, info.Size(), nil
}

const readSize = 1 << 20

// readDiff compares files by reading both where one of them has data: where the
// share is mounted by NFS, nobody tells where on the server's disk they lie.
func readDiff(ctx context.Context, older *os.File, sizeA int64, newer *os.File, sizeB int64,
	yield func(driver.Extent) bool) error {
	out := collector{size: sizeB, yield: yield}
	a, b := make([]byte, readSize), make([]byte, readSize)
	for off := int64(0); off < sizeB && !out.over; {
		if err := ctx.Err(); err != nil {
			return err
		}
		hole, err := bothHoles(older, sizeA, newer, off, sizeB)
		if err != nil {
			return failed(err)
		}
		if hole < sizeB {
			hole = floor(hole)
		}
		if hole > off {
			off = hole
			continue
		}
		end := min(off+readSize, sizeB)
		n := int(end - off)
		clear(a)
		if m := min(int64(n), sizeA-off); older != nil && m > 0 {
			if _, err := older.ReadAt(a[:m], off); err != nil {
				return failed(err)
			}
		}
		if _, err := newer.ReadAt(b[:n], off); err != nil {
			return failed(err)
		}
		for i := 0; i < n; i += driver.BlockSize {
			j := min(i+driver.BlockSize, n)
			if !bytes.Equal(a[i:j], b[i:j]) {
				out.add(off+int64(i), off+int64(j), driver.IsZero(b[i:j]))
			}
		}
		off = end
	}
	out.done()
	return nil
}

// bothHoles is up to where both files are known to be holes from off on.
func bothHoles(older *os.File, sizeA int64, newer *os.File, off, size int64) (int64, error) {
	e, err := segment(newer, off, size)
	if err != nil || !e.Zero {
		return off, err
	}
	end := e.End()
	if older != nil && off < sizeA {
		o, err := segment(older, off, sizeA)
		if err != nil || !o.Zero {
			return off, err
		}
		if o.End() < sizeA {
			end = min(end, o.End())
		}
	}
	return end, nil
}
