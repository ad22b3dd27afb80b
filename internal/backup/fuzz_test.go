package backup

import (
	"bytes"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"kvol/internal/block"
)

// FuzzManifest: whatever lies in a repository, a manifest is refused or it is
// one that would be written so. The checksum is set right, since no fuzzer
// would find it.
func FuzzManifest(f *testing.F) {
	for _, unfinished := range []bool{false, true} {
		m := &Manifest{Backup: block.BackupID(block.NewID()), Volume: block.VolumeID(block.NewID()), Size: 100 << 20,
			Created: time.UnixMicro(5), chunk: ChunkSize, unfinished: unfinished, pages: make([]chunkID, 2)}
		m.pages[1][3] = 7
		if !unfinished {
			m.Root = m.rootOf()
		}
		p, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p[:len(p)-manifestSum])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := decodeManifest(body); err == nil && len(body) < manifestHeader+manifestSum {
			t.Fatal("too short")
		}
		sum := blake3.Sum256(body)
		m, err := decodeManifest(append(bytes.Clone(body), sum[:]...))
		if err != nil {
			return
		}
		if n := m.pageCount(); len(m.pages) > n || m.idsIn(n-1) < 1 || m.idsIn(n-1) > pageIDs {
			t.Fatalf("%d pages of %d, %d ids in the last one", len(m.pages), n, m.idsIn(n-1))
		}
		again, err := m.encode()
		if err != nil || !bytes.Equal(again[:len(body)], body) {
			t.Fatalf("it is written otherwise: %v", err)
		}
	})
}

// FuzzChunk: an object is refused or it has the content that was asked for, of
// the length that was asked for.
func FuzzChunk(f *testing.F) {
	r, err := New(nil, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.pack([]byte("kvol")), 4)
	f.Add(r.pack(make([]byte, 10_000)), 10_000)
	f.Fuzz(func(t *testing.T, object []byte, want int) {
		if want > maxChunk {
			return
		}
		content, err := r.unpack(object, want)
		if err == nil && len(content) != want {
			t.Fatalf("%d bytes, want %d", len(content), want)
		}
	})
}

// FuzzPage: whatever a store holds under a page's name, a page is refused or it
// has the ids that its hash is of, and a damage is said to be one.
func FuzzPage(f *testing.F) {
	ids := make([]byte, 3*32)
	ids[5] = 1
	first, err := New(nil, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first.pack(ids), true, 3)
	f.Add(first.pack(ids), false, 3)
	f.Add(ids, true, 1)
	f.Fuzz(func(t *testing.T, object []byte, honest bool, n int) {
		if n < 0 || n > pageIDs {
			return
		}
		store := NewMemory()
		r, err := New(store, Options{Uploads: 1})
		if err != nil {
			t.Fatal(err)
		}
		id := idOf(pageContext, ids)
		if content, err := r.unpack(object, n*32); honest && err == nil {
			id = idOf(pageContext, content) // whoever writes there may name a page as it should be
		}
		if err := store.Put(t.Context(), Location("z/p").chunk(id), object); err != nil {
			t.Fatal(err)
		}
		got, err := r.page(t.Context(), "z/p", id, n)
		if err != nil {
			if !block.Is(err, block.Corrupt) {
				t.Fatalf("an error of kind %v", block.KindOf(err))
			}
			return
		}
		var flat []byte
		for i := range got {
			flat = append(flat, got[i][:]...)
		}
		if len(got) != n || idOf(pageContext, flat) != id {
			t.Fatalf("%d ids, want %d of that hash", len(got), n)
		}
	})
}

// TestPack: what does not get smaller is kept as it is.
func TestPack(t *testing.T) {
	r, err := New(nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{bytes.Repeat([]byte("abc"), 9999), []byte("x"), blakeNoise(ChunkSize),
		blakeNoise(maxChunk), bytes.Repeat([]byte("abc"), maxChunk/3)} {
		object := r.pack(content)
		if len(object) > chunkHeader+len(content) {
			t.Errorf("%d bytes became %d", len(content), len(object))
		}
		got, err := r.unpackChecked(object, dataContext, idOf(dataContext, content), len(content))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: %v", len(content), err)
		}
		if _, err := r.unpackChecked(object, pageContext, idOf(dataContext, content), len(content)); err == nil {
			t.Error("a chunk of data is taken as a page")
		}
	}
}

func blakeNoise(n int) []byte {
	p := make([]byte, n)
	h := blake3.New()
	_, _ = h.Digest().Read(p)
	return p
}
