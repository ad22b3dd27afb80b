package logstore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// DumpOptions say how much Dump prints beside superblock and segments.
type DumpOptions struct {
	FS      vfs.FS // the system's
	Records bool   // each record of the log
	Index   bool   // each key of the index
}

var opNames = map[op]string{opOpen: "open", opCreate: "create", opClone: "clone", opWrite: "write", opZero: "zero",
	opSnapshot: "snapshot", opExtend: "extend", opRewind: "rewind", opDelete: "delete",
	opDeleteSnapshot: "delete snapshot", opRelocate: "relocate"}

// Dump prints what the files of a store say, for people who look for a fault.
// It opens no store: nothing is changed or recovered. It is Conflict while a
// process has the store open.
func Dump(ctx context.Context, w io.Writer, dir string, o DumpOptions) error {
	if o.FS == nil {
		o.FS = vfs.System{}
	}
	super, found, err := readSuper(o.FS, dir)
	if err != nil {
		return err
	}
	if !found {
		return block.Errorf(block.NotFound, "%s holds no store", dir)
	}
	lock, err := takeLock(o.FS, dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	fmt.Fprintf(w, "superblock format %d counter %d generation %d id %016x segment size %d clean %v\n",
		super.version, super.counter, super.generation, super.id, super.segmentSize, super.clean)
	if err := dumpSegments(ctx, w, dir, &super, o); err != nil || !o.Index {
		return err
	}
	return dumpIndex(ctx, w, dir, o.FS)
}

func dumpSegments(ctx context.Context, w io.Writer, dir string, super *superblock, o DumpOptions) error {
	names, err := o.FS.List(path.Join(dir, segmentDir))
	if err != nil {
		return block.Wrap(block.Unavailable, err, "the store's segments can't be listed")
	}
	slices.Sort(names)
	for _, name := range names {
		id, ok := segmentID(name)
		if !ok {
			continue
		}
		f, err := o.FS.Open(segmentName(dir, id))
		if err != nil {
			return block.Wrap(block.Unavailable, err, "a segment of the store can't be opened")
		}
		err = dumpSegment(ctx, w, id, f, super, o)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func dumpSegment(ctx context.Context, w io.Writer, id uint32, f vfs.File, super *superblock, o DumpOptions) error {
	p := make([]byte, segmentHeader)
	if _, err := f.ReadAt(p, 0); isIOError(err) {
		return unreadable(err)
	}
	info, ok := parseSegment(p, super.salt)
	if !ok || info.id != id {
		fmt.Fprintf(w, "segment %08x no header of its own: not written yet, or used before under another id\n", id)
		return nil
	}
	fmt.Fprintf(w, "segment %08x generation %d first sequence %d after %08x at %d\n",
		id, info.generation, info.firstSeq, info.prev, info.prevEnd)
	r := recordReader{file: f, size: int64(super.segmentSize), salt: super.salt}
	off, seq, n := int64(segmentHeader), info.firstSeq, 0
	for {
		if err := ctx.Err(); err != nil {
			return block.Wrap(block.Unavailable, err, "the request ended")
		}
		h, body, err := r.read(off)
		if err != nil {
			return err
		}
		if h == nil || h.seq != seq {
			break
		}
		if o.Records {
			fmt.Fprintf(w, "  %8d sequence %d generation %d %s volume %d branch %d blocks %d+%d body %d data %d",
				off, h.seq, h.generation, opNames[h.op], h.volume, h.branch, h.first, h.count, h.body, h.data)
			if h.op == opRelocate {
				from := parseRelocation(body)
				fmt.Fprintf(w, " epoch %d from %08x at %d", from.epoch, from.segment, from.off)
			}
			if whole, err := r.dataWhole(h, body, off); err != nil {
				fmt.Fprint(w, " DATA CAN'T BE READ")
			} else if !whole {
				fmt.Fprint(w, " DATA DOES NOT MATCH ITS CHECKSUMS")
			}
			fmt.Fprintln(w)
		}
		off, seq, n = off+h.size(), h.seq+1, n+1
	}
	_, err := fmt.Fprintf(w, "  %d records end at %d\n", n, off)
	return err
}

// dumpIndex prints the index as its tables have it.
func dumpIndex(ctx context.Context, w io.Writer, dir string, fsys vfs.FS) error {
	db, err := pebble.Open(path.Join(dir, "index"), &pebble.Options{FS: &indexFS{fs: fsys}, ReadOnly: true,
		ErrorIfNotExists: true, Merger: leafMerger(), FormatMajorVersion: pebble.FormatColumnarBlocks,
		Logger: indexLogger{slog.New(slog.DiscardHandler), func(error) {}}})
	if err != nil {
		return indexError(err)
	}
	defer db.Close()
	it, err := db.NewIter(nil)
	if err != nil {
		return indexError(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return block.Wrap(block.Unavailable, err, "the request ended")
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		if _, err := fmt.Fprintln(w, indexLine(it.Key(), v)); err != nil {
			return err
		}
	}
	return indexError(it.Error())
}

// indexLine is one entry of the index in words.
func indexLine(k, v []byte) string {
	if branch, leaf, epoch, ok := parseLeafKey(k); ok {
		line := fmt.Sprintf("leaf %d branch %d epoch %d:", leaf, branch, epoch)
		err := eachRun(v, func(r run) {
			if r.segment == 0 {
				line += fmt.Sprintf(" %d+%d zero", r.first, r.count)
			} else {
				line += fmt.Sprintf(" %d+%d %08x@%d", r.first, r.count, r.segment, r.off)
			}
		})
		if err != nil {
			line += " " + err.Error()
		}
		return line
	}
	if branch, epoch, leaf, ok := parseChangedKey(k); ok {
		return fmt.Sprintf("changed branch %d epoch %d leaf %d", branch, epoch, leaf)
	}
	if len(k) == 1 && k[0] == keyPosition {
		p, err := parsePosition(v)
		return fmt.Sprintf("position segment %08x at %d sequence %d generation %d %v", p.segment, p.off, p.seq,
			p.generation, errOr(err))
	}
	if len(k) == 1 && k[0] == keyFreed {
		return "a census is due"
	}
	if len(k) < 9 {
		return fmt.Sprintf("unknown %x = %x", k, v)
	}
	num := be.Uint64(k[1:])
	switch k[0] {
	case keyBranch:
		r, err := parseBranch(v)
		return fmt.Sprintf("branch %d parent %d bound %d volume %d epoch %d %v", num, r.parent, r.parentAt, r.volume,
			r.epoch, errOr(err))
	case keyVolume:
		r, err := parseVolume(v)
		return fmt.Sprintf("volume %d id %q size %d branch %d %v", num, r.id, r.size, r.branch, errOr(err))
	case keySnapshot:
		r, err := parseSnapshot(v)
		return fmt.Sprintf("snapshot of %d key %x name %q branch %d size %d %v", num, k[9:], r.name, r.branch, r.size,
			errOr(err))
	case keySegment:
		u, err := parseUsage(v)
		return fmt.Sprintf("segment %08x end %d data %d live %d %v", num, u.end, u.data, u.live, errOr(err))
	case keyWritten:
		return fmt.Sprintf("written branch %d %x", num, v)
	case keyDirty:
		return fmt.Sprintf("to sweep branch %d around %x", num, k[9:])
	case keyHeir:
		r, err := parseHeir(v)
		return fmt.Sprintf("branch %d absorbed by %d rest below %d %v", num, r.heir, r.restAt, errOr(err))
	}
	return fmt.Sprintf("unknown %x = %x", k, v)
}

func errOr(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
