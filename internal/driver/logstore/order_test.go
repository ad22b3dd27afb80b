package logstore

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// item is a volume, or a snapshot of one, that is deleted in its turn.
type item struct {
	volume block.VolumeID
	name   block.PointID // empty: the volume with all its snapshots
}

// orchard grows trees of volumes, snapshots and clones in a store, with a model
// of what each holds, and takes them down in any order.
type orchard struct {
	t    *testing.T
	s    *Store
	want model
	rng  *rand.Rand
}

func newOrchard(t *testing.T, seed uint64) *orchard {
	s := openTest(t, crashOptions(vfs.NewMem(1<<30, nil), nil))
	return &orchard{t: t, s: s, want: model{}, rng: rand.New(rand.NewPCG(seed, 9))}
}

func (o *orchard) create(id block.VolumeID) {
	must(o.t, o.s.CreateVolume(o.t.Context(), id, crashSize))
	o.want[id] = modelVolume{size: crashSize, data: content{}}
	o.write(id)
}

// write puts something into blocks that all volumes of a tree share, and some
// into another leaf.
func (o *orchard) write(id block.VolumeID) {
	d, err := o.s.OpenVolume(o.t.Context(), id)
	must(o.t, err)
	for _, b := range []int64{o.rng.Int64N(4), leafBlocks + o.rng.Int64N(2)} {
		p := randomBytes(o.rng, blockSize)
		_, err := d.WriteAt(p, b*blockSize)
		must(o.t, err)
		o.want[id].data[b] = p
	}
	must(o.t, d.Close())
}

func (o *orchard) snapshot(id block.VolumeID, name block.PointID) {
	must(o.t, o.s.CreateSnapshot(o.t.Context(), driver.SnapshotRef{Volume: id, Name: name}))
	v := o.want[id]
	v.snaps = append(slices.Clone(v.snaps), modelSnapshot{name, v.size, copyOf(v.data)})
	o.want[id] = v
	o.write(id)
}

func (o *orchard) find(id block.VolumeID, name block.PointID) int {
	return slices.IndexFunc(o.want[id].snaps, func(s modelSnapshot) bool { return s.name == name })
}

func (o *orchard) clone(id, from block.VolumeID, name block.PointID) {
	must(o.t, o.s.CloneSnapshot(o.t.Context(), id, driver.SnapshotRef{Volume: from, Name: name}, crashSize))
	sn := o.want[from].snaps[o.find(from, name)]
	o.want[id] = modelVolume{size: crashSize, data: copyOf(sn.data)}
	o.write(id)
}

func (o *orchard) rewind(id block.VolumeID, name block.PointID) {
	must(o.t, o.s.Revert(o.t.Context(), driver.SnapshotRef{Volume: id, Name: name}))
	v, i := o.want[id], o.find(id, name)
	v.snaps = slices.Clone(v.snaps[:i+1])
	v.data = copyOf(v.snaps[i].data)
	o.want[id] = v
	o.write(id)
}

// fell deletes an item; one that went with its volume already is deleted again.
func (o *orchard) fell(i item) {
	if i.name == "" {
		must(o.t, o.s.DeleteVolume(o.t.Context(), i.volume))
		delete(o.want, i.volume)
		return
	}
	must(o.t, o.s.DeleteSnapshot(o.t.Context(), driver.SnapshotRef{Volume: i.volume, Name: i.name}))
	if v, ok := o.want[i.volume]; ok {
		v.snaps = slices.DeleteFunc(slices.Clone(v.snaps), func(s modelSnapshot) bool { return s.name == i.name })
		o.want[i.volume] = v
	}
}

// same sees that all that is left holds what it should.
func (o *orchard) same(what string) {
	o.t.Helper()
	got, err := readAll(o.t.Context(), o.s)
	must(o.t, err)
	if d := got.differs(o.want); d != "" {
		o.t.Fatalf("%s: %s", what, d)
	}
	must(o.t, checkDiffs(o.t.Context(), o.s, o.want))
}

// trees are what is grown before it is taken down in every order.
var trees = []struct {
	name string
	grow func(o *orchard)
}{
	{"a parent with clones", func(o *orchard) {
		o.create("a")
		o.snapshot("a", "1")
		o.snapshot("a", "2")
		o.snapshot("a", "3")
		o.clone("b", "a", "2")
	}},
	{"a clone of a clone", func(o *orchard) {
		o.create("a")
		o.snapshot("a", "1")
		o.clone("b", "a", "1")
		o.snapshot("b", "1")
		o.clone("c", "b", "1")
	}},
	{"rewound, with clones", func(o *orchard) {
		o.create("a")
		o.snapshot("a", "1")
		o.snapshot("a", "2")
		o.clone("b", "a", "2")
		o.rewind("a", "1")
		o.snapshot("a", "3")
		o.clone("c", "a", "1")
	}},
	{"two clones at one mark", func(o *orchard) {
		o.create("a")
		o.snapshot("a", "1")
		o.clone("b", "a", "1")
		o.clone("c", "a", "1")
		o.snapshot("c", "1")
	}},
	{"rewound again and again", func(o *orchard) {
		o.create("a")
		for i := range maxDepth + 2 {
			o.snapshot("a", block.PointID(fmt.Sprint(i)))
			o.rewind("a", block.PointID(fmt.Sprint(i/4*4)))
		}
	}},
}

