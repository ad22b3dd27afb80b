package luks

import (
	"bytes"
	"encoding/binary"

	"kvol/internal/block"
)

const (
	// SectorSize is what is encrypted at once, in bytes.
	SectorSize = 512
	// HeaderSize is how much Format writes before the payload, in bytes.
	HeaderSize = 2 << 20

	phdrSize  = 592 // the header proper
	slotCount = 8
	slotSize  = 48
	slotsAt   = 208
	stripes   = 4000

	slotActive   = 0x00AC71F3
	slotInactive = 0x0000DEAD

	digestSize = 20
	saltSize   = 32

	maxIterations = 20_000_000 // cryptsetup takes some millions on a fast machine
	maxPayload    = 64 << 20   // where the payload begins at the latest, in bytes
	// maxWork is how often all slots and their digests may want a hash iterated: each
	// iteration counts once for each hash that it takes to fill the key. It is some
	// ten seconds of a processor; whoever sends a container decides on it.
	maxWork = 64_000_000
)

var magic = []byte{'L', 'U', 'K', 'S', 0xba, 0xbe}

// Header is the first sector and a bit of a container. It holds no secret that
// is of use without a passphrase.
type Header struct {
	CipherName, CipherMode, Hash string
	PayloadOffset                int64 // bytes
	KeyBytes                     int
	UUID                         string

	digest     [digestSize]byte
	digestSalt [saltSize]byte
	digestIter uint32
	slots      [slotCount]slot
}

// slot is a place for the master key under one passphrase.
type slot struct {
	active     bool
	iterations uint32
	salt       [saltSize]byte
	offset     int64 // of the key material, bytes
	stripes    uint32
}

// IsHeader reports whether bytes begin as a LUKS header of any version does.
func IsHeader(p []byte) bool { return bytes.HasPrefix(p, magic) }

// Parse reads a header. It is Unsupported for other versions, ciphers and
// hashes than are known here, and Corrupt for what can't be one.
func Parse(p []byte) (*Header, error) {
	if len(p) < phdrSize || !IsHeader(p) {
		return nil, block.Errorf(block.Corrupt, "This is no LUKS container.")
	}
	if v := binary.BigEndian.Uint16(p[6:]); v != 1 {
		return nil, block.Errorf(block.Unsupported, "Version %d of LUKS can't be read.", v)
	}
	h := &Header{
		CipherName: text(p[8:40]), CipherMode: text(p[40:72]), Hash: text(p[72:104]),
		PayloadOffset: int64(binary.BigEndian.Uint32(p[104:])) * SectorSize,
		KeyBytes:      int(binary.BigEndian.Uint32(p[108:])),
		digestIter:    binary.BigEndian.Uint32(p[164:]),
		UUID:          text(p[168:208]),
	}
	copy(h.digest[:], p[112:132])
	copy(h.digestSalt[:], p[132:164])
	for i := range h.slots {
		h.slots[i] = parseSlot(p[slotsAt+i*slotSize:])
	}
	return h, h.check()
}

func parseSlot(p []byte) slot {
	s := slot{active: binary.BigEndian.Uint32(p) == slotActive, iterations: binary.BigEndian.Uint32(p[4:]),
		offset: int64(binary.BigEndian.Uint32(p[40:])) * SectorSize, stripes: binary.BigEndian.Uint32(p[44:])}
	copy(s.salt[:], p[8:40])
	return s
}

// check refuses what Unlock could not work with, or not within limits.
func (h *Header) check() error {
	switch {
	case h.CipherName != "aes" || h.CipherMode != "xts-plain64":
		return block.Errorf(block.Unsupported, "The cipher %q of a LUKS container is not known here.",
			h.CipherName+"-"+h.CipherMode)
	case hashes[h.Hash] == nil:
		return block.Errorf(block.Unsupported, "The hash %q of a LUKS container is not known here.", h.Hash)
	case h.KeyBytes != 32 && h.KeyBytes != 64:
		return block.Errorf(block.Unsupported, "A LUKS container has a key of %d bytes.", h.KeyBytes)
	case h.PayloadOffset < phdrSize || h.PayloadOffset > maxPayload:
		return block.Errorf(block.Corrupt, "The payload of a LUKS container begins at %d.", h.PayloadOffset)
	case h.digestIter == 0 || h.digestIter > maxIterations:
		return block.Errorf(block.Corrupt, "A LUKS container wants %d iterations.", h.digestIter)
	}
	for _, s := range h.slots {
		if !s.active {
			continue
		}
		switch {
		case s.iterations == 0 || s.iterations > maxIterations:
			return block.Errorf(block.Corrupt, "A key slot of a LUKS container wants %d iterations.", s.iterations)
		case s.stripes == 0 || s.stripes > stripes:
			return block.Errorf(block.Corrupt, "A key slot of a LUKS container has %d stripes.", s.stripes)
		case s.offset < phdrSize || s.offset+s.length(h.KeyBytes) > h.PayloadOffset:
			return block.Errorf(block.Corrupt, "A key slot of a LUKS container lies at %d.", s.offset)
		}
	}
	if work := h.work(); work > maxWork {
		return block.Errorf(block.Corrupt, "The key slots of a LUKS container want %d iterations.", work)
	}
	return nil
}

// work is what a passphrase that opens none of the slots takes, in iterations.
func (h *Header) work() (sum int64) {
	size := hashes[h.Hash]().Size()
	times := func(iterations uint32, bytes int) int64 { return int64(iterations) * int64((bytes+size-1)/size) }
	for _, s := range h.slots {
		if s.active {
			sum += times(s.iterations, h.KeyBytes) + times(h.digestIter, digestSize)
		}
	}
	return sum
}

// length of the key material in bytes, up to the end of its last sector.
func (s slot) length(keyBytes int) int64 {
	n := int64(keyBytes) * int64(s.stripes)
	return (n + SectorSize - 1) / SectorSize * SectorSize
}

// marshal writes the header proper.
func (h *Header) marshal() []byte {
	p := make([]byte, phdrSize)
	copy(p, magic)
	binary.BigEndian.PutUint16(p[6:], 1)
	copy(p[8:40], h.CipherName)
	copy(p[40:72], h.CipherMode)
	copy(p[72:104], h.Hash)
	binary.BigEndian.PutUint32(p[104:], uint32(h.PayloadOffset/SectorSize))
	binary.BigEndian.PutUint32(p[108:], uint32(h.KeyBytes))
	copy(p[112:132], h.digest[:])
	copy(p[132:164], h.digestSalt[:])
	binary.BigEndian.PutUint32(p[164:], h.digestIter)
	copy(p[168:208], h.UUID)
	for i, s := range h.slots {
		q := p[slotsAt+i*slotSize:]
		binary.BigEndian.PutUint32(q, slotInactive)
		if s.active {
			binary.BigEndian.PutUint32(q, slotActive)
		}
		binary.BigEndian.PutUint32(q[4:], s.iterations)
		copy(q[8:40], s.salt[:])
		binary.BigEndian.PutUint32(q[40:], uint32(s.offset/SectorSize))
		binary.BigEndian.PutUint32(q[44:], s.stripes)
	}
	return p
}

// text is a field of letters that ends at a zero, if there is one.
func text(p []byte) string {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	return string(p)
}
