package replication

import (
	"context"
	"encoding/binary"
	"io"
	"iter"
	"math/bits"
	"runtime"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Sum names a volume's content without its size: the sum modulo 2^256, over
// all blocks that are not zero, of BLAKE3-256(number of the block as 64 bits,
// little-endian, then its bytes, a short last one filled up with zeros). A
// block can be taken out and put in at the cost of that block alone, in any
// order; docs/adr/0003-root-hash.md says why it is no tree. The zero Sum is
// that of zeros.
type Sum [4]uint64 // least significant first

// Root is the root hash of a volume of size bytes: BLAKE3-256 over the sum,
// little-endian, and the size as 64 bits, little-endian.
func (s Sum) Root(size int64) block.RootHash {
	b := s.Bytes()
	return blake3.Sum256(binary.LittleEndian.AppendUint64(b[:], uint64(size)))
}

// Bytes is the sum in 32 bytes, little-endian: the form in which it is kept.
func (s Sum) Bytes() (b block.RootHash) {
	for i, word := range s {
		binary.LittleEndian.PutUint64(b[8*i:], word)
	}
	return b
}

// SumFrom reads what Bytes wrote.
func SumFrom(b block.RootHash) (s Sum) {
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return s
}

// Add puts blocks in that the sum doesn't have. off is a multiple of
// driver.BlockSize.
func (s *Sum) Add(off int64, p []byte) {
	terms(off, p, func(t Sum) { s.add(t) })
}

// Sub takes blocks out that the sum has.
func (s *Sum) Sub(off int64, p []byte) {
	terms(off, p, func(t Sum) {
		var borrow uint64
		for i := range s {
			s[i], borrow = bits.Sub64(s[i], t[i], borrow)
		}
	})
}

func (s *Sum) add(t Sum) {
	var carry uint64
	for i := range s {
		s[i], carry = bits.Add64(s[i], t[i], carry)
	}
}

func terms(off int64, p []byte, each func(Sum)) {
	var buf [8 + driver.BlockSize]byte
	for i := uint64(off / driver.BlockSize); len(p) > 0; i++ {
		n := min(len(p), driver.BlockSize)
		if !driver.IsZero(p[:n]) {
			binary.LittleEndian.PutUint64(buf[:], i)
			clear(buf[8+copy(buf[8:], p[:n]):])
			each(SumFrom(blake3.Sum256(buf[:])))
		}
		p = p[n:]
	}
}

// sumPart is how much of a volume one goroutine sums at a time, and readSize
// how much it reads at once; both in bytes.
const (
	sumPart  = 64 << 20
	readSize = 1 << 20
)

// SumOf reads a whole snapshot, all but what it knows to be zeros, with a few
// goroutines.
func SumOf(ctx context.Context, r driver.Reader) (Sum, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, runtime.GOMAXPROCS(0)))
	parts := make([]Sum, (r.Size()+sumPart-1)/sumPart)
	for i := range parts {
		group.Go(func() error {
			off := int64(i) * sumPart
			return eachData(ctx, r, off, min(sumPart, r.Size()-off), parts[i].Add)
		})
	}
	if err := group.Wait(); err != nil {
		return Sum{}, err
	}
	var sum Sum
	for _, part := range parts {
		sum.add(part)
	}
	return sum, nil
}

// SumRange reads a range of a snapshot; the sums of ranges that cover all of it
// add up to its own.
func SumRange(ctx context.Context, r driver.Reader, off, length int64) (sum Sum, err error) {
	err = eachData(ctx, r, off, length, sum.Add)
	return sum, err
}

// Plus is the sum of what has both.
func (s Sum) Plus(t Sum) Sum {
	s.add(t)
	return s
}

// Minus is the sum of what has s and not t.
func (s Sum) Minus(t Sum) Sum {
	var borrow uint64
	for i := range s {
		s[i], borrow = bits.Sub64(s[i], t[i], borrow)
	}
	return s
}

// RootOf computes a snapshot's root hash from its bytes.
func RootOf(ctx context.Context, d driver.Driver, ref driver.SnapshotRef) (block.RootHash, error) {
	r, err := d.OpenSnapshot(ctx, ref)
	if err != nil {
		return block.RootHash{}, err
	}
	defer r.Close()
	sum, err := SumOf(ctx, r)
	return sum.Root(r.Size()), err
}

// eachData reads what is not known to be zeros in a range, whole blocks at a
// time. What lies beyond the end is left out.
func eachData(ctx context.Context, r driver.Reader, off, length int64, each func(off int64, p []byte)) error {
	end := min(off+length, r.Size())
	if off >= end {
		return nil
	}
	buf := make([]byte, min(readSize, end-off))
	for e, err := range extents(r, off, end-off) {
		if err != nil {
			return err
		}
		if e.Zero {
			continue
		}
		last := min(e.End(), end)
		for at := max(e.Off, off); at < last; {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := buf[:min(int64(len(buf)), last-at)]
			if _, err := r.ReadAt(p, at); err != nil {
				return err
			}
			each(at, p)
			at += int64(len(p))
		}
	}
	return nil
}

// extents is ExtentReader.Extents where r has it, else one extent of data.
func extents(r io.ReaderAt, off, length int64) iter.Seq2[driver.Extent, error] {
	if e, ok := r.(driver.ExtentReader); ok {
		return e.Extents(off, length)
	}
	return func(yield func(driver.Extent, error) bool) { yield(driver.Extent{Off: off, Len: length}, nil) }
}
