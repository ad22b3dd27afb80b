package replication

import (
	"slices"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// newestWhole are those of a replica's points (from old to new) that its group
// needs: of the newest instant of which all members have their point, and of
// those that are newer and may still become whole. Without it each member would
// let go of what the others have, and the group could not be recovered as of
// one instant while a cut is on its way.
func newestWhole(tx *catalog.Tx, points []block.Point) (map[block.PointID]bool, error) {
	needed := map[block.PointID]bool{}
	for _, p := range slices.Backward(points) {
		if p.Cut == nil {
			continue
		}
		needed[p.ID] = true
		n, err := tx.CutPoints(p.Cut.ID)
		if err != nil || n >= p.Cut.Members {
			return needed, err
		}
	}
	return needed, nil
}
