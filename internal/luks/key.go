package luks

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"io"

	"kvol/internal/block"
)

// hashes are those that a header may name, for PBKDF2 and for splitting keys.
var hashes = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// iterations are few: the passphrases that are used here are the digits of a
// random key, which nobody can guess however fast a guess is.
const iterations = 2000

// Format makes a container's first HeaderSize bytes: its header and the master
// key, of 32 or 64 bytes, under a passphrase. uuid has up to 39 letters.
func Format(master, passphrase []byte, uuid string) ([]byte, error) {
	h := &Header{CipherName: "aes", CipherMode: "xts-plain64", Hash: "sha256", PayloadOffset: HeaderSize,
		KeyBytes: len(master), UUID: uuid, digestIter: iterations}
	rand.Read(h.digestSalt[:])
	// Slots lie one after the other from sector 8, each on a multiple of 4 KiB,
	// where cryptsetup puts them and looks for them.
	const align = 4096
	each := (slot{stripes: stripes}.length(len(master)) + align - 1) / align * align
	for i := range h.slots {
		h.slots[i] = slot{stripes: stripes, offset: align + int64(i)*each}
	}
	h.slots[0].active, h.slots[0].iterations = true, iterations
	rand.Read(h.slots[0].salt[:])
	if err := h.check(); err != nil {
		return nil, err
	}
	digest, err := h.digestOf(master)
	if err != nil {
		return nil, err
	}
	copy(h.digest[:], digest)
	out := make([]byte, HeaderSize)
	copy(out, h.marshal())
	material := out[h.slots[0].offset:][:h.slots[0].length(len(master))]
	split(material, master, stripes, hashes[h.Hash])
	c, err := h.slotCipher(h.slots[0], passphrase)
	if err != nil {
		return nil, err
	}
	c.encrypt(material, material, 0)
	return out, nil
}

// Unlock finds the master key with a passphrase in any of the slots. from is
// the container. A passphrase that opens none is Forbidden. It takes seconds for each
// slot if the container wants it so, and looks at ctx before each.
func (h *Header) Unlock(ctx context.Context, from io.ReaderAt, passphrase []byte) ([]byte, error) {
	for _, s := range h.slots {
		if !s.active {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		material := make([]byte, s.length(h.KeyBytes))
		if _, err := from.ReadAt(material, s.offset); err != nil {
			return nil, err
		}
		c, err := h.slotCipher(s, passphrase)
		if err != nil {
			return nil, err
		}
		c.decryptAll(material, 0)
		master := merge(material, h.KeyBytes, int(s.stripes), hashes[h.Hash])
		digest, err := h.digestOf(master)
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(digest, h.digest[:]) == 1 {
			return master, nil
		}
	}
	return nil, block.Errorf(block.Forbidden, "The key does not open the LUKS container.")
}

// slotCipher encrypts a slot's key material.
func (h *Header) slotCipher(s slot, passphrase []byte) (*Cipher, error) {
	key, err := pbkdf2.Key(hashes[h.Hash], string(passphrase), s.salt[:], int(s.iterations), h.KeyBytes)
	if err != nil {
		return nil, err
	}
	return NewCipher(key)
}

func (h *Header) digestOf(master []byte) ([]byte, error) {
	return pbkdf2.Key(hashes[h.Hash], string(master), h.digestSalt[:], int(h.digestIter), digestSize)
}

// split spreads a key over stripes, so that losing any part loses it (section
// 2.4 of the specification). to has room for all of them.
func split(to, key []byte, stripes int, h func() hash.Hash) {
	n := len(key)
	last := (stripes - 1) * n
	rand.Read(to[:last])
	d := make([]byte, n)
	for i := 0; i < last; i += n {
		subtle.XORBytes(d, d, to[i:i+n])
		diffuse(d, h)
	}
	subtle.XORBytes(to[last:last+n], d, key)
}

// merge is the way back.
func merge(from []byte, n, stripes int, h func() hash.Hash) []byte {
	d := make([]byte, n)
	last := (stripes - 1) * n
	for i := 0; i < last; i += n {
		subtle.XORBytes(d, d, from[i:i+n])
		diffuse(d, h)
	}
	subtle.XORBytes(d, d, from[last:last+n])
	return d
}

// diffuse replaces each piece, as long as the hash, by the hash of its number
// and itself.
func diffuse(d []byte, h func() hash.Hash) {
	sum := h()
	var number [4]byte
	for i, at := uint32(0), 0; at < len(d); i, at = i+1, at+sum.Size() {
		piece := d[at:min(at+sum.Size(), len(d))]
		binary.BigEndian.PutUint32(number[:], i)
		sum.Reset()
		sum.Write(number[:])
		sum.Write(piece)
		copy(piece, sum.Sum(nil))
	}
}
