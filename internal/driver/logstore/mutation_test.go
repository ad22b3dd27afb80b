package logstore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// TestMutations breaks the store on purpose, one way after another, and sees
// that the power cuts find it.
func TestMutations(t *testing.T) {
	for name, m := range map[string]mutation{
		"flush without a sync":                 skipLogSync,
		"sync of the newest segment only":      skipOldSegmentSync,
		"index ahead of the log":               skipSyncBeforeIndex,
		"torn data replayed":                   skipDataCheck,
		"segment's name not synced":            skipSegmentDirSync,
		"any sequence replayed":                acceptAnySequence,
		"writes go into the snapshot":          skipEpoch,
		"segment reused before the index knew": recycleEarly,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hooks := &testHooks{}
			hooks.on.Store(uint32(m))
			deadline := time.Now().Add(20 * time.Second)
			for seed := uint64(100); ; seed++ {
				if time.Now().After(deadline) {
					t.Fatal("not found")
				}
				if err := soon(deadline, func() error { _, err := runHistory(seed, 60, 3, hooks); return err }); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
		})
	}
}

// soon runs f and gives up on it at a deadline: a broken store may never end.
func soon(deadline time.Time, f func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v", p)
			}
		}()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Until(deadline)):
		return nil // not found, as the caller sees by the time
	}
}

// TestWrongBytesAreNotServed damages each block of data on the disk in turn.
func TestWrongBytesAreNotServed(t *testing.T) {
	for _, broken := range []bool{false, true} {
		hooks := &testHooks{}
		if broken {
			hooks.on.Store(uint32(skipReadCheck))
		}
		served := 0
		for _, bit := range []int64{0, 5000, 4164 * 3} {
			if damagedReads(t, hooks, bit) {
				served++
			}
		}
		if broken != (served > 0) {
			t.Errorf("check left out: %v; damaged blocks served: %d", broken, served)
		}
	}
}

// damagedReads reports whether reading served a block that was damaged.
func damagedReads(t *testing.T, hooks *testHooks, at int64) bool {
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	s, err := Open(ctx, crashOptions(mem, hooks))
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	must(t, s.CreateVolume(ctx, "v", 64*blockSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	start := s.log.now()
	want := make([]byte, 4*blockSize)
	for i := range want {
		want[i] = byte(i/blockSize + 1)
	}
	for i := int64(0); i < 4; i++ {
		_, err := d.WriteAt(want[i*blockSize:(i+1)*blockSize], i*blockSize)
		must(t, err)
	}
	f, err := mem.Open(segmentName("s", start.segment))
	must(t, err)
	_, err = f.WriteAt([]byte{0xee}, start.off+headerSize+4+at)
	must(t, err)
	got := make([]byte, len(want))
	_, err = d.ReadAt(got, 0)
	if err == nil {
		return true
	}
	if !block.Is(err, block.Corrupt) {
		t.Errorf("got %v, want Corrupt", err)
	}
	if !block.Is(s.Check(ctx), block.Corrupt) {
		t.Error("Check found nothing")
	}
	return false
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
