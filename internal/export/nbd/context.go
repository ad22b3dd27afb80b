package nbd

import (
	"context"
	"encoding/binary"
	"iter"
	"slices"
	"sort"
	"strings"

	"kvol/internal/driver"
)

// Contexts of block status: base:allocation, and one for each moment of which
// the export knows what changed since (Export.Since), with that name behind
// changedPrefix. Of those, the only state is bit 0: it may have changed.
const (
	changedPrefix = "kvol:changed:"
	stateChanged  = 1 << 0
	// maxContexts is how many a connection may choose.
	maxContexts = 8
)

// metaContext is a context that a client chose.
type metaContext struct {
	id      uint32
	changes []span // nil for base:allocation
}

// span is a range of bytes.
type span struct{ off, end int64 }

// maxSpans is how many ranges one context keeps, about 2 MiB. Where more
// changed, ranges that lie near each other are told as one: a context may tell
// too much, never too little.
const maxSpans = 1 << 17

// gather takes what changed into memory.
func gather(changed iter.Seq2[driver.Extent, error], most int) ([]span, error) {
	list := []span{}
	gap := int64(0) // what lies between two ranges that are told as one, at most
	for e, err := range changed {
		if err != nil {
			return nil, err
		}
		if last := len(list) - 1; last >= 0 && e.Off-list[last].end <= gap {
			list[last].end = max(list[last].end, e.End())
			continue
		}
		list = append(list, span{e.Off, e.End()})
		for len(list) > most {
			gap = max(driver.BlockSize, 2*gap)
			list = joined(list, gap)
		}
	}
	return list, nil
}

// joined joins ranges of list with no more than gap between them.
func joined(list []span, gap int64) []span {
	out := list[:1]
	for _, s := range list[1:] {
		if last := &out[len(out)-1]; s.off-last.end <= gap {
			last.end = s.end
		} else {
			out = append(out, s)
		}
	}
	return out
}

// metaContext answers NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
func (h *handshake) metaContext(ctx context.Context, opt option, data []byte) error {
	if opt == optSetMetaContext {
		h.contexts = nil // even if what follows fails
	}
	if !h.structured {
		return h.reply(opt, repErrInvalid, "structured replies come first")
	}
	d := decoder{data}
	name := d.text()
	var queries []string
	for range d.uint32() {
		query := d.text()
		if d.data == nil {
			break
		}
		queries = append(queries, query)
	}
	if !d.ended() {
		return h.reply(opt, repErrInvalid, "the option's data does not add up")
	}
	if err := h.open(ctx, name); err != nil {
		return h.refuse(opt, err)
	}
	all := append([]string{baseAllocation}, h.export.Since...)
	for i := range all[1:] {
		all[i+1] = changedPrefix + all[i+1]
	}
	set := opt == optSetMetaContext // a list changes nothing that was chosen
	if set {
		h.chosenFor = name
	}
	for _, found := range all {
		if !asked(found, queries, !set) || set && len(h.contexts) == maxContexts {
			continue
		}
		id := uint32(0)
		if set {
			if err := h.choose(ctx, found); err != nil {
				h.contexts = nil
				return h.refuse(opt, err)
			}
			id = h.contexts[len(h.contexts)-1].id
		}
		if err := h.replyBytes(opt, repMetaContext, append(binary.BigEndian.AppendUint32(nil, id), found...)); err != nil {
			return err
		}
	}
	return h.reply(opt, repAck, "")
}

// asked reports whether a context is among queries. A list may also ask for all
// of a namespace, or of a prefix that ends in a colon, or for all.
func asked(found string, queries []string, list bool) bool {
	if list && len(queries) == 0 {
		return true
	}
	return slices.ContainsFunc(queries, func(q string) bool {
		return q == found || list && strings.HasSuffix(q, ":") && strings.HasPrefix(found, q)
	})
}

// choose adds a context of the open export to those of the connection.
func (h *handshake) choose(ctx context.Context, name string) error {
	m := metaContext{id: baseContextID + uint32(len(h.contexts))}
	if since, ok := strings.CutPrefix(name, changedPrefix); ok {
		var err error
		if m.changes, err = gather(h.export.Changed(ctx, since), maxSpans); err != nil {
			return err
		}
	}
	h.contexts = append(h.contexts, m)
	return nil
}

// maxDescriptors is the most extents that one block status tells of a context;
// the client asks again for the rest.
const maxDescriptors = 4096

// statusReply tells what the chosen contexts know of a range: a chunk for each.
func (c *conn) statusReply(r *request) reply {
	limit := maxDescriptors
	if r.flags&flagReqOne != 0 {
		limit = 1
	}
	b := c.pool.Get(len(c.contexts) * (structuredHeader + 4 + 8*limit))
	list := b.Data[:0]
	for i := range c.contexts {
		m := &c.contexts[i]
		start := len(list)
		list = append(list, make([]byte, structuredHeader)...)
		list = binary.BigEndian.AppendUint32(list, m.id)
		var err error
		if list, err = describe(list, int64(r.off), limit, c.segments(m, r)); err != nil {
			b.Free()
			return c.deviceFailure(r, err)
		}
		putChunk(list[start:], r, chunkBlockStatus, len(list)-start-structuredHeader)
		if i < len(c.contexts)-1 {
			binary.BigEndian.PutUint16(list[start+4:], 0) // more chunks follow
		}
	}
	b.Data = list
	b.Head(0)
	return reply{buf: b}
}

// segment is a part of a range, from the end of the one before it.
type segment struct {
	end   int64
	state uint32
}

// segments yields what a context knows of a request's range.
func (c *conn) segments(m *metaContext, r *request) iter.Seq2[segment, error] {
	off, end := int64(r.off), int64(r.off)+int64(r.length)
	if m.changes != nil {
		return changedSegments(m.changes, off, end)
	}
	return func(yield func(segment, error) bool) {
		er, ok := c.dev.(driver.ExtentReader)
		if !ok {
			yield(segment{end: end}, nil)
			return
		}
		for e, err := range er.Extents(off, end-off) {
			state := uint32(0)
			if e.Zero {
				state = stateHole | stateZero
			}
			if !yield(segment{min(e.End(), end), state}, err) {
				return
			}
		}
	}
}

func changedSegments(list []span, off, end int64) iter.Seq2[segment, error] {
	return func(yield func(segment, error) bool) {
		first := sort.Search(len(list), func(i int) bool { return list[i].end > off })
		for _, s := range list[first:] {
			if s.off >= end {
				break
			}
			if s.off > off && !yield(segment{end: s.off}, nil) || !yield(segment{min(s.end, end), stateChanged}, nil) {
				return
			}
			off = s.end
		}
		if off < end {
			yield(segment{end: end}, nil)
		}
	}
}

// describe appends lengths and states of the segments from off on to list,
// neighbours of one state joined, at most limit of them.
func describe(list []byte, off int64, limit int, segments iter.Seq2[segment, error]) ([]byte, error) {
	state, length := uint32(0), uint32(0) // the one that is being gathered
	put := func() {
		if length > 0 {
			list = binary.BigEndian.AppendUint32(list, length)
			list = binary.BigEndian.AppendUint32(list, state)
			limit--
		}
	}
	for s, err := range segments {
		if err != nil {
			return nil, err
		}
		if s.end <= off {
			continue
		}
		if s.state != state {
			put()
			if limit == 0 {
				return list, nil
			}
			state, length = s.state, 0
		}
		length += uint32(s.end - off)
		off = s.end
	}
	put()
	return list, nil
}
