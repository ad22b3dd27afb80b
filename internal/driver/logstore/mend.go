package logstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// Mended is what Mend did.
type Mended struct {
	Ranges int      `json:"ranges"` // of keys that were written anew; 0: the index was whole
	Rows   int64    `json:"rows"`   // in them
	Lost   []Damage `json:"lost"`   // ranges of volumes of which nobody knows where they lie
}

// Mend writes those parts of a store's index anew whose tables are damaged.
// Nothing is guessed. Of what a damaged part held, that is kept which can still
// be read or follows from the rest: each version of a leaf has a note of change
// elsewhere, and the other way round. A version that can't be read is noted as
// lost: reads of it fail from then on, and nothing else does. It can't be made
// of the log's records: the log may have older blocks that a zero record hid
// which is gone.
//
// It is Conflict while a process has the store open, and Corrupt where the
// damage is in what is known of volumes and snapshots, or in both of a version
// and its note; that part stays as it is. A crash leaves the index as it was, or
// one part after the other mended.
func Mend(ctx context.Context, o Options) (done Mended, err error) {
	if o, err = o.withDefaults(); err != nil {
		return done, err
	}
	super, found, err := readSuper(o.FS, o.Dir)
	if err == nil && (!found || super.generation == 0) {
		err = block.Errorf(block.NotFound, "%s holds no store", o.Dir)
	}
	if err != nil {
		return done, err
	}
	lock, err := takeLock(o.FS, o.Dir)
	if err != nil {
		return done, err
	}
	defer lock.Close()
	db, err := openIndex(o.FS, o.Dir, true, o.CacheBytes, slog.New(slog.DiscardHandler), indexEvents{
		beforeTable: func() error { return nil }, flushed: func() {}, damaged: func(_, _ []byte) {}, fatal: func(error) {},
		writes: impatient()})
	if err != nil {
		return done, err
	}
	m := &mender{fs: o.FS, dir: o.Dir, db: db, lost: map[uint64][]uint32{}}
	err = m.mend(ctx)
	return m.done, errors.Join(err, indexError(db.Close()))
}

// mender works on an index that has nothing in memory.
type mender struct {
	fs   vfs.FS
	dir  string
	db   *pebble.DB
	done Mended
	lost map[uint64][]uint32 // leaves by branch
}

// errBeyond says what to do where there is nothing to mend the index from.
func errBeyond(cause error) error {
	return block.Wrap(block.Corrupt, cause, "the index is damaged in what is nowhere else; "+
		"recover the store's volumes in other zones, and begin with an empty store")
}

func (m *mender) mend(ctx context.Context) error {
	spans, err := m.damagedSpans(ctx)
	if err != nil || len(spans) == 0 {
		return err
	}
	name, err := m.owners()
	if err != nil {
		return errBeyond(err)
	}
	for _, span := range spans {
		if err := m.rewrite(ctx, span); err != nil {
			return err
		}
		m.done.Ranges++
	}
	for branch, leaves := range m.lost {
		for _, leaf := range leaves {
			m.done.Lost = append(m.done.Lost, Damage{What: whatLost, Volume: name(branch), State: Damaged,
				Extent: driver.Extent{Off: int64(leaf) * leafSize, Len: leafSize}})
		}
	}
	m.done.Lost = joinDamages(m.done.Lost)
	return nil
}

// joinDamages puts damages in order and makes one of those that overlap or
// follow each other.
func joinDamages(all []Damage) (out []Damage) {
	slices.SortFunc(all, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Extent.Off, b.Extent.Off))
	})
	for _, d := range all {
		if n := len(out); n > 0 && out[n-1].Volume == d.Volume && out[n-1].Extent.End() >= d.Extent.Off {
			out[n-1].Extent.Len = max(out[n-1].Extent.End(), d.Extent.End()) - out[n-1].Extent.Off
			continue
		}
		out = append(out, d)
	}
	return out
}

// damagedSpans finds the keys from the first to the last of each damaged table,
// those together that overlap.
func (m *mender) damagedSpans(ctx context.Context) (spans []pebble.KeyRange, err error) {
	levels, err := m.db.SSTables()
	if err != nil {
		return nil, indexError(err)
	}
	for _, t := range slices.Concat(levels...) {
		if err := ctx.Err(); err != nil {
			return nil, block.Wrap(block.Unavailable, err, "the request ended")
		}
		if err := checkTable(ctx, m.fs, tableName(m.dir, t)); err != nil {
			spans = append(spans, pebble.KeyRange{Start: bytes.Clone(t.Smallest.UserKey),
				End: append(bytes.Clone(t.Largest.UserKey), 0)})
		}
	}
	slices.SortFunc(spans, func(a, b pebble.KeyRange) int { return bytes.Compare(a.Start, b.Start) })
	var joined []pebble.KeyRange
	for _, s := range spans {
		if n := len(joined); n > 0 && bytes.Compare(s.Start, joined[n-1].End) < 0 {
			if bytes.Compare(s.End, joined[n-1].End) > 0 {
				joined[n-1].End = s.End
			}
			continue
		}
		joined = append(joined, s)
	}
	return joined, nil
}

