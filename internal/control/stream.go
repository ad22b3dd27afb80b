package control

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/driver"
)

const (
	streamChunk = 1 << 20  // bytes that are read at once
	checkEvery  = 64 << 20 // bytes after which a long job looks whether it is still wanted
)

// stream writes what it reads at the same offsets, leaves out zeros, and
// returns how much it read. More than limit is Invalid. each, if not nil, is
// called now and then and stops the stream by its error.
func stream(to io.WriterAt, from io.Reader, limit int64, each func(done int64) error) (int64, error) {
	buf := make([]byte, streamChunk)
	var done int64
	for {
		n, err := io.ReadFull(from, buf)
		if done+int64(n) > limit {
			return done, block.Errorf(block.Invalid, "The image is larger than %d bytes.", limit)
		}
		if n > 0 && !driver.IsZero(buf[:n]) {
			if _, err := to.WriteAt(buf[:n], done); err != nil {
				return done, err
			}
		}
		done += int64(n)
		if each != nil {
			if err := each(done); err != nil {
				return done, err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
}

// watched reads from r as long as ctx and each allow it.
type watched struct {
	ctx  context.Context
	r    io.Reader
	each func(done int64) error
	done int64
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	w.done += int64(n)
	if each := w.each(w.done); each != nil {
		return n, each
	}
	return n, err
}

// Where lseek finds data and holes (Linux, lseek(2)); elsewhere it refuses.
const (
	seekData = 3
	seekHole = 4
)

// dataRange returns the first range at or after off of a file of size bytes
// that is no hole; from == size if there is none. Where the system can't tell,
// all is data.
func dataRange(f *os.File, off, size int64) (from, to int64) {
	from, err := f.Seek(off, seekData)
	if errors.Is(err, syscall.ENXIO) {
		return size, size
	}
	if err != nil {
		return off, size
	}
	if to, err = f.Seek(from, seekHole); err != nil || to > size {
		to = size
	}
	return min(from, size), to
}

// streamFile is stream for a file of size bytes, of which it reads no holes.
func streamFile(to io.WriterAt, f *os.File, size int64, each func(done int64) error) error {
	for from, end := dataRange(f, 0, size); from < size; from, end = dataRange(f, end, size) {
		base := from
		_, err := stream(io.NewOffsetWriter(to, base), io.NewSectionReader(f, base, end-base), end-base,
			func(done int64) error { return each(base + done) })
		if err != nil {
			return err
		}
	}
	return nil
}
