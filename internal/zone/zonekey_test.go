package zone

import (
	"sync"
	"testing"
)

// TestZoneKeyIsOne: processes that start at once on one directory, for the first time,
// have one key, whatever their pids.
func TestZoneKeyIsOne(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		var all [4][32]byte
		var work sync.WaitGroup
		for i := range all {
			work.Go(func() {
				var err error
				if all[i], err = zoneKey(dir); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		written, err := zoneKey(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range all {
			if key != written {
				t.Errorf("process %d has another key than the zone", i)
			}
		}
	}
}