// owners reads which volume each branch is of.
func (m *mender) owners() (func(branch uint64) block.VolumeID, error) {
	heirs, volumes, ids := map[uint64]uint64{}, map[uint64]uint64{}, map[uint64]block.VolumeID{}
	err := m.rows([]byte{keyBranch}, []byte{keyBranch + 1}, func(k, v []byte) error {
		r, err := parseBranch(v)
		volumes[be.Uint64(k[1:])] = r.volume
		return err
	})
	if err == nil {
		err = m.rows([]byte{keyHeir}, []byte{keyHeir + 1}, func(k, v []byte) error {
			r, err := parseHeir(v)
			heirs[be.Uint64(k[1:])] = r.heir
			return err
		})
	}
	if err == nil {
		err = m.rows([]byte{keyVolume}, []byte{keyVolume + 1}, func(k, v []byte) error {
			r, err := parseVolume(v)
			ids[be.Uint64(k[1:])] = block.VolumeID(r.id)
			return err
		})
	}
	return func(branch uint64) block.VolumeID {
		for n := 0; heirs[branch] != 0 && n < len(heirs); n++ {
			branch = heirs[branch]
		}
		return ids[volumes[branch]]
	}, err
}

// rows reads keys in [from, to).
func (m *mender) rows(from, to []byte, f func(k, v []byte) error) error {
	it, err := m.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		if err := f(it.Key(), v); err != nil {
			return err
		}
	}
	return indexError(it.Error())
}

// rewrite puts a new table in the place of all that the index has in a span. The
// manifest changes from the old to the new in one step.
func (m *mender) rewrite(ctx context.Context, span pebble.KeyRange) error {
	files := &indexFS{fs: m.fs, beforeTable: func() error { return nil }, fatal: func(error) {}, writes: impatient()}
	name := path.Join(m.dir, "index", "mended.sst")
	f, err := files.Create(name, pvfs.WriteCategoryUnspecified)
	if err != nil {
		return block.Wrap(ioKind(err), err, "the new part of the index can't be written")
	}
	defer func() { _ = m.fs.Remove(name) }() // Pebble has removed it where it took it; it is in nobody's way
	o := pebble.Options{Merger: leafMerger(), FormatMajorVersion: pebble.FormatColumnarBlocks}
	o.EnsureDefaults()
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f),
		o.MakeWriterOptions(0, o.FormatMajorVersion.MaxTableFormat()))
	before := m.done.Rows
	put := func(k, v []byte) error {
		m.done.Rows++
		return indexError(w.Set(k, v))
	}
	for kind := span.Start[0]; err == nil && kind <= span.End[0]; kind++ {
		from, to := later(span.Start, []byte{kind}), earlier(span.End, []byte{kind + 1})
		switch kind {
		case keyLeaf:
			err = m.leaves(from, to, put)
		case keyChanged:
			err = m.notes(from, to, put)
		default:
			if err = m.rows(from, to, put); mendable(err) {
				err = errBeyond(err)
			}
		}
	}
	if cerr := w.Close(); err == nil {
		err = indexError(cerr)
	}
	if err != nil {
		return err
	}
	if m.done.Rows == before {
		return indexError(m.db.Excise(ctx, span))
	}
	_, err = m.db.IngestAndExcise(ctx, []string{name}, nil, nil, span)
	return indexError(err)
}

func later(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return b
	}
	return a
}

func earlier(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return a
	}
	return b
}

// notes puts the notes of change in [from, to): as they are, or made of the
// versions that they are of.
func (m *mender) notes(from, to []byte, put func(k, v []byte) error) error {
	err := m.rows(from, to, func(_, _ []byte) error { return nil })
	if err == nil {
		return m.rows(from, to, put)
	}
	if !mendable(err) {
		return err
	}
	keys, err := m.derived(keyLeaf, from, to, func(k []byte) []byte {
		branch, leaf, epoch, _ := parseLeafKey(k)
		return changedKey(nil, branch, epoch, leaf)
	})
	for _, k := range keys {
		if err == nil {
			err = put(k, nil)
		}
	}
	return err
}

// leaves puts the versions in [from, to): as they are, or each by itself as the
// notes of change name them, where what can't be read is lost.
func (m *mender) leaves(from, to []byte, put func(k, v []byte) error) error {
	err := m.rows(from, to, func(_, _ []byte) error { return nil })
	if err == nil {
		return m.rows(from, to, put)
	}
	if !mendable(err) {
		return err
	}
	keys, err := m.derived(keyChanged, from, to, func(k []byte) []byte {
		branch, epoch, leaf, _ := parseChangedKey(k)
		return leafKey(nil, branch, leaf, epoch)
	})
	for _, k := range keys {
		if err == nil {
			err = m.leaf(k, put)
		}
	}
	return err
}

func (m *mender) leaf(k []byte, put func(k, v []byte) error) error {
	v, closer, err := m.db.Get(k)
	if err == nil {
		defer closer.Close()
		return put(k, v)
	}
	if err != pebble.ErrNotFound && !mendable(indexError(err)) { //nolint:errorlint // as Pebble documents it
		return indexError(err)
	}
	branch, leaf, _, _ := parseLeafKey(k)
	m.lost[branch] = append(m.lost[branch], leaf)
	return put(k, lostLeaf())
}

// derived makes keys in [from, to) of all keys of another kind, in order.
func (m *mender) derived(kind byte, from, to []byte, of func(k []byte) []byte) (keys [][]byte, err error) {
	err = m.rows([]byte{kind}, []byte{kind + 1}, func(k, _ []byte) error {
		if d := of(k); bytes.Compare(d, from) >= 0 && bytes.Compare(d, to) < 0 {
			keys = append(keys, d)
		}
		return nil
	})
	if mendable(err) {
		return nil, errBeyond(err)
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys, err
}
