package logstore

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// idleStore is a small store in which nothing is tidied up unasked.
func idleStore(t testing.TB, hooks *testHooks) *Store {
	t.Helper()
	o := crashOptions(vfs.NewMem(1<<30, nil), hooks)
	o.idle = true
	s, err := Open(context.Background(), o)
	must(t, err)
	return s
}

// put writes one block full of a byte.
func put(t testing.TB, s *Store, id block.VolumeID, blk int64, value byte) {
	t.Helper()
	d, err := s.OpenVolume(context.Background(), id)
	must(t, err)
	_, err = d.WriteAt(bytes.Repeat([]byte{value}, blockSize), blk*blockSize)
	must(t, err)
	must(t, d.Close())
}

// byteAt is the first byte of a block, or an error's; of a snapshot if it has a
// name.
func byteAt(t testing.TB, s *Store, ref driver.SnapshotRef, blk int64) (byte, error) {
	t.Helper()
	var r driver.Reader
	var err error
	if ref.Name == "" {
		r, err = s.OpenVolume(context.Background(), ref.Volume)
	} else {
		r, err = s.OpenSnapshot(context.Background(), ref)
	}
	must(t, err)
	defer r.Close()
	p := make([]byte, blockSize)
	_, err = r.ReadAt(p, blk*blockSize)
	return p[0], err
}

// orphaned makes a store in which clone "c" is all that is left of volume "v",
// of which a block was written in two epochs, and another in the first only.
func orphaned(t testing.TB, hooks *testHooks) *Store {
	ctx := context.Background()
	s := idleStore(t, hooks)
	must(t, s.CreateVolume(ctx, "v", crashSize))
	put(t, s, "v", 0, 1)
	put(t, s, "v", 1, 2)
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "1"}))
	put(t, s, "v", 0, 3)
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "2"}))
	must(t, s.CloneSnapshot(ctx, "c", driver.SnapshotRef{Volume: "v", Name: "2"}, crashSize))
	must(t, s.CloneSnapshot(ctx, "d", driver.SnapshotRef{Volume: "v", Name: "1"}, crashSize))
	must(t, s.DeleteVolume(ctx, "v"))
	s.mu.Lock()
	for br := range s.candidates {
		br.deep = true // so that it goes though both clones need it
	}
	s.mu.Unlock()
	must(t, s.sweepAll(ctx))
	return s
}

// wrongInC tells what clone "c" of orphaned has that it should not.
func wrongInC(t testing.TB, s *Store) string {
	for blk, want := range []byte{3, 2, 0} {
		if got, err := byteAt(t, s, driver.SnapshotRef{Volume: "c"}, int64(blk)); err != nil || got != want {
			return fmt.Sprintf("block %d of c: %d, %v", blk, got, err)
		}
	}
	for blk, want := range []byte{1, 2, 0} {
		if got, err := byteAt(t, s, driver.SnapshotRef{Volume: "d"}, int64(blk)); err != nil || got != want {
			return fmt.Sprintf("block %d of d: %d, %v", blk, got, err)
		}
	}
	return ""
}

// TestAbsorbStepByStep reads, and checks the whole store, after each step of an
// absorption, with nothing in the cache.
func TestAbsorbStepByStep(t *testing.T) {
	if why := halfAbsorbed(t, nil); why != "" {
		t.Error(why)
	}
}

func halfAbsorbed(t testing.TB, hooks *testHooks) string {
	ctx := context.Background()
	s := orphaned(t, hooks)
	defer endChecked(t, s)
	steps := 0
	for more := true; more; steps++ {
		s.cache = newLeafCache(1)
		if why := wrongInC(t, s); why != "" {
			return fmt.Sprintf("after %d steps: %s", steps, why)
		}
		if err := s.Check(ctx); err != nil {
			return fmt.Sprintf("after %d steps: %v", steps, err)
		}
		var err error
		more, err = s.absorb(ctx)
		must(t, err)
	}
	if steps < 5 {
		t.Errorf("only %d steps", steps)
	}
	if n := len(s.branches); n != 2 {
		t.Errorf("%d branches are left", n)
	}
	return ""
}

// oldVersionsFirst reports whether a half-done absorption shows what it should
// not.
func oldVersionsFirst(t *testing.T, hooks *testHooks) bool { return halfAbsorbed(t, hooks) != "" }

// absorbedBetween lets an absorption come between looking up the views of a
// clone and getting an iterator, and reports whether the clone's bytes change.
func absorbedBetween(t *testing.T, hooks *testHooks) bool {
	s := orphaned(t, hooks)
	defer endChecked(t, s)
	hooks.between = func() {
		hooks.between = nil
		must(t, s.tidyBranches(context.Background()))
	}
	got, err := byteAt(t, s, driver.SnapshotRef{Volume: "d"}, 1)
	must(t, err)
	return got != 2
}

// absorbedCompacted absorbs a branch, compacts the segments that hold its blocks
// and lets them be used again; it reports whether the heir lost blocks.
func absorbedCompacted(t *testing.T, hooks *testHooks) bool {
	ctx := context.Background()
	s := orphaned(t, hooks)
	defer endChecked(t, s)
	must(t, s.tidyBranches(ctx))
	must(t, s.CreateVolume(ctx, "w", crashSize))
	for i := range 200 {
		put(t, s, "w", int64(i%10), byte(i))
		if i%50 == 49 {
			must(t, s.takeCensus())
			for id := range s.log.now().segment {
				if u := s.usage[id]; u == nil || u.free {
					continue
				}
				empty, err := s.evacuate(ctx, []uint32{id}, 1, false)
				must(t, err)
				must(t, s.setFree(empty))
			}
		}
	}
	s.cache = newLeafCache(1)
	return wrongInC(t, s) != "" || s.Check(ctx) != nil
}

