package image

import (
	"crypto/md5"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// verified reads an image's file, and fails as Corrupt at its end unless the bytes
// are those that were uploaded: a disk or whoever has a hand in the directory may
// have changed them since. It belongs to one goroutine.
type verified struct {
	file *os.File
	size int64
	done int64
	sum  hash.Hash // nil where none was noted
	want string
}

func verify(f *os.File, i catalog.Image) *verified {
	v := &verified{file: f, size: value(i.Size)}
	switch {
	case i.HashValue != nil:
		v.sum, v.want = sha512.New(), *i.HashValue
	case i.Checksum != nil:
		v.sum, v.want = md5.New(), *i.Checksum
	}
	return v
}

// Read implements io.Reader.
func (v *verified) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	v.done += int64(n)
	if v.sum != nil {
		v.sum.Write(p[:n]) // hashes never fail
	}
	if v.done > v.size || errors.Is(err, io.EOF) && v.done < v.size {
		return n, wrongSize(v.size)
	}
	if errors.Is(err, io.EOF) && v.sum != nil && hex.EncodeToString(v.sum.Sum(nil)) != v.want {
		return n, block.Errorf(block.Corrupt, "The bytes of the image are not those of its hash.")
	}
	return n, err
}

// Close implements io.Closer.
func (v *verified) Close() error { return v.file.Close() }

// checkSize refuses a file that can't be what was uploaded, before any of it is
// read.
func checkSize(f *os.File, i catalog.Image) error {
	info, err := f.Stat()
	if err == nil && info.Size() != value(i.Size) {
		err = wrongSize(value(i.Size))
	}
	return err
}

func wrongSize(want int64) error {
	return block.Errorf(block.Corrupt, "The stored image does not have the %d bytes that were uploaded.", want)
}
