package logstore

import (
	"bytes"
	"testing"
)

func FuzzRecord(f *testing.F) {
	for _, h := range []header{
		{seq: 7, generation: 2, op: opWrite, volume: 1, branch: 1, first: 511, count: 1, body: 4, data: blockSize},
		{seq: 8, generation: 2, op: opRelocate, first: 3, count: 1, body: relocateFixed + 4, data: blockSize},
		{seq: 9, generation: 2, op: opSnapshot, body: 12},
	} {
		p := make([]byte, headerSize+h.body)
		putHeader(p, &h, 42)
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		h, ok := parseHeader(p)
		if !ok || len(p) < headerSize+int(h.body) || !checkHeader(p, &h, 42) {
			return
		}
		crcs := h.crcs(p[headerSize : headerSize+int(h.body)])
		if h.size() > 4<<20 || crcs != nil && len(crcs) != int(h.count)*4 {
			t.Fatalf("%+v", h)
		}
		q := bytes.Clone(p[:headerSize+int(h.body)])
		putHeader(q, &h, 42)
		if again, ok := parseHeader(q); !ok || again != h {
			t.Fatalf("%+v and %+v", h, again)
		}
	})
}

func FuzzSuperblock(f *testing.F) {
	f.Add((&superblock{counter: 3, version: 1, generation: 2, salt: 9, id: 8, segmentSize: 1 << 20, clean: true}).encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		b, ok := parseSuper(p)
		if !ok {
			return
		}
		if again, ok := parseSuper(b.encode()); !ok || again != b {
			t.Fatalf("%+v and %+v", b, again)
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	f.Add((&segmentInfo{id: 5, generation: 2, firstSeq: 77, prev: 4, prevEnd: 1000}).encode(42))
	f.Fuzz(func(t *testing.T, p []byte) {
		s, ok := parseSegment(p, 42)
		if !ok {
			return
		}
		if again, ok := parseSegment(s.encode(42), 42); !ok || again != s {
			t.Fatalf("%+v and %+v", s, again)
		}
	})
}

// FuzzIndexValue: whatever decodes encodes to something that decodes to the
// same.
func FuzzIndexValue(f *testing.F) {
	f.Add(appendRun(nil, run{first: 3, count: 5}))
	f.Add(appendRun(appendRun(nil, run{first: 0, count: 512}),
		run{first: 510, count: 2, segment: 9, off: 64, crcs: []byte("abcdefgh")}))
	f.Fuzz(func(t *testing.T, p []byte) {
		var a, b cells
		if a.decode(p) != nil {
			return
		}
		if err := b.decode(a.encode(nil)); err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Fatal("not the same")
		}
	})
}

// FuzzIndexRows: no bytes make a decoder of the nouns panic or read beyond.
func FuzzIndexRows(f *testing.F) {
	f.Add([]byte(encoder(nil).text("v").uint(1).uint(2)))
	f.Add([]byte(encoder(nil).uint(1).uint(2).uint(3).uint(4)))
	f.Add(position{1, 2, 3, 4}.encode(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if r, err := parseVolume(p); err == nil {
			q := encoder(nil).text(r.id).uint(r.size).uint(r.branch)
			if again, err := parseVolume(q); err != nil || again != r {
				t.Fatal("volume")
			}
		}
		_, _ = parseBranch(p)
		_, _ = parseSnapshot(p)
		if r, err := parsePosition(p); err == nil && !bytes.Equal(r.encode(nil), p) {
			t.Fatal("position")
		}
		parseLeafKey(p)
		parseChangedKey(p)
		segmentID(string(p))
	})
}
