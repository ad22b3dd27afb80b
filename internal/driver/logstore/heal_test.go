package logstore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"kvol/internal/vfs"
)

// TestHealerKeepsNobodyFromRoom: while other zones are asked for a damaged
// block, segments can be set free, also the one that it lies in; the rest of
// what was asked for is looked up anew then. All that is damaged has one time
// together.
func TestHealerKeepsNobodyFromRoom(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	type question struct {
		Lost
		until time.Time
	}
	asked, answer := make(chan question), make(chan []byte)
	s := openTest(t, Options{FS: mem, Dir: "s", SegmentSize: crashSegment, CacheBytes: 1 << 20, idle: true,
		Healer: func(ctx context.Context, want Lost) ([]byte, error) {
			until, _ := ctx.Deadline()
			asked <- question{want, until}
			return <-answer, nil
		}})
	d := openVolume(t, s, "v", 8)
	defer d.Close()
	want := randomBytes(rand.New(rand.NewPCG(1, 1)), 4*blockSize)
	block := func(i int) []byte { return want[i*blockSize:][:blockSize] }
	at := s.log.now()
	f, err := mem.Open(segmentName("s", at.segment))
	must(t, err)
	for i := range 4 {
		_, err := d.WriteAt(block(i), int64(i)*blockSize)
		must(t, err)
	}
	for i := range 2 {
		spot := at.off + int64(i)*(headerSize+4+blockSize) + headerSize + 4
		_, err = f.WriteAt([]byte{^block(i)[0]}, spot)
		must(t, err)
	}

	got, read := make([]byte, 4*blockSize), make(chan error)
	go func() {
		_, err := d.ReadAt(got, 0)
		read <- err
	}()
	var until time.Time
	for i := range 2 {
		q := <-asked
		if i == 0 {
			until = q.until
		}
		if q.Off != int64(i)*blockSize || !q.until.Equal(until) {
			t.Errorf("asked for the block at %d until %s, before until %s", q.Off, q.until, until)
		}
		if n := s.grace.readers[0].Load() + s.grace.readers[1].Load(); n != 0 {
			t.Errorf("%d readers keep segments from being reused while the healer is asked", n)
		}
		copy(block(2+i), bytes.Repeat([]byte{byte(i)}, blockSize))
		_, err := d.WriteAt(block(2+i), int64(2+i)*blockSize)
		must(t, err)
		answer <- block(i)
	}
	must(t, <-read)
	if !bytes.Equal(got, want) {
		t.Error("the read gave something else than what was written before it went on")
	}
	clear(got)
	_, err = d.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, want) || len(s.Damages()) != 0 {
		t.Errorf("not healed for good: %+v", s.Damages())
	}
}
