package logstore

import (
	"encoding/binary"
	"hash/crc32"

	"kvol/internal/block"
	"kvol/internal/driver"
)

const (
	blockSize  = driver.BlockSize
	leafBlocks = 512 // blocks that one leaf of the index covers

	recordMagic  = 0x3172766b // "kvr1"
	headerSize   = 64
	maxBody      = 1 << 20 // bytes; the largest is a snapshot of many volumes
	segmentMagic = 0x3173766b
)

// op is what a record does. The numbers are part of the format.
type op uint8

const (
	opOpen           op = 1  // the store was opened: a new generation
	opCreate         op = 2  // a volume
	opClone          op = 3  // a volume from a snapshot
	opWrite          op = 4  // data into one leaf
	opZero           op = 5  // a range of blocks
	opSnapshot       op = 6  // one instant of one or many volumes
	opExtend         op = 7  // a volume
	opRewind         op = 8  // a volume back to a snapshot
	opDelete         op = 9  // a volume and its snapshots
	opDeleteSnapshot op = 10 // one snapshot
	opRelocate       op = 11 // data of an old record, moved to the log's end
	opLast              = opRelocate
)

// header is the fixed part of a record. See docs/format.md.
type header struct {
	seq        uint64 // of the whole store, without gaps
	generation uint32
	op         op
	volume     uint64 // number of the volume
	branch     uint64 // number of the branch
	first      uint64 // block
	count      uint32 // blocks
	body       uint32 // bytes between header and data
	data       uint32 // bytes of data
	behind     uint32 // 1 + how many records before it were not known to be on the disk; 0: not said
	crc        uint32 // of header and body, salted
}

// notSynced sets behind, as it is when all records below a sequence are on the
// disk.
func (h *header) notSynced(synced uint64) {
	h.behind = 0
	if n := h.seq - min(h.seq, synced); n < 1<<32-1 {
		h.behind = uint32(n) + 1
	}
}

// proves returns the sequence below which all records were on the disk when h
// was appended, as far as it says so.
func (h *header) proves() uint64 {
	if h.behind == 0 {
		return 0
	}
	return h.seq + 1 - min(h.seq+1, uint64(h.behind))
}

// size is the record's length in bytes.
func (h *header) size() int64 { return headerSize + int64(h.body) + int64(h.data) }

// dataOff is where the data lies in the record.
func (h *header) dataOff() int64 { return headerSize + int64(h.body) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func blockCRC(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

var le = binary.LittleEndian

// putHeader writes h into the first headerSize bytes of p, of which the body
// follows at once, and computes the checksum over both. The salt is the
// store's secret: bytes that a tenant wrote can't pass for a record.
func putHeader(p []byte, h *header, salt uint64) {
	le.PutUint32(p[0:], recordMagic)
	le.PutUint64(p[8:], h.seq)
	le.PutUint32(p[16:], h.generation)
	p[20], p[21], p[22], p[23] = byte(h.op), 0, 0, 0
	le.PutUint64(p[24:], h.volume)
	le.PutUint64(p[32:], h.branch)
	le.PutUint64(p[40:], h.first)
	le.PutUint32(p[48:], h.count)
	le.PutUint32(p[52:], h.body)
	le.PutUint32(p[56:], h.data)
	le.PutUint32(p[60:], h.behind)
	h.crc = headerCRC(p[:headerSize+int(h.body)], salt)
	le.PutUint32(p[4:], h.crc)
}

func headerCRC(p []byte, salt uint64) uint32 {
	var s [8]byte
	le.PutUint64(s[:], salt)
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, p[8:])
}

// parseHeader reads the fixed part of a record; ok is false if it can't be one.
// The checksum is checked by checkHeader, once the body is there too.
func parseHeader(p []byte) (h header, ok bool) {
	if len(p) < headerSize || le.Uint32(p) != recordMagic {
		return h, false
	}
	h = header{
		crc: le.Uint32(p[4:]), seq: le.Uint64(p[8:]), generation: le.Uint32(p[16:]), op: op(p[20]),
		volume: le.Uint64(p[24:]), branch: le.Uint64(p[32:]), first: le.Uint64(p[40:]),
		count: le.Uint32(p[48:]), body: le.Uint32(p[52:]), data: le.Uint32(p[56:]), behind: le.Uint32(p[60:]),
	}
	if h.op == 0 || h.op > opLast || h.body > maxBody {
		return h, false
	}
	switch h.op {
	case opWrite:
		ok = h.dataFits() && h.body == h.count*4
	case opRelocate:
		ok = h.dataFits() && h.body == relocateFixed+h.count*4
	default:
		ok = h.data == 0
	}
	return h, ok
}

// dataFits reports whether a record with data stays within one leaf.
func (h *header) dataFits() bool {
	return h.count > 0 && h.first < maxBlocks && uint64(h.count) <= leafBlocks-h.first%leafBlocks &&
		h.data == h.count*blockSize
}

func checkHeader(p []byte, h *header, salt uint64) bool {
	return headerCRC(p[:headerSize+int(h.body)], salt) == h.crc
}

// relocateFixed is the fixed part of a relocate record's body: the epoch under
// which the index has the blocks, and where they lay until now.
const relocateFixed = 8 + 4 + 4

type relocation struct {
	epoch   uint64
	segment uint32
	off     uint32
}

func (r relocation) put(p []byte) {
	le.PutUint64(p, r.epoch)
	le.PutUint32(p[8:], r.segment)
	le.PutUint32(p[12:], r.off)
}

func parseRelocation(p []byte) relocation {
	return relocation{epoch: le.Uint64(p), segment: le.Uint32(p[8:]), off: le.Uint32(p[12:])}
}

// body codecs: unsigned varints and strings with their length before them.

type encoder []byte

func (e encoder) uint(v uint64) encoder { return binary.AppendUvarint(e, v) }
func (e encoder) text(s string) encoder { return append(e.uint(uint64(len(s))), s...) }

type decoder struct {
	p   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.p)
	if n <= 0 {
		d.p, d.bad = nil, true
		return 0
	}
	d.p = d.p[n:]
	return v
}

func (d *decoder) text() string {
	n := d.uint()
	if n > uint64(len(d.p)) {
		d.p, d.bad = nil, true
		return ""
	}
	s := string(d.p[:n])
	d.p = d.p[n:]
	return s
}

// done returns an error unless everything was there and nothing is left.
func (d *decoder) done(what string) error {
	if d.bad || len(d.p) != 0 {
		return block.Errorf(block.Corrupt, "the store's %s can't be read", what)
	}
	return nil
}
