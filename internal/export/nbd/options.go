package nbd

import (
	"context"
	"encoding/binary"
	"fmt"

	"kvol/internal/driver"
)

// exportName answers NBD_OPT_EXPORT_NAME, which knows no refusal but hanging
// up.
func (h *handshake) exportName(ctx context.Context, name string) (done bool, err error) {
	if err := h.open(ctx, name); err != nil {
		return false, fmt.Errorf("export name: %w", err)
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(h.export.Device.Size()))
	b = binary.BigEndian.AppendUint16(b, h.transmissionFlags())
	if h.zeros {
		b = append(b, make([]byte, exportNamePad)...)
	}
	_, err = h.conn.Write(b)
	return err == nil, err
}

func (h *handshake) transmissionFlags() uint16 {
	flags := uint16(flagHasFlags | flagSendFlush | flagSendFUA | flagSendCache | flagCanMultiConn)
	if h.export.ReadOnly {
		flags |= flagReadOnly
	} else {
		flags |= flagSendTrim | flagSendWriteZeroes | flagSendFastZero
	}
	if h.structured {
		flags |= flagSendDF
	}
	return flags
}

// info answers NBD_OPT_INFO and NBD_OPT_GO.
func (h *handshake) info(ctx context.Context, opt option, data []byte) (done bool, err error) {
	d := decoder{data}
	name := d.text()
	wanted := make(map[uint16]bool)
	for range d.uint16() {
		wanted[d.uint16()] = true
		if d.data == nil {
			break
		}
	}
	if !d.ended() {
		return false, h.reply(opt, repErrInvalid, "the option's data does not add up")
	}
	if err := h.open(ctx, name); err != nil {
		return false, h.refuse(opt, err)
	}
	for _, item := range h.items(wanted) {
		if err := h.replyBytes(opt, repInfo, item); err != nil {
			return false, err
		}
	}
	return opt == optGo, h.reply(opt, repAck, "")
}

// items are the pieces of information about the open export: what must be told
// and what was asked for.
func (h *handshake) items(wanted map[uint16]bool) [][]byte {
	be := binary.BigEndian
	export := be.AppendUint16(nil, infoExport)
	export = be.AppendUint64(export, uint64(h.export.Device.Size()))
	items := [][]byte{be.AppendUint16(export, h.transmissionFlags())}
	if wanted[infoName] {
		items = append(items, append(be.AppendUint16(nil, infoName), h.export.name...))
	}
	if wanted[infoDescription] && h.export.Description != "" {
		items = append(items, append(be.AppendUint16(nil, infoDescription), h.export.Description...))
	}
	if wanted[infoBlockSize] {
		sizes := be.AppendUint16(nil, infoBlockSize)
		sizes = be.AppendUint32(sizes, 1)
		sizes = be.AppendUint32(sizes, driver.BlockSize)
		items = append(items, be.AppendUint32(sizes, MaxRequest))
	}
	return items
}

// decoder takes an option's data apart. After a field that is not there, data
// is nil and all further fields are zero.
type decoder struct{ data []byte }

// ended reports whether all fields were there and nothing is left.
func (d *decoder) ended() bool { return d.data != nil && len(d.data) == 0 }

func (d *decoder) take(n uint32) []byte {
	if uint64(n) > uint64(len(d.data)) || d.data == nil {
		d.data = nil
		return nil
	}
	b := d.data[:n:n]
	d.data = d.data[n:]
	return b
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// text is a string with its length before it (at most 4096 bytes by the
// protocol, here as many as an option may have).
func (d *decoder) text() string { return string(d.take(d.uint32())) }
