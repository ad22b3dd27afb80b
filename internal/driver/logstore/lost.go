package logstore

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// lostSegment stands in the index for the place of blocks of which nobody knows
// where they lie, since the part of the index that said so was damaged (see
// Mend). Reading them fails; what is written over them is as any other block.
const lostSegment = 1<<32 - 1

const whatLost = "where blocks lie was lost with a part of the index"

func errLost() error { return block.Errorf(block.Corrupt, whatLost) }

// lostLeaf is the value of a version of a leaf that was lost. All its blocks
// are: those that the version did not have might have been there.
func lostLeaf() []byte {
	return appendRun(nil, run{count: leafBlocks, segment: lostSegment, crcs: make([]byte, leafBlocks*4)})
}

// reportLost reports the ranges of which the place was lost, and takes them out
// of what was counted.
func (e *examiner) reportLost(ctx context.Context) error {
	if e.live[lostSegment] == 0 {
		return nil
	}
	e.done.Bytes -= e.live[lostSegment]
	delete(e.live, lostSegment)
	return e.rows(ctx, keyLeaf, func(k, v []byte) error {
		branch, leaf, _, _ := parseLeafKey(k)
		return eachRun(v, func(r run) {
			if r.segment == lostSegment {
				e.report(Damage{What: whatLost, Volume: e.store.ownerOf(branch), Segment: lostSegment,
					Extent: driver.Extent{Off: int64(leaf)*leafSize + int64(r.first)*blockSize, Len: int64(r.count) * blockSize}})
			}
		})
	})
}
