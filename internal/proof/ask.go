package proof

import (
	"context"
	"fmt"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/replication"
)

// The limits of one question, so that an answer takes no long time.
const (
	MaxRanges = 64
	MaxSummed = 32 << 20 // bytes that are hashed
	MaxRead   = 1 << 20  // bytes that are sent
)

// Verb says what a Question wants.
type Verb string

// The verbs of questions.
const (
	Hold    Verb = "hold"    // keep the point that the zones have in common, and name it
	Sums    Verb = "sums"    // the sums of ranges
	Read    Verb = "read"    // the bytes of ranges
	Release Verb = "release" // let go of what was held
)

// Question is what the zone of a replica asks the volume's zone.
type Question struct {
	Verb       Verb           `json:"verb"`
	Volume     block.VolumeID `json:"volume"`
	Protection int64          `json:"protection"`
	Point      block.PointID  `json:"point,omitempty"`
	Ranges     []block.Range  `json:"ranges,omitempty"`
	// Replica turns it around: the volume's zone asks the one of the replica. It
	// holds nothing, since nobody else writes to that.
	Replica bool `json:"replica,omitempty"`
}

// Answer is the answer.
type Answer struct {
	Point block.PointID    `json:"point,omitempty"`
	Sums  []block.RootHash `json:"sums,omitempty"` // in the order of the ranges; 32 bytes, little-endian
	Data  [][]byte         `json:"data,omitempty"`
}

// Check refuses a question that is no sensible one, or asks for too much.
func (q Question) Check(size int64) error {
	most := int64(MaxSummed)
	if q.Verb == Read {
		most = MaxRead
	}
	total := int64(0)
	for _, r := range q.Ranges {
		if r.Off < 0 || r.Len <= 0 || r.Off%driver.BlockSize != 0 || r.Len%driver.BlockSize != 0 || r.Len > most ||
			r.Off > size-r.Len {
			return block.Errorf(block.Invalid, "A range of %d bytes at %d makes no sense.", r.Len, r.Off)
		}
		total += r.Len
	}
	if len(q.Ranges) == 0 || len(q.Ranges) > MaxRanges || total > most {
		return block.Errorf(block.OverLimit, "At most %d ranges and %d bytes are answered at once.", MaxRanges, most)
	}
	return nil
}

// Reply answers a question about sums or bytes from an open snapshot.
func Reply(ctx context.Context, q Question, r driver.Reader) (a Answer, err error) {
	if err := q.Check(r.Size()); err != nil {
		return a, err
	}
	for _, one := range q.Ranges {
		switch q.Verb {
		case Sums:
			sum, err := replication.SumRange(ctx, r, one.Off, one.Len)
			if err != nil {
				return a, err
			}
			a.Sums = append(a.Sums, sum.Bytes())
		case Read:
			p := make([]byte, one.Len)
			if _, err := r.ReadAt(p, one.Off); err != nil {
				return a, err
			}
			a.Data = append(a.Data, p)
		default:
			return a, block.Errorf(block.Invalid, "Nobody knows how to %q.", q.Verb)
		}
	}
	return a, nil
}

// fits reports whether an answer is one to a question.
func (a Answer) fits(q Question) error {
	ok := q.Verb == Sums && len(a.Sums) == len(q.Ranges) || q.Verb == Read && len(a.Data) == len(q.Ranges)
	for i, p := range a.Data {
		ok = ok && int64(len(p)) == q.Ranges[i].Len
	}
	if !ok {
		return fmt.Errorf("the answer to %q is none", q.Verb)
	}
	return nil
}
