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

// lostIn is the damage of a leaf in which blocks were lost, be it one or all: one
// alarm for each leaf is enough.
func (s *Store) lostIn(branch uint64, leaf uint32) Damage {
	return Damage{What: whatLost, State: Damaged, Volume: s.ownerOf(branch),
		Extent: driver.Extent{Off: int64(leaf) * leafSize, Len: leafSize}}
}

// reportLost reports the leaves with blocks of which the place was lost, and
// takes them out of what was counted.
func (e *examiner) reportLost(ctx context.Context) error {
	if e.live[lostSegment] == 0 {
		return nil
	}
	e.done.Bytes -= e.live[lostSegment]
	delete(e.live, lostSegment)
	return e.rows(ctx, keyLeaf, func(k, v []byte) error {
		lost := false
		if err := eachRun(v, func(r run) { lost = lost || r.segment == lostSegment }); err != nil || !lost {
			return err
		}
		branch, leaf, _, _ := parseLeafKey(k)
		e.report(e.store.lostIn(branch, leaf))
		return nil
	})
}
