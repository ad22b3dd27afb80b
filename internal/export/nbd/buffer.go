package nbd

import "sync"

// headroom is what a buffer has before its payload, so that a reply's header
// and data are one piece of a vectored write. The longest header has 28 bytes;
// with 64 the payload begins at a cache line.
const headroom = 64

// buffer holds a request's payload or a reply.
type buffer struct {
	class int
	store []byte // headroom and the room of the class
	data  []byte // the payload in it
	from  int    // where in store a reply begins; set by those that make one
}

// reply is the part of b that goes to the client.
func (b *buffer) reply() []byte { return b.store[b.from : headroom+len(b.data)] }

// head gives n bytes just before the payload, as the beginning of the reply.
func (b *buffer) head(n int) []byte {
	b.from = headroom - n
	return b.store[b.from:headroom]
}

// bufferSizes are the classes; the last is MaxRequest.
var bufferSizes = [...]int{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, MaxRequest}

// buffers keeps buffers of each class for reuse by all connections of a server.
type buffers [len(bufferSizes)]sync.Pool

// get returns a buffer for n bytes, at most MaxRequest. They hold anything.
func (p *buffers) get(n int) *buffer {
	class := 0
	for bufferSizes[class] < n {
		class++
	}
	b, ok := p[class].Get().(*buffer)
	if !ok {
		b = &buffer{class: class, store: make([]byte, headroom+bufferSizes[class])}
	}
	b.data = b.store[headroom : headroom+n]
	return b
}

func (p *buffers) put(b *buffer) { p[b.class].Put(b) }
