// Package line holds what the servers of the export protocols have in common: a
// door that lets connections in up to limits, a crew that carries out what takes
// long, an output that gathers answers, and the buffers of them all. It knows no
// protocol and no device.
package line

import "sync"

// Headroom is what a buffer has before its payload, so that an answer's header
// and data are one piece of a vectored write. With 64 bytes the payload begins
// at a cache line.
const Headroom = 64

// MaxBuffer is the most bytes that a buffer's payload has.
const MaxBuffer = 32 << 20

// Buffer holds the payload of a request or of an answer. It has one owner at a
// time.
type Buffer struct {
	Data  []byte // the payload
	home  *Buffers
	class int
	store []byte // headroom and the room of the class
	from  int    // where in store an answer begins; set by Head
}

// Head gives n bytes just before the payload, at most Headroom, as the beginning
// of an answer.
func (b *Buffer) Head(n int) []byte {
	b.from = Headroom - n
	return b.store[b.from:Headroom]
}

// Answer is what Head began, and the payload.
func (b *Buffer) Answer() []byte { return b.store[b.from : Headroom+len(b.Data)] }

// bufferSizes are the classes.
var bufferSizes = [...]int{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, MaxBuffer}

// Buffers keeps buffers of each class for reuse by all connections of a server.
// The zero value is ready, for any number of goroutines.
type Buffers [len(bufferSizes)]sync.Pool

// Get returns a buffer for n bytes, at most MaxBuffer. They hold anything.
func (p *Buffers) Get(n int) *Buffer {
	class := 0
	for bufferSizes[class] < n {
		class++
	}
	b, ok := p[class].Get().(*Buffer)
	if !ok {
		b = &Buffer{home: p, class: class, store: make([]byte, Headroom+bufferSizes[class])}
	}
	b.Data = b.store[Headroom : Headroom+n]
	return b
}

// Free gives a buffer back that nobody uses any more.
func (b *Buffer) Free() { b.home[b.class].Put(b) }
