// Package ledger is the oracle of volumes that tests write to while all kinds of
// things happen to them.
package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"kvol/internal/zone/zonetest"
)

// Ledger is the oracle of one volume: every write that was ever sent to it, in
// order, and what became of it. Its methods may be called at once.
type Ledger struct {
	Blocks int // that may be written to, of zonetest.BlockSize

	mu     sync.Mutex
	number uint64  // of the newest write of all; guarded by mu, as below
	writes []write // that the volume has, or may have
}

// write is one block that was sent.
type write struct {
	number uint64
	block  int
	acked  time.Time // zero: nobody said whether it happened
}

// Content is what a write puts into its block: no two have the same.
func Content(number uint64) []byte {
	rnd := rand.New(rand.NewPCG(number, 29))
	p := make([]byte, zonetest.BlockSize)
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], rnd.Uint64())
	}
	binary.LittleEndian.PutUint64(p, number)
	return p
}

// Send notes that a write is about to be sent.
func (l *Ledger) Send(block int) (number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	l.writes = append(l.writes, write{number: l.number, block: block})
	return l.number
}

// Acked notes that the newest write was acknowledged.
func (l *Ledger) Acked() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes[len(l.writes)-1].acked = time.Now()
}

// Verify proves that what was read is what a first part of the writes leaves,
// with all that were acknowledged before an instant, and nothing else. Writes
// that nobody acknowledged may be missing. What is not there is forgotten: the
// volume goes on without it. It returns how many acknowledged writes are lost.
func (l *Ledger) Verify(got []byte, before time.Time) (lost int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := map[uint64]int{}
	for n, w := range l.writes {
		at[w.number] = n
	}
	kept := -1
	for b := range l.Blocks {
		p := got[b*zonetest.BlockSize : (b+1)*zonetest.BlockSize]
		number := binary.LittleEndian.Uint64(p)
		n, known := at[number]
		switch {
		case number == 0 && bytes.Equal(p, make([]byte, len(p))):
			continue
		case !known || l.writes[n].block != b || !bytes.Equal(p, Content(number)):
			return 0, fmt.Errorf("block %d holds something that was never written to it (write %d)", b, number)
		}
		kept = max(kept, n)
	}
	if err := l.prefix(got, kept); err != nil {
		return 0, err
	}
	for _, w := range l.writes[kept+1:] {
		if w.acked.IsZero() {
			continue
		}
		if lost++; w.acked.Before(before) {
			return lost, fmt.Errorf("write %d of block %d is missing, acknowledged %v before what was reported", w.number,
				w.block, before.Sub(w.acked))
		}
	}
	l.writes = l.writes[:kept+1]
	return lost, nil
}

// prefix checks each block against the newest write of it up to one.
func (l *Ledger) prefix(got []byte, kept int) error {
	done := make([]bool, l.Blocks)
	for n := kept; n >= 0; n-- {
		w := l.writes[n]
		p := got[w.block*zonetest.BlockSize : (w.block+1)*zonetest.BlockSize]
		switch {
		case done[w.block]:
		case binary.LittleEndian.Uint64(p) == w.number:
			done[w.block] = true
		case !w.acked.IsZero():
			return fmt.Errorf("block %d lacks write %d, and a later write of another block is there", w.block, w.number)
		}
	}
	for b := range l.Blocks {
		if number := binary.LittleEndian.Uint64(got[b*zonetest.BlockSize:]); !done[b] && number != 0 {
			return fmt.Errorf("block %d holds write %d from nowhere", b, number)
		}
	}
	return nil
}

// Writes is how many writes were sent.
func (l *Ledger) Writes() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.number
}
