package backup

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/zeebo/blake3"

	"kvol/internal/block"
)

// pageIDs is how many chunk ids a page holds, the last one of a volume
// excepted.
const pageIDs = 1024

const (
	manifestMagic  = "kvolbkup"
	manifestFormat = 1
	manifestHeader = 160 // bytes before the ids of pages
	manifestSum    = 32  // bytes after them
	maxPages       = 1 << 18
	flagUnfinished = 1

	maxManifest = manifestHeader + maxPages*32 + manifestSum
)

// MaxSize is how many bytes a volume may have of which there is to be a backup,
// 1 PiB.
const MaxSize = int64(maxPages) * pageIDs * maxChunk

// chunkFor is how long the chunks are into which a volume of size bytes is cut:
// ChunkSize, or so much more that a manifest has room for its pages.
func chunkFor(size int64) int {
	n := ChunkSize
	for n < maxChunk && size > int64(maxPages)*pageIDs*int64(n) {
		n *= 2
	}
	return n
}

// Manifest describes a volume as it was at one moment: the ids of its pages,
// each of which is a list of ids of chunks. Of a backup that isn't finished it
// describes the beginning.
type Manifest struct {
	Backup, Parent block.BackupID // Parent is "" for none
	Volume         block.VolumeID
	Size           int64 // of the volume, in bytes
	Created        time.Time
	Objects        int64 // that this backup added to the repository, its manifest included
	Stored         int64 // their bytes, the manifest's excepted
	Root           Hash  // over the whole volume; zero while it is unfinished

	chunk      int // bytes
	unfinished bool
	pages      []chunkID
}

// Hash is a BLAKE3-256.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what String wrote.
func ParseHash(text string) (h Hash, err error) {
	p, err := hex.DecodeString(text)
	if err != nil || len(p) != len(h) {
		return h, block.Errorf(block.Invalid, "%q is no hash", text)
	}
	return Hash(p), nil
}

// geometry is how a size is cut into chunks and pages.
func (m *Manifest) pageBytes() int64 { return pageIDs * int64(m.chunk) }

// pageCount is how many pages the whole volume has.
func (m *Manifest) pageCount() int { return int((m.Size + m.pageBytes() - 1) / m.pageBytes()) }

// idsIn is how many chunks page i has.
func (m *Manifest) idsIn(i int) int {
	left := m.Size - int64(i)*m.pageBytes()
	return int(min(pageIDs, (left+int64(m.chunk)-1)/int64(m.chunk)))
}

// rootOf is the hash over everything: of the size and the pages, which are
// hashes of the chunks' hashes.
func (m *Manifest) rootOf() (root Hash) {
	h := blake3.NewDeriveKey(rootContext)
	var head [12]byte
	binary.LittleEndian.PutUint64(head[:], uint64(m.Size))
	binary.LittleEndian.PutUint32(head[8:], uint32(m.chunk))
	_, _ = h.Write(head[:]) // never fails
	for i := range m.pages {
		_, _ = h.Write(m.pages[i][:])
	}
	return Hash(h.Sum(nil))
}

// encode writes a manifest as docs/backup.md says.
func (m *Manifest) encode() ([]byte, error) {
	p := make([]byte, manifestHeader, manifestHeader+len(m.pages)*32+manifestSum)
	copy(p, manifestMagic)
	put32, put64 := binary.LittleEndian.PutUint32, binary.LittleEndian.PutUint64
	put32(p[8:], manifestFormat)
	if m.unfinished {
		put32(p[12:], flagUnfinished)
	}
	put32(p[16:], uint32(m.chunk))
	put32(p[20:], uint32(len(m.pages)))
	put64(p[24:], uint64(m.Size))
	put64(p[32:], uint64(m.Created.UnixMicro()))
	put64(p[40:], uint64(m.Objects))
	put64(p[48:], uint64(m.Stored))
	for at, id := range map[int]string{56: string(m.Backup), 72: string(m.Volume), 88: string(m.Parent)} {
		if err := putUUID(p[at:at+16], id); err != nil {
			return nil, err
		}
	}
	copy(p[104:], m.Root[:])
	for i := range m.pages {
		p = append(p, m.pages[i][:]...)
	}
	sum := blake3.Sum256(p)
	return append(p, sum[:]...), nil
}

var errManifest = errors.New("it does not have the form of a manifest")

// decodeManifest reads what encode wrote. It never trusts a number before the
// checksum and the lengths agree.
func decodeManifest(p []byte) (*Manifest, error) {
	if len(p) < manifestHeader+manifestSum || len(p) > maxManifest || string(p[:8]) != manifestMagic {
		return nil, errManifest
	}
	body, sum := p[:len(p)-manifestSum], p[len(p)-manifestSum:]
	if blake3.Sum256(body) != [32]byte(sum) {
		return nil, errors.New("its content does not have its checksum")
	}
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	if f := u32(p[8:]); f != manifestFormat {
		return nil, fmt.Errorf("it has format %d, this program knows %d", f, manifestFormat)
	}
	if err := checkChunkSize(u32(p[16:])); err != nil {
		return nil, err
	}
	flags, count, size := u32(p[12:]), u32(p[20:]), u64(p[24:])
	m := &Manifest{chunk: int(u32(p[16:])), unfinished: flags == flagUnfinished}
	if flags > flagUnfinished || size == 0 || size > uint64(maxPages)*uint64(m.pageBytes()) {
		return nil, errManifest
	}
	m.Size = int64(size)
	if len(body) != manifestHeader+int(count)*32 || int64(count) > int64(m.pageCount()) ||
		!m.unfinished && int(count) != m.pageCount() {
		return nil, errManifest
	}
	for i := 136; i < manifestHeader; i++ {
		if p[i] != 0 {
			return nil, errManifest
		}
	}
	m.Created = time.UnixMicro(int64(u64(p[32:]))).UTC()
	m.Objects, m.Stored = int64(u64(p[40:])), int64(u64(p[48:]))
	m.Backup, m.Volume = block.BackupID(uuidAt(p[56:72])), block.VolumeID(uuidAt(p[72:88]))
	m.Parent, m.Root = block.BackupID(uuidAt(p[88:104])), Hash(p[104:136])
	m.pages = make([]chunkID, count)
	for i := range m.pages {
		m.pages[i] = chunkID(body[manifestHeader+i*32:])
	}
	if m.Backup == "" || m.Volume == "" || m.Objects < 0 || m.Stored < 0 || !m.unfinished && m.Root != m.rootOf() {
		return nil, errManifest
	}
	return m, nil
}
