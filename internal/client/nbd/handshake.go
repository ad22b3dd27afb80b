package nbd

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Numbers of the protocol (NetworkBlockDevice/nbd, doc/proto.md).
const (
	magicInit       = 0x4e42444d41474943
	magicOption     = 0x49484156454f5054
	magicOptReply   = 0x3e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef

	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1

	optStartTLS        = 5
	optGo              = 7
	optStructuredReply = 8
	optSetMetaContext  = 10

	repAck         = 1
	repInfo        = 3
	repMetaContext = 4
	repErr         = 1 << 31

	infoExport = 0

	flagReadOnly = 1 << 1

	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	flagFUA    = 1 << 0
	flagNoHole = 1 << 1

	chunkNone        = 0
	chunkOffsetData  = 1
	chunkOffsetHole  = 2
	chunkBlockStatus = 5
	chunkErrorBit    = 1 << 15
	chunkDone        = 1 << 0

	stateZero = 1 << 1

	baseAllocation = "base:allocation"
)

// maxReply is the most data of an answer to an option that is believed.
const maxReply = 64 << 10

var errOption = errors.New("nbd: the answer does not fit what was asked")

// handshake leads from a fresh connection to transmission.
func (c *Conn) handshake(ctx context.Context, nc net.Conn, export string, o Options) error {
	if len(export) > 4096 {
		return errors.New("nbd: an export's name has at most 4096 bytes")
	}
	if err := greet(nc); err != nil {
		return err
	}
	if o.TLS != nil {
		if err := ask(nc, optStartTLS, nil, nil); err != nil {
			return err
		}
		secure := tls.Client(nc, o.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("nbd: %w", err)
		}
		nc = secure
	}
	c.conn = nc
	name := append(binary.BigEndian.AppendUint32(nil, uint32(len(export))), export...)
	if err := c.agree(name); err != nil {
		return err
	}
	told := false
	err := ask(nc, optGo, append(name[:len(name):len(name)], 0, 0), func(rep uint32, data []byte) error {
		if rep == repInfo && len(data) == 12 && binary.BigEndian.Uint16(data) == infoExport {
			c.size, c.flags = int64(binary.BigEndian.Uint64(data[2:])), binary.BigEndian.Uint16(data[10:])
			told = true
		}
		return nil
	})
	if err == nil && (!told || c.size < 0) {
		return errOption
	}
	return err
}

// agree asks for structured replies and base:allocation; a server without them
// will do.
func (c *Conn) agree(name []byte) error {
	var refused *Error
	if err := ask(c.conn, optStructuredReply, nil, nil); err != nil {
		if errors.As(err, &refused) {
			return nil
		}
		return err
	}
	query := binary.BigEndian.AppendUint32(name[:len(name):len(name)], 1)
	query = binary.BigEndian.AppendUint32(query, uint32(len(baseAllocation)))
	err := ask(c.conn, optSetMetaContext, append(query, baseAllocation...), func(rep uint32, _ []byte) error {
		c.blocks = c.blocks || rep == repMetaContext
		return nil
	})
	if errors.As(err, &refused) {
		return nil // what is wrong with the export, if anything, GO will tell
	}
	return err
}

func greet(nc net.Conn) error {
	var b [18]byte
	if _, err := io.ReadFull(nc, b[:]); err != nil {
		return fmt.Errorf("nbd: %w", err)
	}
	be := binary.BigEndian
	flags := be.Uint16(b[16:])
	if be.Uint64(b[:]) != magicInit || be.Uint64(b[8:]) != magicOption || flags&flagFixedNewstyle == 0 {
		return errors.New("nbd: no server of fixed newstyle answers there")
	}
	_, err := nc.Write(be.AppendUint32(nil, uint32(flags&(flagFixedNewstyle|flagNoZeroes))))
	return err
}

// ask sends an option and reads the answers up to the last; each answer before
// it goes to each. A refusal is an *Error.
func ask(nc net.Conn, opt uint32, data []byte, each func(rep uint32, data []byte) error) error {
	be := binary.BigEndian
	b := be.AppendUint64(nil, magicOption)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, uint32(len(data)))
	if _, err := nc.Write(append(b, data...)); err != nil {
		return fmt.Errorf("nbd: %w", err)
	}
	for {
		var h [20]byte
		if _, err := io.ReadFull(nc, h[:]); err != nil {
			return fmt.Errorf("nbd: %w", err)
		}
		rep, n := be.Uint32(h[12:]), be.Uint32(h[16:])
		if be.Uint64(h[:]) != magicOptReply || be.Uint32(h[8:]) != opt || n > maxReply {
			return errOption
		}
		answer := make([]byte, n)
		if _, err := io.ReadFull(nc, answer); err != nil {
			return fmt.Errorf("nbd: %w", err)
		}
		switch {
		case rep == repAck:
			return nil
		case rep&repErr != 0:
			return &Error{Op: "handshake", Message: string(answer)}
		case each != nil:
			if err := each(rep, answer); err != nil {
				return err
			}
		}
	}
}
