package iscsi

import (
	"bytes"
	"encoding/binary"

	"kvol/internal/driver"
)

// blockOperations are those of SBC-3.
func blockOperations() []operation {
	u := func(b ...byte) []byte { return b }
	cdb10 := func(flags byte) []byte { return u(0, flags, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 4) }
	cdb12 := func(flags byte) []byte {
		return u(0, flags, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 4)
	}
	cdb16 := func(flags byte) []byte {
		return u(0, flags, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 4)
	}
	var all []operation
	add := func(o operation, usages ...[]byte) {
		for _, usage := range usages {
			o.usage, o.code = usage, usage[0]
			o.medium = o.access == accessWrite && usage[0] != 0x35 && usage[0] != 0x91
			all = append(all, o)
		}
	}
	code := func(c byte, usage []byte) []byte { usage[0] = c; return usage }
	none := operation{action: -1}
	read, write, verify, same := none, none, none, none
	read.access, read.check, read.in, read.run = accessRead, checkTransfer, bytesOf, readBlocks
	write.access, write.check, write.out, write.run = accessWrite, checkTransfer, bytesOf, writeBlocks
	add(read, code(0x08, u(0, 0x1f, 0xff, 0xff, 0xff, 4)), code(0x28, cdb10(0x18)), code(0xa8, cdb12(0x18)),
		code(0x88, cdb16(0x18)))
	add(write, code(0x0a, u(0, 0x1f, 0xff, 0xff, 0xff, 4)), code(0x2a, cdb10(0x18)), code(0xaa, cdb12(0x18)),
		code(0x8a, cdb16(0x18)))
	write.check = checkVerify
	add(write, code(0x2e, cdb10(0x16)), code(0xae, cdb12(0x16)), code(0x8e, cdb16(0x16)))
	verify.access, verify.check, verify.out, verify.run = accessRead, checkVerify, verifyBytes, verifyBlocks
	verify.slow = true
	add(verify, code(0x2f, cdb10(0x16)), code(0xaf, cdb12(0x16)), code(0x8f, cdb16(0x16)))
	same.access, same.check, same.out, same.run = accessWrite, checkSame, sameBytes, writeSame
	same.slow = true
	add(same, code(0x41, cdb10(0x08)), code(0x93, cdb16(0x09)))
	fetch := operation{action: -1, access: accessRead, check: checkSpan, run: done, quick: true}
	add(fetch, code(0x34, cdb10(0x02)), code(0x90, cdb16(0x02)))
	sync := operation{action: -1, access: accessWrite, check: checkSpan, run: synchronize, slow: true}
	add(sync, code(0x35, cdb10(0x02)), code(0x91, cdb16(0x02)))
	add(operation{action: -1, access: accessWrite, out: allocation16, run: unmap, slow: true},
		u(0x42, 0, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 4))
	add(operation{action: -1, access: accessWrite, check: checkCompare, out: compareBytes, run: compareAndWrite,
		slow: true}, u(0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x1f, 4))
	add(operation{action: -1, access: accessWrite, check: checkTransfer, out: bytesOf, run: orWrite, slow: true},
		code(0x8b, cdb16(0x18)))
	add(operation{action: -1, run: capacity10, quick: true}, u(0x25, 0, 0, 0, 0, 0, 0, 0, 0, 4))
	add(operation{action: 0x10, run: capacity16, quick: true},
		u(0x9e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 4))
	add(operation{action: 0x12, access: accessRead, check: checkStart, run: lbaStatus, slow: true},
		u(0x9e, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 4))
	return all
}

// checkSpan refuses ranges beyond the end.
func checkSpan(x *exec) error {
	lba, blocks := span(x.cdb)
	if size := uint64(x.dev.Size()) >> blockShift; lba > size || uint64(blocks) > size-lba {
		return errLBA
	}
	return nil
}

// checkStart refuses a first block beyond the end.
func checkStart(x *exec) error {
	if lba, _ := span(x.cdb); lba >= uint64(x.dev.Size())>>blockShift {
		return errLBA
	}
	return nil
}

// checkTransfer also refuses protection information, which there is none of,
// and more than maxTransfer.
func checkTransfer(x *exec) error {
	if x.cdb[0]>>5 != 0 && x.cdb[1]&0xe0 != 0 {
		return errField
	}
	if err := checkSpan(x); err != nil {
		return err
	}
	if bytesOf(x.cdb) > maxTransfer {
		return errField
	}
	return nil
}

func checkVerify(x *exec) error {
	if x.cdb[1]>>1&3 == 2 {
		return errField
	}
	if x.t.op.out(x.cdb) == 0 && x.cdb[1]&0xe0 == 0 { // VERIFY that compares nothing has no data
		return checkSpan(x)
	}
	return checkTransfer(x)
}

// readBlocks reads what the initiator takes, which may be less than what the
// CDB says.
func readBlocks(x *exec) error {
	x.there = bytesOf(x.cdb)
	n := x.t.readBytes()
	if n == 0 {
		return nil
	}
	x.buf = x.c.pool.Get(n)
	x.answer = x.buf.Data
	_, err := x.dev.ReadAt(x.answer, offset(x.cdb))
	return err
}

