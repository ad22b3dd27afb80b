package iscsi

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"slices"
	"strconv"
	"strings"
)

// CHAP is RFC 1994 as section 12.1.3 of RFC 7143 has it. The algorithms are
// MD5, which every initiator has, and SHA-256, which is taken where offered.
const (
	chapMD5    = "5"
	chapSHA256 = "7"
	challenge  = 32   // bytes of ours
	maxBinary  = 1024 // bytes of a binary value, section 6.1
)

// chap is the target's side of one authentication.
type chap struct {
	make      func() hash.Hash
	algorithm string
	id        byte
	challenge []byte
}

// begin answers CHAP_A; ok is false if there is no algorithm in common.
func (c *chap) begin(offered string) (answer []pair, ok bool) {
	list := strings.Split(offered, ",")
	switch {
	case slices.Contains(list, chapSHA256):
		c.algorithm, c.make = chapSHA256, sha256.New
	case slices.Contains(list, chapMD5):
		c.algorithm, c.make = chapMD5, md5.New
	default:
		return nil, false
	}
	c.challenge = make([]byte, challenge+1)
	_, _ = rand.Read(c.challenge) // never fails
	c.id, c.challenge = c.challenge[challenge], c.challenge[:challenge]
	return []pair{{"CHAP_A", c.algorithm}, {"CHAP_I", strconv.Itoa(int(c.id))}, {"CHAP_C", hexText(c.challenge)}}, true
}

// response is what somebody who knows a secret answers.
func (c *chap) response(id byte, secret string, challenge []byte) []byte {
	h := c.make()
	h.Write([]byte{id})
	h.Write([]byte(secret))
	h.Write(challenge)
	return h.Sum(nil)
}

// finish verifies what the initiator answered, and shows who we are where it
// asks for that. Each challenge serves for one answer.
func (c *chap) finish(keys map[string]string, creds Credentials) (answer []pair, ok bool) {
	if c.challenge == nil {
		return nil, false
	}
	want := c.response(c.id, creds.Secret, c.challenge)
	ours := c.challenge
	c.challenge = nil
	got, ok := binaryValue(keys["CHAP_R"])
	if !ok || !hmac.Equal(got, want) || !hmac.Equal([]byte(keys["CHAP_N"]), []byte(creds.User)) {
		return nil, false
	}
	if keys["CHAP_C"] == "" {
		return nil, true
	}
	theirs, ok := binaryValue(keys["CHAP_C"])
	id, err := strconv.ParseUint(keys["CHAP_I"], 0, 8)
	// A challenge of ours that comes back, or a secret for both ways, would let
	// the initiator have us compute its own answer.
	if !ok || err != nil || creds.TargetSecret == "" || creds.TargetSecret == creds.Secret || slices.Equal(theirs, ours) {
		return nil, false
	}
	mine := c.response(byte(id), creds.TargetSecret, theirs)
	return []pair{{"CHAP_N", creds.TargetUser}, {"CHAP_R", hexText(mine)}}, true
}

func hexText(b []byte) string { return "0x" + hex.EncodeToString(b) }

// binaryValue reads a value with 0x or 0b in front.
func binaryValue(s string) (b []byte, ok bool) {
	if len(s) < 3 || s[0] != '0' || len(s) > 2+2*maxBinary {
		return nil, false
	}
	var err error
	switch s[1] {
	case 'x', 'X':
		digits := s[2:]
		if len(digits)%2 == 1 {
			digits = "0" + digits
		}
		b, err = hex.DecodeString(digits)
	case 'b', 'B':
		b, err = base64.StdEncoding.DecodeString(s[2:])
	default:
		return nil, false
	}
	return b, err == nil
}
