package luks

import (
	"context"
	"errors"
	"testing"

	"kvol/internal/block"
)

// What all slots want together is bounded, since whoever sends a container has the
// zone do it; what cryptsetup makes on fast machines is not refused.
func TestWork(t *testing.T) {
	for name, c := range map[string]struct {
		hash       string
		slots      int
		iterations uint32
		digest     uint32
		ok         bool
	}{
		"one slot of a fast machine":    {"sha256", 1, 8_000_000, 500_000, true},
		"several of a fast machine":     {"sha256", 4, 6_000_000, 400_000, true},
		"eight of a slow one":           {"sha1", 8, 1_000_000, 100_000, true},
		"one that is as slow as can be": {"sha512", 1, maxIterations, maxIterations, true},
		"eight such":                    {"sha512", 8, maxIterations, 1000, false},
		"one of a hash that is short":   {"sha1", 1, maxIterations, 1000, false},
		"digests":                       {"sha256", 8, 1000, maxIterations, false},
	} {
		h := many(t, c.slots)
		h.Hash, h.digestIter = c.hash, c.digest
		for i := range c.slots {
			h.slots[i].iterations = c.iterations
		}
		if _, err := Parse(h.marshal()); c.ok != (err == nil) || !c.ok && !block.Is(err, block.Corrupt) {
			t.Errorf("%s: %d iterations, %v", name, h.work(), err)
		}
	}
}

// many is the header of a container with some slots in use.
func many(t *testing.T, slots int) *Header {
	t.Helper()
	head, err := Format(make([]byte, 64), []byte(passphrase), "u")
	if err != nil {
		t.Fatal(err)
	}
	h, err := Parse(head)
	if err != nil {
		t.Fatal(err)
	}
	for i := range slots {
		h.slots[i].active, h.slots[i].iterations = true, iterations
	}
	return h
}

// readers counts how often key material is read, and ends a context at the second.
type readers struct {
	reads int
	end   context.CancelCauseFunc
	cause error
}

func (r *readers) ReadAt(p []byte, _ int64) (int, error) {
	if r.reads++; r.reads == 2 {
		r.end(r.cause)
	}
	clear(p)
	return len(p), nil
}

// A job that is not to go on does not try the slots that are left.
func TestUnlockEnds(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	r := &readers{end: end, cause: errors.New("the volume was deleted")}
	_, err := many(t, slotCount).Unlock(ctx, r, []byte(passphrase))
	if !errors.Is(err, r.cause) || r.reads != 2 {
		t.Errorf("after %d slots: %v", r.reads, err)
	}
}
