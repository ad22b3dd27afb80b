package nbd

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"kvol/internal/block"
)

var errAborted = errors.New("the client went before transmission")

// handshake is the state of a connection until transmission.
type handshake struct {
	s     *Server
	raw   net.Conn
	conn  net.Conn // a *tls.Conn over raw once tls
	tls   bool
	fixed bool // the client knows fixed newstyle
	zeros bool // the answer to EXPORT_NAME is padded with zeros

	structured bool
	contexts   []metaContext // that were chosen for the export chosenFor
	chosenFor  string
	export     *openName // what was opened last; nil for nothing
	scratch    []byte
}

// openName is an export and the name under which it was opened.
type openName struct {
	Export
	name string
}

func (e *openName) release() {
	if e.Release != nil {
		e.Release()
	}
}

// negotiate leads a connection from accept to transmission. It reads no byte
// more than the handshake has, so that nothing that was sent in the clear can
// pass for something sent through TLS. Whatever it returns, an open export is
// the caller's to release.
func (s *Server) negotiate(ctx context.Context, nc net.Conn) (*handshake, error) {
	h := &handshake{s: s, raw: nc, conn: nc}
	if err := nc.SetDeadline(s.now().Add(s.limits.Handshake)); err != nil {
		return h, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	if err := h.greet(); err != nil {
		return h, err
	}
	for range s.limits.Options {
		done, err := h.option(ctx)
		if err != nil {
			return h, err
		}
		if !done {
			continue
		}
		if !stop() {
			return h, errAborted // the server stops
		}
		return h, h.conn.SetDeadline(time.Time{})
	}
	return h, errors.New("too many options")
}

func (h *handshake) greet() error {
	hello := binary.BigEndian.AppendUint64(nil, magicInit)
	hello = binary.BigEndian.AppendUint64(hello, magicOption)
	hello = binary.BigEndian.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := h.conn.Write(hello); err != nil {
		return err
	}
	var b [4]byte
	if _, err := io.ReadFull(h.conn, b[:]); err != nil {
		return errors.Join(errAborted, err)
	}
	flags := binary.BigEndian.Uint32(b[:])
	if unknown := flags &^ (flagFixedNewstyle | flagNoZeroes); unknown != 0 {
		return fmt.Errorf("unknown client flags %#x", unknown)
	}
	h.fixed, h.zeros = flags&flagFixedNewstyle != 0, flags&flagNoZeroes == 0
	return nil
}

// option reads and answers one option; done says that transmission begins.
func (h *handshake) option(ctx context.Context) (done bool, err error) {
	var b [optionHeader]byte
	if _, err := io.ReadFull(h.conn, b[:]); err != nil {
		return false, errors.Join(errAborted, err)
	}
	if magic := binary.BigEndian.Uint64(b[:]); magic != magicOption {
		return false, fmt.Errorf("an option begins with %#x", magic)
	}
	opt, n := option(binary.BigEndian.Uint32(b[8:])), int64(binary.BigEndian.Uint32(b[12:]))
	if !h.fixed && opt != optExportName {
		return false, fmt.Errorf("option %d of a client without fixed newstyle", opt)
	}
	if n > int64(h.s.limits.OptionBytes) {
		return false, h.tooBig(opt, n)
	}
	if int64(cap(h.scratch)) < n {
		h.scratch = make([]byte, n)
	}
	data := h.scratch[:n]
	if _, err := io.ReadFull(h.conn, data); err != nil {
		return false, err
	}
	if h.s.requireTLS && !h.tls && opt != optStartTLS && opt != optAbort {
		if opt == optExportName {
			return false, errors.New("the client did not begin TLS")
		}
		return false, h.reply(opt, repErrTLSReqd, "this server wants TLS")
	}
	return h.answer(ctx, opt, data)
}

// skipOption is the most data of an option that is read only to be dropped.
const skipOption = 1 << 20

func (h *handshake) tooBig(opt option, n int64) error {
	if opt == optExportName || n > skipOption {
		return fmt.Errorf("option %d with %d bytes", opt, n)
	}
	if _, err := io.CopyN(io.Discard, h.conn, n); err != nil {
		return err
	}
	return h.reply(opt, repErrTooBig, "the option has too much data")
}

func (h *handshake) answer(ctx context.Context, opt option, data []byte) (done bool, err error) {
	switch opt {
	case optExportName:
		return h.exportName(ctx, string(data))
	case optInfo, optGo:
		return h.info(ctx, opt, data)
	case optListMetaContext, optSetMetaContext:
		return false, h.metaContext(ctx, opt, data)
	case optAbort:
		_ = h.reply(opt, repAck, "") // the client may be gone already
		return false, errAborted
	}
	if len(data) > 0 && (opt == optList || opt == optStartTLS || opt == optStructuredReply) {
		return false, h.reply(opt, repErrInvalid, "the option takes no data")
	}
	switch opt {
	case optList:
		// Names are secrets: who knows one may use the volume.
		return false, h.reply(opt, repErrPolicy, "exports are not listed")
	case optStructuredReply:
		h.structured = true
		return false, h.reply(opt, repAck, "")
	case optStartTLS:
		return false, h.startTLS(ctx)
	default:
		return false, h.reply(opt, repErrUnsup, "unknown option")
	}
}

// startTLS answers NBD_OPT_STARTTLS and forgets what was agreed in the clear.
func (h *handshake) startTLS(ctx context.Context) error {
	switch {
	case h.s.tls == nil:
		return h.reply(optStartTLS, repErrPolicy, "this server has no TLS")
	case h.tls:
		return h.reply(optStartTLS, repErrInvalid, "this is TLS already")
	}
	if err := h.reply(optStartTLS, repAck, ""); err != nil {
		return err
	}
	conn := tls.Server(h.conn, h.s.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	h.drop()
	h.conn, h.tls, h.structured, h.contexts = conn, true, false, nil
	return nil
}

// reply sends one answer to an option; text is data or, with an error, for the
// client's user.
func (h *handshake) reply(opt option, rep optReply, text string) error {
	return h.replyBytes(opt, rep, []byte(text))
}

func (h *handshake) replyBytes(opt option, rep optReply, data []byte) error {
	b := make([]byte, 0, optReplyHeader+len(data))
	b = binary.BigEndian.AppendUint64(b, magicOptReply)
	b = binary.BigEndian.AppendUint32(b, uint32(opt))
	b = binary.BigEndian.AppendUint32(b, uint32(rep))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	_, err := h.conn.Write(append(b, data...))
	return err
}

// open makes h.export the export of a name.
func (h *handshake) open(ctx context.Context, name string) error {
	if h.export != nil && h.export.name == name {
		return nil
	}
	h.drop()
	if !h.s.uses.Take(name, h.s.limits.ExportConnections) {
		return block.Errorf(block.OverLimit, "The export has as many connections as it may have.")
	}
	e, err := h.s.exports.Open(ctx, name)
	if err != nil {
		h.s.uses.GiveBack(name)
		return err
	}
	h.export = &openName{Export: e, name: name}
	return nil
}

func (h *handshake) drop() {
	if h.export != nil {
		h.export.release()
		h.s.uses.GiveBack(h.export.name)
		h.export = nil
	}
}

// refuse tells a client why its export can't be had.
func (h *handshake) refuse(opt option, err error) error {
	rep := repErrUnknown
	switch block.KindOf(err) {
	case block.NotFound:
	case block.Unavailable:
		rep = repErrShutdown
	default:
		rep = repErrPolicy
	}
	text, ok := block.UserMessage(err)
	if !ok {
		h.s.log.Error("opening an export failed", "err", err)
		text = "the export can't be opened"
	}
	return h.reply(opt, rep, text)
}
