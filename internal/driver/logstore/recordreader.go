package logstore

import (
	"errors"
	"io"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// recordReader reads records out of a segment. What it returns is valid until
// the next call.
type recordReader struct {
	file  vfs.File
	size  int64
	salt  uint64
	hooks *testHooks
	buf   []byte
	data  []byte
}

func isIOError(err error) bool { return err != nil && !errors.Is(err, io.EOF) }

// read returns the header and body of the record at an offset, or no header
// where there is no whole one. Data is not looked at.
func (r *recordReader) read(off int64) (*header, []byte, error) {
	if off+headerSize > r.size {
		return nil, nil, nil
	}
	r.buf = grown(r.buf, headerSize)
	if _, err := r.file.ReadAt(r.buf, off); isIOError(err) {
		return nil, nil, unreadable(err)
	} else if err != nil {
		return nil, nil, nil
	}
	h, ok := parseHeader(r.buf)
	if !ok || off+h.size() > r.size {
		return nil, nil, nil
	}
	r.buf = grown(r.buf, headerSize+int(h.body))
	if _, err := r.file.ReadAt(r.buf[headerSize:], off+headerSize); isIOError(err) {
		return nil, nil, unreadable(err)
	} else if err != nil || !checkHeader(r.buf, &h, r.salt) {
		return nil, nil, nil
	}
	return &h, r.buf[headerSize:], nil
}

func unreadable(err error) error {
	return block.Wrap(block.Unavailable, err, "a segment of the store can't be read")
}

// grown returns p with length n, its bytes kept.
func grown(p []byte, n int) []byte {
	if n <= cap(p) {
		return p[:n]
	}
	return append(p, make([]byte, n-len(p))...)
}

// crcs returns the checksums in a record's body, 4 bytes for each block.
func (h *header) crcs(body []byte) []byte {
	switch h.op {
	case opWrite:
		return body
	case opRelocate:
		return body[relocateFixed:]
	default:
		return nil
	}
}

// dataWhole reports whether a record's data is what its checksums say. Data that
// the disk does not give now is neither whole nor torn.
func (r *recordReader) dataWhole(h *header, body []byte, off int64) (bool, error) {
	if h.data == 0 || r.hooks.is(skipDataCheck) {
		return true, nil
	}
	r.data = grown(r.data, int(h.data))
	if _, err := r.file.ReadAt(r.data, off+h.dataOff()); isIOError(err) {
		return false, unreadable(err)
	} else if err != nil {
		return false, nil
	}
	crcs := h.crcs(body)
	for i := range int(h.count) {
		if blockCRC(r.data[i*blockSize:(i+1)*blockSize]) != le.Uint32(crcs[i*4:]) {
			return false, nil
		}
	}
	return true, nil
}
