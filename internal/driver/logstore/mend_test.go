package logstore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// flipAt changes one bit of a file at a part of its length.
func flipAt(t *testing.T, mem *vfs.Mem, name string, part, of int64) {
	t.Helper()
	f, err := mem.Open(name)
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	p := make([]byte, 1)
	_, err = f.ReadAt(p, size*part/of)
	must(t, err)
	p[0] ^= 0x10
	_, err = f.WriteAt(p, size*part/of)
	must(t, err)
}

const (
	mendLeaves = 2048
	mendSize   = mendLeaves * leafSize
)

// scattered makes a store with a volume that has some blocks in each leaf, its
// index in tables on the disk, and returns what is in those and in as many that
// were never written.
func scattered(t *testing.T, o Options) map[int64][]byte {
	t.Helper()
	ctx := context.Background()
	s, err := Open(ctx, o)
	must(t, err)
	defer endChecked(t, s)
	must(t, s.CreateVolume(ctx, "v", mendSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	rnd := rand.New(rand.NewPCG(5, 5))
	want := map[int64][]byte{}
	for leaf := range int64(mendLeaves) {
		want[leaf*leafBlocks+rnd.Int64N(leafBlocks)] = make([]byte, blockSize)
		for range 2 {
			n, p := leaf*leafBlocks+rnd.Int64N(leafBlocks), randomBytes(rnd, blockSize)
			_, err := d.WriteAt(p, n*blockSize)
			must(t, err)
			want[n] = p
		}
	}
	must(t, d.Close())
	must(t, s.flushIndex())
	// No table is being written any more once all are one level.
	must(t, s.db.Compact(ctx, []byte{0}, []byte{0xff}, false))
	return want
}

// TestMend damages the index at one place after the other. Mend brings it back
// but for what only the damaged bytes said, names that, and nothing is served
// that is not right; where it can't, it says so and changes nothing.
func TestMend(t *testing.T) {
	if testing.Short() {
		t.Skip("one goroutine, and many reads")
	}
	const places = 16
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	o := crashOptions(mem, nil)
	o.MaxBytes = 400 * crashSegment
	want := scattered(t, o)
	tables := tablesOf(t, mem)
	mended, refused, lost := 0, 0, 0
	for i := range int64(places) {
		image := mem.Kill()
		for _, name := range tables {
			flipAt(t, image, name, i, places)
		}
		o.FS = image
		done, err := Mend(ctx, o)
		if err != nil {
			message, ok := block.UserMessage(err)
			if !block.Is(err, block.Corrupt) || !ok || message == "" {
				t.Fatalf("place %d: %v", i, err)
			}
			refused++
			continue
		}
		mended++
		if done.Ranges == 0 {
			t.Errorf("place %d: no damage was seen", i)
		}
		if len(done.Lost) > 0 {
			lost++
		}
		s, err := Open(ctx, o)
		must(t, err)
		seeMended(t, s, done, want)
		must(t, s.Check(ctx)) // all that was lost has been written over
		must(t, s.Close())
		if again, err := Mend(ctx, o); err != nil || again.Ranges != 0 {
			t.Errorf("place %d: mending again did %+v, %v", i, again, err)
		}
	}
	t.Logf("%d mended, %d with losses; %d refused", mended, lost, refused)
	if mended < places/2 || lost == 0 || lost == mended {
		t.Errorf("of %d places %d were mended, %d with losses, and %d refused", places, mended, lost, refused)
	}
}

// seeMended compares a volume whose index was mended, and writes over what was
// lost.
func seeMended(t *testing.T, s *Store, done Mended, want map[int64][]byte) {
	t.Helper()
	ctx := context.Background()
	var gone []Damage
	_, err := s.Examine(ctx, Watch{Found: func(d Damage) { gone = append(gone, d) }})
	must(t, err)
	in := func(off int64, all []Damage) bool {
		for _, d := range all {
			if d.What == whatLost && d.Volume == "v" && d.Extent.Off <= off && off < d.Extent.End() {
				return true
			}
		}
		return false
	}
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	defer d.Close()
	p := make([]byte, blockSize)
	if n := len(s.Damages()); n != len(gone) {
		t.Fatalf("%d alarms stand, %d were raised by a check", n, len(gone))
	}
	for n, bytesOf := range want {
		off := n * blockSize
		_, err := d.ReadAt(p, off)
		bad := block.Is(err, block.Corrupt)
		if told := in(off, done.Lost); told != bad || told != in(off, gone) {
			t.Fatalf("block %d: read %v, told as lost %v, found by a check %v", n, err, told, in(off, gone))
		}
		if !bad && (err != nil || !bytes.Equal(p, bytesOf)) {
			t.Fatalf("block %d has other bytes: %v", n, err)
		}
	}
	if n := len(s.Damages()); n != len(gone) {
		t.Fatalf("after reading %d alarms stand, %d were raised by a check", n, len(gone))
	}
	for _, g := range done.Lost {
		must(t, d.Zero(g.Extent.Off, g.Extent.Len))
		p, got := bytes.Repeat([]byte{7}, blockSize), make([]byte, 2*blockSize)
		_, err := d.WriteAt(p, g.Extent.End()-blockSize)
		must(t, err)
		_, err = d.ReadAt(got, g.Extent.End()-2*blockSize)
		must(t, err)
		if !bytes.Equal(got, append(make([]byte, blockSize), p...)) {
			t.Fatal("what was written over a lost range is not there")
		}
	}
}

// TestDamagedIndexStopsNobody: on a damaged table of the index the store goes
// on. Writers write, also there; compaction of the index leaves the table
// alone; the alarm names volume and range by itself.
func TestDamagedIndexStopsNobody(t *testing.T) {
	const size = 64 << 20
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	s, _ := indexed(t, mem)
	s.release()
	for _, name := range tablesOf(t, mem) {
		flipAt(t, mem, name, 1, 2)
	}
	o := crashOptions(mem, nil)
	o.MaxBytes = 400 * crashSegment // compaction would have to know what lives
	s, err := Open(ctx, o)
	must(t, err)
	defer s.release()
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	defer d.Close()
	rnd := rand.New(rand.NewPCG(8, 8))
	p := randomBytes(rnd, blockSize)
	for i := range int64(32 * (maxOperands + 8)) { // each leaf so often that its changes would be joined
		_, err := d.WriteAt(p, i%32*leafSize+rnd.Int64N(leafBlocks)*blockSize)
		must(t, err)
		if i%512 == 0 {
			must(t, s.flushIndex())
		}
	}
	must(t, d.Zero(0, size/2))
	must(t, d.Flush())
	if err := s.db.Compact(ctx, []byte{0}, []byte{0xff}, false); err == nil {
		t.Fatal("the index was compacted: its table was not damaged")
	}
	must(t, s.CreateVolume(ctx, "other", crashSize))
	must(t, d.Flush())
	s.tellSuspects()
	hit := false
	for _, g := range s.Damages() {
		hit = hit || g.What == whatTable && g.Volume == "v" && g.Extent.Len > 0
	}
	if err := s.Check(ctx); !block.Is(err, block.Corrupt) {
		t.Errorf("check: %v", err)
	}
	if st := s.Status(); st.Err != nil || !hit {
		t.Errorf("status %+v, damages %+v", st, s.Damages())
	}
}

// TestMoveOnDamagedIndex damages the index at one place after the other, under a
// log whose last record says that a block was moved. The store opens wherever
// it does without that record; where the block's leaf can't be read, the
// segment that the block was in stays as it is.
func TestMoveOnDamagedIndex(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	o := replayOptions(mem)
	o.MaxBytes = 1 << 29
	want := scattered(t, o)
	s, err := Open(t.Context(), o)
	must(t, err)
	const leaf = mendLeaves / 2
	var c cells
	br := s.volumes["v"].branch
	must(t, s.lookup(br, head, leaf, 0, leafBlocks, &c))
	i := slices.IndexFunc(c[:], func(c cell) bool { return c.segment != 0 })
	old := s.damaged(br.num, uint64(leaf*leafBlocks+i), le.AppendUint32(nil, c[i].crc), c[i].segment, c[i].off, "moved")
	plain := mem.Kill()
	must(t, s.putBack(&old, 0, want[int64(leaf*leafBlocks+i)]))
	must(t, s.log.flush())
	moved := mem.Kill()
	endChecked(t, s)
	opened := func(mem *vfs.Mem, part int64) (*Store, error) {
		o.FS = mem.Kill()
		for _, name := range tablesOf(t, mem) {
			flipAt(t, o.FS.(*vfs.Mem), name, part, 50)
		}
		return Open(t.Context(), o)
	}
	met := 0
	for part := range int64(50) {
		s, err := opened(plain, part)
		if err != nil {
			continue // what volumes there are is damaged
		}
		s.release()
		if s, err = opened(moved, part); err != nil {
			t.Fatalf("damage at %d of 50: %v", part, err)
		}
		key := leafKey(nil, br.num, leaf, s.volumes["v"].branch.epoch)
		if u := s.usage[old.Segment]; mendable(s.version(key, new(cells))) {
			if met++; u == nil || !u.left {
				t.Errorf("damage at %d of 50: segment %08x may be emptied", part, old.Segment)
			}
		}
		s.release()
	}
	if met == 0 {
		t.Error("the moved block's leaf was never damaged")
	}
}
