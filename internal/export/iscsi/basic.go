package iscsi

import (
	"crypto/sha256"
	"encoding/binary"
)

// basicOperations are those of SPC-4 but for reservations.
func basicOperations() []operation {
	u := func(b ...byte) []byte { return b }
	return []operation{
		{code: 0x00, action: -1, usage: u(0, 0, 0, 0, 0, 4), run: done, quick: true},
		{code: 0x03, action: -1, usage: u(0, 1, 0, 0, 0xff, 4), run: requestSense, quick: true, always: true,
			noUnit: true},
		{code: 0x12, action: -1, usage: u(0, 1, 0xff, 0xff, 0xff, 4), run: inquiry, quick: true, always: true,
			noUnit: true},
		{code: 0x15, action: -1, usage: u(0, 0x11, 0, 0, 0xff, 4), run: modeSelect, quick: true, access: accessWrite,
			out: func(cdb []byte) int { return int(cdb[4]) }},
		{code: 0x1a, action: -1, usage: u(0, 8, 0xff, 0xff, 0xff, 4), run: modeSense, quick: true},
		{code: 0x1b, action: -1, usage: u(0, 1, 0, 0x0f, 0xf7, 4), run: startStop, slow: true},
		{code: 0x1e, action: -1, usage: u(0, 0, 0, 0, 3, 4), run: done, quick: true},
		{code: 0x55, action: -1, usage: u(0, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 4), run: modeSelect, quick: true,
			access: accessWrite, out: allocation16},
		{code: 0x5a, action: -1, usage: u(0, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 4), run: modeSense, quick: true},
		{code: 0xa0, action: -1, usage: u(0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 4), run: reportLUNs,
			quick: true, always: true, noUnit: true},
		{code: 0xa3, action: 0x0c, usage: u(0, 0, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 4),
			run: reportOperations, quick: true},
	}
}

// allocation16 is a length at the place where 10-byte CDBs have it.
func allocation16(cdb []byte) int { return int(binary.BigEndian.Uint16(cdb[7:])) }

func done(*exec) error { return nil }

// startStop makes what was written last when the unit is stopped; it goes on
// working.
func startStop(x *exec) error {
	if x.cdb[4]&1 == 0 && !x.c.target.ReadOnly {
		return x.dev.Flush()
	}
	return nil
}

// requestSense tells a unit attention that waits, or that there is none.
func requestSense(x *exec) error {
	f := &fault{}
	if !x.c.ours(x.t.lun) {
		f = errLUN
	} else if code, ok := x.c.attended(); ok {
		f = &fault{key: keyAttention, code: code}
	}
	return x.give(f.sense(x.cdb[1]&1 != 0), int(x.cdb[4]))
}

const (
	vendor   = "KVOL    "
	product  = "BLOCK VOLUME    "
	revision = "1   "

	// optimal is the length of transfers that is best, in blocks.
	optimal = (64 << 10) >> blockShift
	// maxUnmapRanges is how many ranges one UNMAP may have.
	maxUnmapRanges = 256
	// maxWriteSame is the most blocks of one WRITE SAME: 1 GiB.
	maxWriteSame = (1 << 30) >> blockShift
	maxCompare   = 255 // blocks of COMPARE AND WRITE
)

func inquiry(x *exec) error {
	limit := int(binary.BigEndian.Uint16(x.cdb[3:]))
	if x.cdb[1]&2 != 0 || x.cdb[1]&1 == 0 && x.cdb[2] != 0 {
		return errField
	}
	if x.cdb[1]&1 == 0 {
		return x.give(x.standard(), limit)
	}
	page := x.cdb[2]
	body, ok := x.c.vitalPage(page)
	if !ok || !x.c.ours(x.t.lun) {
		return errField
	}
	return x.give(append([]byte{0, page, byte(len(body) >> 8), byte(len(body))}, body...), limit)
}

