package iscsi

import "sync"

// buffer holds the data of one command.
type buffer struct {
	class int
	store []byte
	data  []byte // what is used of store
}

// bufferSizes are the classes; the last is maxTransfer.
var bufferSizes = [...]int{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, maxTransfer}

// buffers keeps buffers of each class for reuse by all connections of a server.
type buffers [len(bufferSizes)]sync.Pool

// get returns a buffer for n bytes, at most maxTransfer. They hold anything.
func (p *buffers) get(n int) *buffer {
	class := 0
	for bufferSizes[class] < n {
		class++
	}
	b, ok := p[class].Get().(*buffer)
	if !ok {
		b = &buffer{class: class, store: make([]byte, bufferSizes[class])}
	}
	b.data = b.store[:n]
	return b
}

func (p *buffers) put(b *buffer) { p[b.class].Put(b) }
