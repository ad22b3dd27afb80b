package nbd

import (
	"net"

	"kvol/internal/export/line"
)

// reply is one answer on its way to the client: a head, or a buffer with head
// and data in one piece.
type reply struct {
	head [simpleHeader]byte
	n    int          // bytes of head, where buf is nil
	buf  *line.Buffer // given back when it was sent
	cost int          // bytes of the request, see request.cost
}

type output = line.Output[reply, *reply]

func newOutput(s *Server, h *handshake, failed func()) *output {
	share := func() int { return s.door.Share(s.limits.ServerBytes) }
	return line.NewOutput[reply](line.OutputConfig{Conn: h.conn, Raw: h.raw, Requests: s.limits.Requests,
		Bytes: s.limits.InFlightBytes, Share: share, Stall: s.limits.Stall, Now: s.now, Failed: failed}, nil)
}

// Append implements line.Answer.
func (r *reply) Append(pieces net.Buffers) net.Buffers {
	if r.buf != nil {
		return append(pieces, r.buf.Answer())
	}
	return append(pieces, r.head[:r.n])
}

// Cost implements line.Answer.
func (r *reply) Cost() (requests, bytes int) { return 1, r.cost }

// Size implements line.Answer.
func (r *reply) Size() int {
	if r.buf != nil {
		return len(r.buf.Answer())
	}
	return r.n
}

// Sent implements line.Answer.
func (r *reply) Sent() {
	if r.buf != nil {
		r.buf.Free()
	}
}