// writeBlocks writes what came, which is less than what the CDB says where the
// initiator expected to send less.
func writeBlocks(x *exec) error {
	if err := x.writeShared(x.t.data[:len(x.t.data)&^(blockBytes-1)], offset(x.cdb)); err != nil || !fua(x.cdb) {
		return err
	}
	return x.dev.Flush()
}

func (x *exec) writeShared(p []byte, off int64) error {
	x.c.unit.io.RLock()
	defer x.c.unit.io.RUnlock()
	if len(p) == 0 {
		return nil
	}
	_, err := x.dev.WriteAt(p, off)
	return err
}

// verifyBytes is what VERIFY compares with: nothing, all, or one block.
func verifyBytes(cdb []byte) int {
	switch cdb[1] >> 1 & 3 {
	case 1:
		return bytesOf(cdb)
	case 3:
		return blockBytes
	}
	return 0
}

const chunk = 1 << 20

// verifyBlocks reads, and compares with what was sent.
func verifyBlocks(x *exec) error {
	mode := x.cdb[1] >> 1 & 3
	if len(x.t.data) < verifyBytes(x.cdb) {
		return errField
	}
	b := x.c.pool.Get(chunk)
	defer b.Free()
	off := offset(x.cdb)
	total := bytesOf(x.cdb)
	for at := 0; at < total; at += chunk {
		if x.c.gone.Load() || x.c.wasAborted(x.t) {
			return &fault{status: statusCheck, key: keyNotReady, code: codeNotReady}
		}
		got := b.Data[:min(chunk, total-at)]
		if _, err := x.dev.ReadAt(got, off+int64(at)); err != nil {
			return err
		}
		switch mode {
		case 1:
			if err := same(got, x.t.data[at:]); err != nil {
				return err
			}
		case 3:
			for i := 0; i < len(got); i += blockBytes {
				if err := same(got[i:i+blockBytes], x.t.data); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// same compares got with as much of want; the fault tells where they differ.
func same(got, want []byte) error {
	if bytes.Equal(got, want[:len(got)]) {
		return nil
	}
	at := 0
	for got[at] == want[at] {
		at++
	}
	return &fault{status: statusCheck, key: keyMiscompare, code: codeMiscompare, info: uint64(at), hasInfo: true}
}

// checkCompare also refuses what does not come whole.
func checkCompare(x *exec) error {
	if x.t.expected != compareBytes(x.cdb) {
		return errField
	}
	return checkTransfer(x)
}

func compareBytes(cdb []byte) int { return 2 * bytesOf(cdb) }

// compareAndWrite writes the second half of what was sent if the device holds
// the first half. No other write comes between.
func compareAndWrite(x *exec) error {
	n := bytesOf(x.cdb)
	if n == 0 {
		return nil
	}
	if len(x.t.data) < 2*n {
		return errField
	}
	return x.alone(n, func(old []byte) ([]byte, error) {
		return x.t.data[n : 2*n], same(old, x.t.data)
	})
}

// orWrite writes what is there or-ed with what was sent.
func orWrite(x *exec) error {
	n := len(x.t.data) &^ (blockBytes - 1)
	if n == 0 {
		return nil
	}
	return x.alone(n, func(old []byte) ([]byte, error) {
		for i := range old {
			old[i] |= x.t.data[i]
		}
		return old, nil
	})
}

// alone replaces n bytes while nothing else writes.
func (x *exec) alone(n int, change func(old []byte) ([]byte, error)) error {
	x.c.unit.io.Lock()
	defer x.c.unit.io.Unlock()
	b := x.c.pool.Get(n)
	defer b.Free()
	if _, err := x.dev.ReadAt(b.Data, offset(x.cdb)); err != nil {
		return err
	}
	b2, err := change(b.Data)
	if err != nil {
		return err
	}
	if _, err = x.dev.WriteAt(b2, offset(x.cdb)); err != nil || !fua(x.cdb) {
		return err
	}
	return x.dev.Flush()
}

func synchronize(x *exec) error { return x.dev.Flush() }

// noData reports whether a WRITE SAME brings no block: zeros are meant.
func noData(cdb []byte) bool { return cdb[0] == 0x93 && cdb[1]&1 != 0 }

func sameBytes(cdb []byte) int {
	if noData(cdb) {
		return 0
	}
	return blockBytes
}

// zeros reports whether a WRITE SAME writes zeros.
func zeros(cdb, data []byte) bool {
	zero := [blockBytes]byte{}
	return noData(cdb) || bytes.Equal(data, zero[:])
}

// sameLength is how much a WRITE SAME changes of a device of a size; no blocks
// mean all from the first on.
func sameLength(cdb []byte, size int64) int64 {
	_, blocks := span(cdb)
	if blocks == 0 {
		return size - offset(cdb)
	}
	return int64(blocks) << blockShift
}

func checkSame(x *exec) error {
	if x.cdb[1]&0xf0 != 0 { // protection, anchor
		return errField
	}
	if err := checkSpan(x); err != nil {
		return err
	}
	if sameLength(x.cdb, x.dev.Size()) > maxWriteSame<<blockShift {
		return errField
	}
	if !noData(x.cdb) && x.t.expected != blockBytes {
		return errField
	}
	return nil
}

func writeSame(x *exec) error {
	off, length := offset(x.cdb), sameLength(x.cdb, x.dev.Size())
	if length == 0 {
		return nil
	}
	if zeros(x.cdb, x.t.data) {
		x.c.unit.io.RLock()
		defer x.c.unit.io.RUnlock()
		return x.dev.Zero(off, length)
	}
	if len(x.t.data) < blockBytes {
		return errField
	}
	b := x.c.pool.Get(int(min(length, chunk)))
	defer b.Free()
	for i := 0; i < len(b.Data); i += blockBytes {
		copy(b.Data[i:], x.t.data)
	}
	for ; length > 0; off, length = off+chunk, length-chunk {
		if x.c.gone.Load() || x.c.wasAborted(x.t) {
			return &fault{status: statusCheck, key: keyNotReady, code: codeNotReady}
		}
		if err := x.writeShared(b.Data[:min(length, chunk)], off); err != nil {
			return err
		}
	}
	return nil
}

// unmap gives ranges back. They read as zeros, to the block.
func unmap(x *exec) error {
	if x.cdb[1]&1 != 0 { // anchor
		return errField
	}
	be := binary.BigEndian
	b := x.t.data
	if allocation16(x.cdb) == 0 {
		return nil
	}
	if len(b) < 8 {
		return errLength
	}
	list := b[8:]
	list = list[:min(len(list), int(be.Uint16(b[2:])))]
	list = list[:len(list)&^15]
	if len(list)/16 > maxUnmapRanges {
		return errParameter
	}
	size := uint64(x.dev.Size()) >> blockShift
	for at := 0; at < len(list); at += 16 {
		lba, blocks := be.Uint64(list[at:]), uint64(be.Uint32(list[at+8:]))
		if lba > size || blocks > size-lba {
			return errLBA
		}
	}
	x.c.unit.io.RLock()
	defer x.c.unit.io.RUnlock()
	for at := 0; at < len(list); at += 16 {
		lba, blocks := int64(be.Uint64(list[at:])), int64(be.Uint32(list[at+8:]))
		if blocks == 0 {
			continue
		}
		if err := x.dev.Zero(lba<<blockShift, blocks<<blockShift); err != nil {
			return err
		}
	}
	return nil
}

func capacity10(x *exec) error {
	last := min(uint64(x.dev.Size())>>blockShift-1, 0xffffffff)
	b := binary.BigEndian.AppendUint32(nil, uint32(last))
	return x.give(binary.BigEndian.AppendUint32(b, blockBytes), 8)
}

func capacity16(x *exec) error {
	b := make([]byte, 32)
	binary.BigEndian.PutUint64(b, uint64(x.dev.Size())>>blockShift-1)
	binary.BigEndian.PutUint32(b[8:], blockBytes)
	b[13] = 3    // 2^3 blocks in a physical block
	b[14] = 0xc0 // thin; unmapped reads as zeros
	return x.give(b, int(binary.BigEndian.Uint32(x.cdb[10:])))
}

// maxStatuses is the most ranges that one GET LBA STATUS tells; the initiator
// asks again for the rest.
const maxStatuses = 256

// lbaStatus tells which blocks hold data.
func lbaStatus(x *exec) error {
	be := binary.BigEndian
	limit := int(be.Uint32(x.cdb[10:]))
	b := make([]byte, 8)
	at, end := offset(x.cdb), x.dev.Size()
	put := func(upTo int64, zero bool) {
		status := byte(0)
		if zero {
			status = 1
		}
		if n := len(b); n > 8 && b[n-4] == status && be.Uint32(b[n-8:])+uint32((upTo-at)>>blockShift) >= be.Uint32(b[n-8:]) {
			be.PutUint32(b[n-8:], be.Uint32(b[n-8:])+uint32((upTo-at)>>blockShift))
			at = upTo
			return
		}
		b = be.AppendUint64(b, uint64(at)>>blockShift)
		b = be.AppendUint32(b, uint32((upTo-at)>>blockShift))
		b = append(b, status, 0, 0, 0)
		at = upTo
	}
	end = min(end, at+1<<40) // so that a count fits
	er, ok := x.dev.(driver.ExtentReader)
	if !ok {
		put(end, false)
	} else {
		for e, err := range er.Extents(at, end-at) {
			if err != nil {
				return err
			}
			if e.End() > at {
				put(min(e.End(), end), e.Zero)
			}
			if at == end || len(b) >= 8+16*min(maxStatuses, max(limit-8, 16)/16) {
				break
			}
		}
	}
	be.PutUint32(b, uint32(len(b)-4))
	return x.give(b, limit)
}