// TestAbsorbFreesWhatIsHidden: of a parent that is gone, what its only clone
// wrote over lives no longer.
func TestAbsorbFreesWhatIsHidden(t *testing.T) {
	ctx := context.Background()
	s := idleStore(t, nil)
	defer endChecked(t, s)
	must(t, s.CreateVolume(ctx, "v", crashSize))
	for b := range int64(40) {
		put(t, s, "v", b, 1)
	}
	ref := driver.SnapshotRef{Volume: "v", Name: "s"}
	must(t, s.CreateSnapshot(ctx, ref))
	must(t, s.CloneSnapshot(ctx, "c", ref, crashSize))
	must(t, s.DeleteVolume(ctx, "v"))
	for b := range int64(40) {
		put(t, s, "c", b, 2)
	}
	must(t, s.tidyBranches(ctx))
	live, total, err := countLive(s.db)
	must(t, err)
	if total != 40*blockSize {
		t.Errorf("%d bytes live in %d segments, want %d", total, len(live), 40*blockSize)
	}
	if n := s.volumes["c"].branch.depth(); n != 1 {
		t.Errorf("the clone has %d branches", n)
	}
}

// TestChainsStayShort rewinds and clones a volume hundreds of times, with its
// ancestors deleted or their snapshots kept, and sees that no more than some
// branches are left to look into.
func TestChainsStayShort(t *testing.T) {
	ctx := context.Background()
	clones := 200
	if testing.Short() {
		clones = 60
	}
	for _, keep := range []bool{false, true} {
		s := openTest(t, crashOptions(vfs.NewMem(1<<30, nil), nil))
		must(t, s.CreateVolume(ctx, "v0", crashSize))
		id := block.VolumeID("v0")
		for i := range clones {
			put(t, s, id, int64(i%7), byte(i+1))
			ref := driver.SnapshotRef{Volume: id, Name: block.PointID(fmt.Sprint(i))}
			must(t, s.CreateSnapshot(ctx, ref))
			if keep {
				must(t, s.Revert(ctx, ref))
				continue
			}
			id = block.VolumeID(fmt.Sprint("v", i+1))
			must(t, s.CloneSnapshot(ctx, id, ref, crashSize))
			must(t, s.DeleteVolume(ctx, ref.Volume))
		}
		must(t, s.tidyBranches(ctx))
		if n := s.volumes[id].branch.depth(); n > maxDepth || !keep && n != 1 {
			t.Errorf("snapshots kept %v: a block may have to be looked for in %d branches", keep, n)
		}
		for b := range int64(7) {
			want := byte(int64(clones) - (int64(clones)-1-b)%7)
			if got, err := byteAt(t, s, driver.SnapshotRef{Volume: id}, b); err != nil || got != want {
				t.Errorf("block %d: %d, want %d: %v", b, got, want, err)
			}
		}
	}
}

// TestDiffWhileBranchesGo reads a difference extent by extent, as a transfer
// does, while everything around its two ends is deleted, swept and absorbed
// after each; a snapshot that is read stays.
func TestDiffWhileBranchesGo(t *testing.T) {
	ctx := context.Background()
	s := idleStore(t, nil)
	defer s.release()
	must(t, s.CreateVolume(ctx, "v", 16*leafSize))
	at := func(i int) driver.SnapshotRef {
		return driver.SnapshotRef{Volume: "v", Name: block.PointID(fmt.Sprint(i))}
	}
	for i := range 12 {
		put(t, s, "v", int64(i)*leafBlocks, byte(i+1))
		must(t, s.CreateSnapshot(ctx, at(i)))
		if i%3 == 2 {
			must(t, s.Revert(ctx, at(i)))
		}
	}
	var got []int64
	for e, err := range s.Diff(ctx, at(1), at(10)) {
		must(t, err)
		if n := len(got); n < 8 {
			must(t, s.DeleteSnapshot(ctx, at([]int{2, 5, 8, 3, 9, 11, 0, 7}[n])))
		}
		if len(got) == 4 {
			s.mu.Lock()
			for br := range s.branches {
				s.candidates[s.branches[br]], s.branches[br].deep = struct{}{}, true
			}
			s.mu.Unlock()
		}
		must(t, s.sweepAll(ctx))
		_, err = s.absorb(ctx)
		must(t, err)
		if err := s.DeleteSnapshot(ctx, at(10)); !block.Is(err, block.Conflict) {
			t.Errorf("a snapshot was deleted while it was read: %v", err)
		}
		got = append(got, e.Off/leafSize)
	}
	if fmt.Sprint(got) != "[2 3 4 5 6 7 8 9 10]" {
		t.Errorf("changed leaves: %d", got)
	}
	must(t, s.tidyBranches(ctx))
	must(t, s.Check(ctx))
	must(t, s.DeleteVolume(ctx, "v"))
	nothingLeft(t, s)
}