// standard is the standard INQUIRY data.
func (x *exec) standard() []byte {
	b := make([]byte, 96)
	if !x.c.ours(x.t.lun) {
		b[0] = 0x7f // nothing there, nor can be
	}
	b[2], b[3], b[4], b[7] = 6, 0x12, byte(len(b)-5), 0x02
	copy(b[8:], vendor)
	copy(b[16:], product)
	copy(b[32:], revision)
	for i, standard := range []uint16{0x00a0, 0x0960, 0x0460, 0x04c0} { // SAM-5, iSCSI, SPC-4, SBC-3
		binary.BigEndian.PutUint16(b[58+2*i:], standard)
	}
	return b
}

// vitalPage is a page of vital product data, without its header.
func (c *conn) vitalPage(page byte) ([]byte, bool) {
	be := binary.BigEndian
	name := c.target.Unit[:min(len(c.target.Unit), 200)]
	switch page {
	case 0x00:
		return []byte{0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2}, true
	case 0x80:
		return []byte(name), true
	case 0x83:
		sum := sha256.Sum256([]byte(c.target.Unit))
		sum[0] = 0x30 | sum[0]&0x0f // NAA: locally assigned
		b := append([]byte{1, 3, 0, 8}, sum[:8]...)
		b = append(b, 2, 1, 0, byte(len(vendor)+len(name)))
		return append(append(b, vendor...), name...), true
	case 0xb0:
		b := make([]byte, 60)
		b[1] = maxCompare
		be.PutUint16(b[2:], perGranule)
		be.PutUint32(b[4:], maxTransfer>>blockShift)
		be.PutUint32(b[8:], optimal)
		be.PutUint32(b[16:], 0xffffffff) // blocks of one UNMAP
		be.PutUint32(b[20:], maxUnmapRanges)
		be.PutUint32(b[24:], perGranule)
		be.PutUint32(b[28:], 1<<31) // granules are aligned to 0
		be.PutUint64(b[32:], maxWriteSame)
		return b, true
	case 0xb1:
		b := make([]byte, 60)
		b[1] = 1 // does not rotate
		return b, true
	case 0xb2:
		return []byte{0, 0xe4, 2, 0}, true // UNMAP, WRITE SAME 16 and 10; unmapped reads as zeros; thin
	}
	return nil, false
}

func reportLUNs(x *exec) error {
	limit := int(binary.BigEndian.Uint32(x.cdb[6:]))
	if x.cdb[2] > 2 || limit < 16 {
		return errField
	}
	b := make([]byte, 8, 16)
	if x.cdb[2] != 1 { // well-known units: none
		b = append(b, 0, x.c.target.LUN, 0, 0, 0, 0, 0, 0)
	}
	b[3] = byte(len(b) - 8)
	return x.give(b, limit)
}

// reportOperations tells which commands there are.
func reportOperations(x *exec) error {
	timeouts, code := x.cdb[2]&0x80 != 0, x.cdb[3]
	action := int(binary.BigEndian.Uint16(x.cdb[4:]))
	limit := int(binary.BigEndian.Uint32(x.cdb[6:]))
	none := []byte{0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // a descriptor without times
	list := x.c.s.operations[code]
	actions := len(list) > 0 && list[0].action >= 0
	switch options := x.cdb[2] & 7; {
	case options == 0:
		b := make([]byte, 4)
		for _, list := range x.c.s.operations {
			for _, o := range list {
				d := []byte{o.code, 0, 0, byte(max(o.action, 0)), 0, 0, 0, byte(len(o.usage))}
				if o.action >= 0 {
					d[5] |= 1
				}
				b = append(b, d...)
				if timeouts {
					b[len(b)-3] |= 2
					b = append(b, none...)
				}
			}
		}
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		return x.give(b, limit)
	case options > 3, options == 1 && actions, options == 2 && len(list) > 0 && !actions:
		return errField
	}
	b := []byte{0, 1, 0, 0} // not supported
	for _, o := range list {
		if o.action >= 0 && o.action != action || o.action < 0 && action != 0 {
			continue
		}
		b = append([]byte{0, 3, 0, byte(len(o.usage))}, o.usage...)
		if timeouts {
			b[1] |= 0x80
			b = append(b, none...)
		}
	}
	return x.give(b, limit)
}
