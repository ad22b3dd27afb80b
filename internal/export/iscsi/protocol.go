package iscsi

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Opcodes of RFC 7143, section 11.2.1.2.
const (
	opNopOut   = 0x00
	opCommand  = 0x01
	opManage   = 0x02
	opLogin    = 0x03
	opText     = 0x04
	opDataOut  = 0x05
	opLogout   = 0x06
	opNopIn    = 0x20
	opResponse = 0x21
	opManaged  = 0x22
	opLoggedIn = 0x23
	opTextIn   = 0x24
	opDataIn   = 0x25
	opLoggedUp = 0x26 // logout response
	opR2T      = 0x31
	opAsync    = 0x32
	opReject   = 0x3f

	immediateBit = 0x40
	finalBit     = 0x80
	continueBit  = 0x40

	noTag = 0xffffffff // no initiator's or target's task tag
)

// Reasons of a reject, section 11.17.1.
const (
	rejectProtocol  = 0x04
	rejectCommand   = 0x05 // not supported
	rejectImmediate = 0x06 // too many immediate commands
)

const (
	headerBytes = 48
	digestBytes = 4
	ahsBytes    = 255 * 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the basic header segment of a PDU.
type header [headerBytes]byte

func (h *header) opcode() byte         { return h[0] & 0x3f }
func (h *header) immediate() bool      { return h[0]&immediateBit != 0 }
func (h *header) final() bool          { return h[1]&finalBit != 0 }
func (h *header) ahs() int             { return int(h[4]) * 4 }
func (h *header) length() int          { return int(h[5])<<16 | int(h[6])<<8 | int(h[7]) }
func (h *header) setLength(n int)      { h[5], h[6], h[7] = byte(n>>16), byte(n>>8), byte(n) }
func (h *header) word(at int) uint32   { return binary.BigEndian.Uint32(h[at:]) }
func (h *header) put(at int, v uint32) { binary.BigEndian.PutUint32(h[at:], v) }
func (h *header) lun() uint64          { return binary.BigEndian.Uint64(h[8:]) }
func (h *header) tag() uint32          { return h.word(16) }
func (h *header) transferTag() uint32  { return h.word(20) }
func (h *header) cmdSN() uint32        { return h.word(24) }

// pdu is what an initiator sent.
type pdu struct {
	header
	data []byte // in the input's buffer, until the next PDU is read
}

// errProtocol ends a connection whose other side does not keep the rules.
var errProtocol = errors.New("protocol error")

// input reads PDUs.
type input struct {
	in            *bufio.Reader
	max           int // of a data segment
	headerDigest  bool
	dataDigest    bool
	held          int    // bytes of the last PDU, still in the buffer
	beforeWaiting func() // called before a read that may block; may be nil
	readAnything  func() // called for each PDU; may be nil
}

// padded rounds up to whole words, as data segments are sent.
func padded(n int) int { return (n + 3) &^ 3 }

// next reads a PDU. It ends with io.EOF only between PDUs.
func (i *input) next() (pdu, error) {
	_, _ = i.in.Discard(i.held) // is there
	i.held = 0
	var p pdu
	h, err := i.peek(headerBytes)
	if err != nil {
		if errors.Is(err, io.EOF) && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return p, err
	}
	copy(p.header[:], h)
	if p.length() > i.max {
		return p, fmt.Errorf("%w: a data segment of %d bytes", errProtocol, p.length())
	}
	from := headerBytes + p.ahs()
	if i.headerDigest {
		from += digestBytes
	}
	total := from + padded(p.length())
	if i.dataDigest && p.length() > 0 {
		total += digestBytes
	}
	b, err := i.peek(total)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return p, err
	}
	if i.headerDigest && !sound(b[:from]) {
		return p, fmt.Errorf("%w: a header's digest is wrong", errProtocol)
	}
	if i.dataDigest && p.length() > 0 && !sound(b[from:total]) {
		return p, fmt.Errorf("%w: a data segment's digest is wrong", errProtocol)
	}
	p.data, i.held = b[from:from+p.length()], total
	if i.readAnything != nil {
		i.readAnything()
	}
	return p, nil
}

func (i *input) peek(n int) ([]byte, error) {
	if i.in.Buffered() < n && i.beforeWaiting != nil {
		i.beforeWaiting()
	}
	return i.in.Peek(n)
}

// sound reports whether b ends with the digest of what is before.
func sound(b []byte) bool {
	n := len(b) - digestBytes
	return crc32.Checksum(b[:n], castagnoli) == binary.LittleEndian.Uint32(b[n:])
}
