package iscsi

import (
	"encoding/binary"

	"kvol/internal/driver"
	"kvol/internal/export/line"
)

// access is what a command does to the medium, as reservations have it.
type access byte

const (
	accessNone  access = iota // allowed whoever holds a reservation
	accessRead                // stopped by an exclusive one
	accessWrite               // stopped by either
	accessKeep                // has rules of its own
)

// operation is one command that the unit knows.
type operation struct {
	code   byte
	action int // service action; -1 for none
	// usage is the CDB as REPORT SUPPORTED OPERATION CODES tells it: a bit is set
	// where one of the initiator is looked at. The service action is filled in.
	usage  []byte
	access access
	out    func(cdb []byte) int // bytes that the initiator sends; nil for none
	in     func(cdb []byte) int // bytes of the device that it reads; nil for none
	check  func(*exec) error    // before any data is asked for; may be nil
	run    func(*exec) error
	quick  bool // takes no time
	slow   bool // is for a worker
	medium bool // changes it: refused where it can't be written
	always bool // in spite of unit attentions
	noUnit bool // answered for LUNs where nothing is
}

// exec is a command while it is carried out.
type exec struct {
	c      *conn
	t      *task
	dev    driver.Device
	cdb    []byte
	answer []byte
	there  int          // bytes that there are for an answer, where it was not made of all of them
	buf    *line.Buffer // of answer, if from the pool
}

// give answers with at most limit bytes of b.
func (x *exec) give(b []byte, limit int) error {
	x.answer = b[:min(len(b), limit)]
	return nil
}

const (
	blockShift = 9 // blocks of 512 bytes
	blockBytes = 1 << blockShift
	perGranule = 8 // blocks of driver.BlockSize
)

// span is the range of blocks that a CDB names.
func span(cdb []byte) (lba uint64, blocks uint32) {
	be := binary.BigEndian
	switch {
	case cdb[0] == 0x89: // COMPARE AND WRITE
		return be.Uint64(cdb[2:]), uint32(cdb[13])
	case cdb[0] == 0x9e: // GET LBA STATUS
		return be.Uint64(cdb[2:]), 0
	}
	switch cdb[0] >> 5 {
	case 0:
		blocks = uint32(cdb[4])
		if blocks == 0 {
			blocks = 256
		}
		return uint64(be.Uint32(cdb) & 0x1fffff), blocks
	case 4:
		return be.Uint64(cdb[2:]), be.Uint32(cdb[10:])
	case 5:
		return uint64(be.Uint32(cdb[2:])), be.Uint32(cdb[6:])
	}
	return uint64(be.Uint32(cdb[2:])), uint32(be.Uint16(cdb[7:]))
}

// bytesOf is a span's length in bytes; where that is too much, check refuses
// the command before the number is used.
func bytesOf(cdb []byte) int {
	_, blocks := span(cdb)
	return int(blocks) << blockShift
}

// offset is where a span begins in the device.
func offset(cdb []byte) int64 {
	lba, _ := span(cdb)
	return int64(lba) << blockShift
}

// fua reports whether what is written has to be on the medium: by the bit of
// the commands that have it, and always with WRITE AND VERIFY.
func fua(cdb []byte) bool {
	switch cdb[0] {
	case 0x2a, 0xaa, 0x8a, 0x89, 0x8b:
		return cdb[1]&0x08 != 0
	case 0x2e, 0xae, 0x8e:
		return true
	}
	return false
}

// operations are the commands by code.
type operations [256][]*operation

func newOperations() *operations {
	var all operations
	for _, list := range [][]operation{basicOperations(), reserveOperations(), blockOperations()} {
		for i := range list {
			o := &list[i]
			if o.action >= 0 {
				o.usage[1] = o.usage[1]&^0x1f | byte(o.action)
			}
			o.usage[0] = o.code
			all[o.code] = append(all[o.code], o)
		}
	}
	return &all
}

// find finds the operation of a CDB.
func (a *operations) find(cdb []byte) (*operation, error) {
	list := a[cdb[0]]
	if len(list) == 0 {
		return nil, errOpcode
	}
	for _, o := range list {
		if o.action < 0 || o.action == int(cdb[1]&0x1f) {
			return o, nil
		}
	}
	return nil, errField
}

// prepare refuses what can't be carried out, before any data is asked for.
func (c *conn) prepare(t *task) (err error) {
	if t.op, err = c.s.operations.find(t.cdb[:]); err != nil {
		if !c.ours(t.lun) {
			err = errLUN
		}
		return err
	}
	if !c.ours(t.lun) {
		if !t.op.noUnit {
			return errLUN
		}
	} else if !t.op.always {
		if code, ok := c.attended(); ok {
			return &fault{status: statusCheck, key: keyAttention, code: code}
		}
		if size := c.target.Device.Size(); c.size.Swap(size) != size {
			return &fault{status: statusCheck, key: keyAttention, code: codeCapacity}
		}
	}
	if t.cdb[len(t.op.usage)-1]&0x04 != 0 { // NACA
		return errField
	}
	if c.unit.reserved.Load() && !c.unit.permits(c.session, t) {
		return errConflict
	}
	if t.op.access == accessWrite && (c.target.ReadOnly || c.unit.writeProtect.Load()) && t.op.medium {
		return errProtected
	}
	if t.op.check != nil {
		if err := t.op.check(&exec{c: c, t: t, dev: c.target.Device, cdb: t.cdb[:]}); err != nil {
			return err
		}
	}
	if !t.writes && t.op.out != nil && t.op.out(t.cdb[:]) > 0 {
		return errField // it says by the W bit that it brings nothing
	}
	return nil
}
