package backup

import (
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/zeebo/blake3"

	"kvol/internal/block"
)

// ChunkSize is how many bytes of a volume one chunk holds, the last one of a
// volume excepted. Volumes over 16 TiB have longer ones, see chunkFor; manifests
// name the length.
const ChunkSize = 64 << 10

const (
	minChunk = 4 << 10
	maxChunk = 4 << 20

	chunkHeader = 12 // bytes before a chunk's payload
	chunkMagic  = "KVC1"
	methodPlain = 0
	methodZstd  = 1
)

// The contexts in which BLAKE3 is used, so that no content of one sort can
// take the place of another sort's.
const (
	dataContext = "kvol backup 1 data chunk"
	pageContext = "kvol backup 1 page of chunk ids"
	rootContext = "kvol backup 1 root"
)

// chunkID is the hash of a chunk's content; the zero chunkID stands for a
// content of zeros, which is not stored.
type chunkID [32]byte

func (id chunkID) zero() bool { return id == chunkID{} }

func idOf(context string, content []byte) (id chunkID) {
	blake3.DeriveKey(context, content, id[:])
	return id
}

// name is that of a chunk's object.
func (l Location) chunk(id chunkID) string {
	text := hex.EncodeToString(id[:])
	return l.chunks(id[0]) + "/" + text
}

// chunks is where the chunks lie whose ids begin with a byte.
func (l Location) chunks(first byte) string {
	return string(l) + "/chunks/" + hex.EncodeToString([]byte{first})
}

// pack makes a chunk's object.
func (r *Repository) pack(content []byte) []byte {
	object := make([]byte, chunkHeader, chunkHeader+len(content))
	copy(object, chunkMagic)
	binary.LittleEndian.PutUint32(object[8:], uint32(len(content))) // at most maxChunk
	object[4] = methodZstd
	object = r.compressor.EncodeAll(content, object)
	if len(object) < chunkHeader+len(content) {
		return object
	}
	object[4] = methodPlain
	return append(object[:chunkHeader], content...)
}

var errChunk = errors.New("it does not have the form of a chunk")

// unpack is the reverse of pack; want is how long the content is to be.
func (r *Repository) unpack(object []byte, want int) ([]byte, error) {
	if len(object) < chunkHeader || string(object[:4]) != chunkMagic || object[5]|object[6]|object[7] != 0 ||
		want < 0 || uint64(binary.LittleEndian.Uint32(object[8:])) != uint64(want) {
		return nil, errChunk
	}
	payload := object[chunkHeader:]
	switch object[4] {
	case methodPlain:
		if len(payload) != want {
			return nil, errChunk
		}
		return payload, nil
	case methodZstd:
		content, err := r.decompressor.DecodeAll(payload, make([]byte, 0, want))
		if err == nil && len(content) != want {
			err = errChunk
		}
		return content, err
	}
	return nil, errChunk
}

// unpackChecked is unpack for an object that must have the content of an id.
func (r *Repository) unpackChecked(object []byte, context string, id chunkID, want int) ([]byte, error) {
	content, err := r.unpack(object, want)
	if err != nil {
		return nil, err
	}
	if idOf(context, content) != id {
		return nil, errors.New("its content does not have its hash")
	}
	return content, nil
}

// checkChunkSize says which sizes a manifest may name.
func checkChunkSize(n uint32) error {
	if n < minChunk || n > maxChunk || n&(n-1) != 0 {
		return block.Errorf(block.Corrupt, "a chunk size of %d bytes", n)
	}
	return nil
}
