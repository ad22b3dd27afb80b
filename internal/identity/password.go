package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"kvol/internal/block"
)

// Cost is what computing one password hash takes. The zero value stands for
// DefaultCost.
type Cost struct {
	MemoryKiB uint32
	Passes    uint32
}

// DefaultCost is one of those that OWASP calls equal in defence (Password Storage
// Cheat Sheet): 9 MiB and four passes take the processor as long as 19 MiB and two.
// The garbage collector lets the heap grow to twice what is in use at once, so the
// memory of a hash counts for more than its own size in what a zone holds.
var DefaultCost = Cost{MemoryKiB: 9 * 1024, Passes: 4}

const (
	saltBytes = 16
	hashBytes = 32

	// Hashes that ask for more than this are refused: they would let a line of
	// configuration exhaust the process.
	maxMemoryKiB = 256 * 1024
	maxPasses    = 16
	maxLanes     = 16

	// MaxPasswordBytes is the longest password that is looked at (Keystone
	// truncates silently; we refuse).
	MaxPasswordBytes = 1024
)

// phc is a parsed hash in the PHC string format:
// $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>, base64 without padding.
type phc struct {
	cost       Cost
	lanes      uint8
	salt, hash []byte
}

// String is the hash in PHC form.
func (p phc) String() string {
	enc := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		p.cost.MemoryKiB, p.cost.Passes, p.lanes, enc(p.salt), enc(p.hash))
}

func parsePHC(s string) (phc, error) {
	bad := func(why string) (phc, error) {
		return phc{}, block.Errorf(block.Invalid, "password hash: %s", why)
	}
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return bad("not of the form $argon2id$v=19$m=...,t=...,p=...$salt$hash")
	}
	if parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return bad("unknown version of argon2id")
	}
	var p phc
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.cost.MemoryKiB, &p.cost.Passes, &p.lanes); err != nil {
		return bad("unreadable parameters")
	}
	if p.cost.MemoryKiB < 8 || p.cost.MemoryKiB > maxMemoryKiB || p.cost.Passes < 1 || p.cost.Passes > maxPasses ||
		p.lanes < 1 || p.lanes > maxLanes {
		return bad("parameters out of range")
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(p.salt) < 8 || len(p.salt) > 64 {
		return bad("unreadable salt")
	}
	if p.hash, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(p.hash) < 16 || len(p.hash) > 64 {
		return bad("unreadable hash")
	}
	return p, nil
}

// hasher computes password hashes, a few at a time, so that however many
// people log in at once the memory that they cost is bounded. Its methods may
// be called at once.
type hasher struct {
	cost  Cost
	slots chan struct{} // holds one token for each computation under way
	queue chan struct{} // and one for each that runs or waits
	dummy phc           // what unknown users are compared with
}

// hashersAtOnce computations run at once, hashersWaiting more may wait.
const (
	hashersAtOnce  = 2
	hashersWaiting = 64
)

func newHasher(cost Cost) *hasher {
	if cost == (Cost{}) {
		cost = DefaultCost
	}
	h := &hasher{
		cost:  cost,
		slots: make(chan struct{}, hashersAtOnce),
		queue: make(chan struct{}, hashersAtOnce+hashersWaiting),
	}
	h.dummy = phc{cost: cost, lanes: 1, salt: make([]byte, saltBytes), hash: make([]byte, hashBytes)}
	return h
}

func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.queue <- struct{}{}:
	default:
		return block.Errorf(block.Unavailable, "Too many logins are under way; try again in a moment.")
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-h.queue
		return context.Cause(ctx)
	}
}

func (h *hasher) leave() { <-h.slots; <-h.queue }

// hash makes the PHC string of a password with a new salt.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if password == "" || len(password) > MaxPasswordBytes {
		return "", block.Errorf(block.Invalid, "A password must have 1 to %d bytes.", MaxPasswordBytes)
	}
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	p := phc{cost: h.cost, lanes: 1, salt: make([]byte, saltBytes)}
	rand.Read(p.salt) // never fails, see crypto/rand
	p.hash = argon2.IDKey([]byte(password), p.salt, p.cost.Passes, p.cost.MemoryKiB, p.lanes, hashBytes)
	return p.String(), nil
}

// verify reports whether a password belongs to a stored hash. An empty stored
// hash stands for a user that does not exist or has no password: it takes the
// time of a wrong password and is false.
func (h *hasher) verify(ctx context.Context, stored, password string) (bool, error) {
	p, known := h.dummy, false
	if stored != "" {
		var err error
		if p, err = parsePHC(stored); err != nil {
			return false, block.Wrap(block.Internal, err, "a stored password hash is unreadable")
		}
		known = true
	}
	if password == "" || len(password) > MaxPasswordBytes {
		password, known = "x", false
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	got := argon2.IDKey([]byte(password), p.salt, p.cost.Passes, p.cost.MemoryKiB, p.lanes, uint32(len(p.hash)))
	same := subtle.ConstantTimeCompare(got, p.hash) == 1
	return same && known, nil
}

// HashPassword makes the argon2id hash that a configuration may hold instead
// of the password. Invalid for an empty or an overlong one.
func HashPassword(ctx context.Context, password string) (string, error) {
	return newHasher(DefaultCost).hash(ctx, password)
}

// CheckHash reports, as an Invalid error, what is wrong with a hash that a
// configuration holds.
func CheckHash(hash string) error {
	_, err := parsePHC(hash)
	return err
}
