package iscsi

import (
	"bytes"
	"encoding/binary"
)

// Mode pages.
const (
	pageCaching = 0x08
	pageControl = 0x0a
	pageAll     = 0x3f
)

// modePage is a mode page as it is now, or with 1 where it may be changed.
func (u *unit) modePage(page byte, changeable bool) []byte {
	b := make([]byte, 20)
	b[0] = page
	switch page {
	case pageCaching:
		b[1] = 18
		if !changeable {
			b[2] = 0x04 // what is written is kept by a flush only
		}
		return b
	case pageControl:
		b[1] = 10
		b = b[:12]
		switch {
		case changeable:
			b[2], b[4] = 0x04, 0x08
			return b
		case u.descriptorSense.Load():
			b[2] = 0x04
		}
		b[3] = 0x10 // commands may be reordered
		if u.writeProtect.Load() {
			b[4] = 0x08
		}
		return b
	}
	return nil
}

// modeSense tells the mode pages, with a header for 6 or 10 bytes.
func modeSense(x *exec) error {
	long := x.cdb[0] == 0x5a
	control, page, sub := x.cdb[2]>>6, x.cdb[2]&0x3f, x.cdb[3]
	if control == 3 {
		return illegal(codeSaving)
	}
	if sub != 0 && sub != 0xff {
		return errField
	}
	u := x.c.unit
	if control == 2 {
		u = &unit{} // the defaults
	}
	var pages []byte
	for _, p := range []byte{pageCaching, pageControl} {
		if page == p || page == pageAll {
			pages = append(pages, u.modePage(p, control == 1)...)
		}
	}
	if pages == nil {
		return errField
	}
	var blocks []byte
	if x.cdb[1]&8 == 0 {
		n := min(uint64(x.dev.Size())>>blockShift, 0xffffffff)
		blocks = binary.BigEndian.AppendUint32(blocks, uint32(n))
		blocks = binary.BigEndian.AppendUint32(blocks, blockBytes)
	}
	device := byte(0x10) // DPO and FUA are known
	if x.c.target.ReadOnly || x.c.unit.writeProtect.Load() {
		device |= 0x80
	}
	if !long {
		head := []byte{byte(3 + len(blocks) + len(pages)), 0, device, byte(len(blocks))}
		return x.give(bytes.Join([][]byte{head, blocks, pages}, nil), int(x.cdb[4]))
	}
	head := []byte{0, byte(6 + len(blocks) + len(pages)), 0, device, 0, 0, 0, byte(len(blocks))}
	return x.give(bytes.Join([][]byte{head, blocks, pages}, nil), allocation16(x.cdb))
}

// modeSelect changes what may be changed of the control page.
func modeSelect(x *exec) error {
	b := x.t.data
	head, blocks := 4, 3
	if x.cdb[0] == 0x55 {
		head, blocks = 8, 7
	}
	if x.cdb[1]&1 != 0 || x.cdb[1]&0x10 == 0 { // saving; not in pages
		return errField
	}
	if len(b) == 0 {
		return nil
	}
	if len(b) < head || len(b) < head+int(b[blocks]) {
		return errLength
	}
	u := x.c.unit
	pages := b[head+int(b[blocks]):]
	for rest := pages; len(rest) > 0; {
		now := u.modePage(rest[0]&0x3f, false)
		may := u.modePage(rest[0]&0x3f, true)
		if now == nil || rest[0]&0x40 != 0 {
			return errParameter
		}
		if len(rest) < len(now) || rest[1] != now[1] {
			return errLength
		}
		for i := 2; i < len(now); i++ {
			if (rest[i]^now[i])&^may[i] != 0 {
				return errParameter
			}
		}
		rest = rest[len(now):]
	}
	for rest := pages; len(rest) > 0; rest = rest[2+int(rest[1]):] {
		if rest[0]&0x3f == pageControl {
			u.descriptorSense.Store(rest[2]&0x04 != 0)
			u.writeProtect.Store(rest[4]&0x08 != 0)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tell(codeModeChanged, func(c *session) bool { return c != x.c.session })
	return nil
}