func (o *orchard) items() (list []item) {
	for id, v := range o.want {
		list = append(list, item{volume: id})
		for _, s := range v.snaps {
			list = append(list, item{id, s.name})
		}
	}
	return list
}

// TestDeleteInEveryOrder takes small trees down in each order that there is.
// What is left is compared after each deletion, with housekeeping in between or
// not; in the end nothing may be left in the store.
func TestDeleteInEveryOrder(t *testing.T) {
	for n, tree := range trees {
		t.Run(tree.name, func(t *testing.T) {
			t.Parallel()
			o := newOrchard(t, uint64(n))
			tree.grow(o)
			for k := range factorial(len(o.items())) {
				if k > 0 {
					tree.grow(o)
				}
				items := o.items()
				slices.SortFunc(items, func(a, b item) int {
					return cmp.Or(cmp.Compare(a.volume, b.volume), cmp.Compare(a.name, b.name))
				})
				order := permutation(items, k)
				for i, it := range order {
					o.fell(it)
					if (k+i)%2 == 0 {
						must(t, o.s.tidyBranches(t.Context()))
					}
					o.same(fmt.Sprintf("order %v after %d", order, i+1))
				}
				nothingLeft(t, o.s)
			}
		})
	}
}

func factorial(n int) int {
	if n < 2 {
		return 1
	}
	return n * factorial(n-1)
}

// permutation is the k-th order of some items.
func permutation(items []item, k int) []item {
	left := slices.Clone(items)
	var out []item
	for n := len(left); n > 0; n-- {
		i := k % n
		k /= n
		out = append(out, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return out
}

// TestDeleteRandomTrees grows larger trees at random and takes them down at
// random, in between too.
func TestDeleteRandomTrees(t *testing.T) {
	seeds := uint64(6)
	if os.Getenv(powerCuts) != "" {
		seeds = 200
	}
	for seed := range seeds {
		o := newOrchard(t, seed)
		o.create("v0")
		for i := range 120 {
			ids := o.items()
			it := ids[o.rng.IntN(len(ids))]
			name := block.PointID(fmt.Sprint("s", i))
			switch n := o.rng.IntN(10); {
			case n < 3:
				o.snapshot(it.volume, name)
			case n < 5 && it.name != "":
				o.clone(block.VolumeID(fmt.Sprint("v", i)), it.volume, it.name)
			case n < 7 && it.name != "":
				o.rewind(it.volume, it.name)
			case n < 8 && len(ids) > 1:
				o.fell(it)
			default:
				o.write(it.volume)
			}
			if len(o.want) == 0 {
				o.create(block.VolumeID(fmt.Sprint("v", i)))
			}
			if i%20 == 19 {
				o.same(fmt.Sprintf("seed %d, step %d", seed, i))
			}
		}
		items := o.items()
		o.rng.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		for i, it := range items {
			o.fell(it)
			if i%8 == 0 {
				o.same(fmt.Sprintf("seed %d, %d deleted", seed, i+1))
			}
		}
		nothingLeft(t, o.s)
	}
}

// nothingLeft sees that a store from which all was deleted holds nothing.
func nothingLeft(t testing.TB, s *Store) {
	t.Helper()
	must(t, leftOver(s))
}

// leftOver tells what is left in a store from which all was deleted: live
// blocks, keys of the index but the fixed ones, nouns in memory, more files
// than a new store has.
func leftOver(s *Store) error {
	ctx := context.Background()
	for _, f := range []func() error{
		func() error { return s.tidyBranches(ctx) },
		func() error { // where housekeeping might wait before it counts again
			s.reclaiming.Lock()
			defer s.reclaiming.Unlock()
			return s.takeCensus()
		},
		func() error { return s.pool.wait(readyTarget) },
		func() error { return s.reclaimWhenDue(ctx) },
		s.leftInIndex,
	} {
		if err := f(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, u := range s.usage {
		if u.live != 0 || !u.free {
			return fmt.Errorf("segment %08x has %d live bytes, free: %v", id, u.live, u.free)
		}
	}
	n := len(s.branches) + len(s.aliases) + len(s.dirty) + len(s.candidates) + len(s.volumes) + len(s.numbers)
	if n != 0 || s.moving != nil {
		return fmt.Errorf("%d nouns are left in memory, moving %v", n, s.moving)
	}
	if all, _ := s.pool.counts(); all > 1+readyTarget {
		return fmt.Errorf("%d segments are left; a new store has %d", all, 1+readyTarget)
	}
	return nil
}

func (s *Store) leftInIndex() error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if k := it.Key(); k[0] != keyPosition && k[0] != keySegment {
			return fmt.Errorf("the index has %s", indexLine(k, v))
		}
	}
	return it.Error()
}
