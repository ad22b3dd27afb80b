package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"kvol/internal/block"
)

// Location is the part of a repository that one zone keeps for one project:
// "<zone>/<project>". Chunks are shared within it and never beyond, so that no
// tenant's backup is faster or smaller for what another one has stored.
type Location string

var stepForm = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)

// LocationOf is where a zone keeps a project's backups.
func LocationOf(zone block.Zone, project block.ProjectID) Location {
	return Location(step(string(zone)) + "/" + step(string(project)))
}

// step makes a step of a name of a text, another one for each text.
func step(text string) string {
	if stepForm.MatchString(text) && !strings.HasPrefix(text, "-") {
		return text
	}
	sum := blake3.Sum256([]byte(text))
	return "-" + hex.EncodeToString(sum[:])[:40]
}

// ParseLocation reads a location that somebody else wrote.
func ParseLocation(text string) (Location, error) {
	zone, project, ok := strings.Cut(text, "/")
	if !ok || !stepForm.MatchString(zone) || !stepForm.MatchString(project) {
		return "", block.Errorf(block.Invalid, "%q is no place in a backup repository.", text)
	}
	return Location(text), nil
}

// Of reports whether a location is one of a zone's own. Others are read only:
// the zone that wrote there removes what nobody needs.
func (l Location) Of(zone block.Zone) bool {
	first, _, _ := strings.Cut(string(l), "/")
	return first == step(string(zone))
}

func (l Location) manifests() string                  { return string(l) + "/manifests" }
func (l Location) unfinished() string                 { return string(l) + "/unfinished" }
func (l Location) damaged() string                    { return string(l) + "/damaged" }
func (l Location) manifest(id block.BackupID) string  { return l.manifests() + "/" + string(id) }
func (l Location) beginning(id block.BackupID) string { return l.unfinished() + "/" + string(id) }

// Options bound what a Repository does at once.
type Options struct {
	// Uploads is how many chunks of one backup or restore are under way at once;
	// each takes about three times its length of memory: ChunkSize, and up to 4 MiB
	// for volumes over 16 TiB. 0 for a default.
	Uploads int
}

const defaultUploads = 8

// Repository keeps backups in a Store. Its methods may be called at once from
// many goroutines. Of one location there must be one writing Repository in the
// world; any number may read.
type Repository struct {
	store        Store
	uploads      int
	compressor   *zstd.Encoder
	decompressor *zstd.Decoder

	mu    sync.Mutex       // guards users
	users map[Location]int // backups that are written; -1 while chunks are collected
}

// New makes a Repository of a store.
func New(store Store, o Options) (*Repository, error) {
	if o.Uploads <= 0 {
		o.Uploads = defaultUploads
	}
	compressor, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(o.Uploads),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(2*ChunkSize), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	decompressor, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(o.Uploads),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(2*maxChunk))
	if err != nil {
		return nil, err
	}
	return &Repository{store: store, uploads: o.Uploads, compressor: compressor, decompressor: decompressor,
		users: map[Location]int{}}, nil
}

// Busy is the error of what has to wait for others that use a location. It is
// a Conflict.
var errBusy = block.Errorf(block.Conflict, "The backup repository is busy.")

// IsBusy reports whether something has to be tried again since chunks are
// collected while backups are written, or the other way round.
func IsBusy(err error) bool { return errors.Is(err, errBusy) }

// share keeps the chunks of a location from being collected until release.
func (r *Repository) share(l Location) (release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users[l] < 0 {
		return nil, errBusy
	}
	r.users[l]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.users[l]--; r.users[l] == 0 {
			delete(r.users, l)
		}
	}, nil
}

// alone keeps backups from being written to a location until release.
func (r *Repository) alone(l Location) (release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users[l] != 0 {
		return nil, errBusy
	}
	r.users[l] = -1
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.users, l)
	}, nil
}

// Manifest reads a finished backup's manifest: NotFound where there is none,
// Corrupt if it is damaged or another backup's.
func (r *Repository) Manifest(ctx context.Context, l Location, id block.BackupID) (*Manifest, error) {
	m, err := r.readManifest(ctx, l.manifest(id))
	if err == nil && (m.unfinished || m.Backup != id) {
		return nil, damaged(l.manifest(id), errManifest)
	}
	return m, err
}

func (r *Repository) readManifest(ctx context.Context, name string) (*Manifest, error) {
	p, err := r.store.Get(ctx, name, maxManifest)
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(p)
	if err != nil {
		return nil, damaged(name, err)
	}
	return m, nil
}

// page reads a page of a manifest: the ids of its chunks.
func (r *Repository) page(ctx context.Context, l Location, id chunkID, n int) ([]chunkID, error) {
	ids := make([]chunkID, n)
	if id.zero() {
		return ids, nil
	}
	content, err := r.chunk(ctx, l, pageContext, id, n*32)
	if err != nil {
		return nil, err
	}
	for i := range ids {
		ids[i] = chunkID(content[i*32:])
	}
	return ids, nil
}

// chunk reads a chunk of so many bytes and checks its hash. One that is missing
// is as damaged as one that is wrong.
func (r *Repository) chunk(ctx context.Context, l Location, context string, id chunkID, size int) ([]byte, error) {
	name := l.chunk(id)
	object, err := r.store.Get(ctx, name, int64(chunkHeader+size))
	if block.Is(err, block.NotFound) {
		return nil, block.Wrap(block.Corrupt, err, "The backup's object %s is missing.", name)
	}
	if err != nil {
		return nil, err
	}
	content, err := r.unpackChecked(object, context, id, size)
	if err != nil {
		return nil, damaged(name, err)
	}
	return content, nil
}

// Remove removes a backup's manifest, and what an attempt at it left. Its
// chunks stay until Collect.
func (r *Repository) Remove(ctx context.Context, l Location, id block.BackupID) error {
	if err := r.store.Delete(ctx, l.manifest(id)); err != nil {
		return err
	}
	return r.store.Delete(ctx, l.beginning(id))
}

// SetAside puts a finished backup's manifest where nothing looks for it, so that
// what is damaged of a backup that nobody knows holds up no collection. An
// operator may still look at it. One that is gone already stays gone, without an
// error.
func (r *Repository) SetAside(ctx context.Context, l Location, id block.BackupID) error {
	p, err := r.store.Get(ctx, l.manifest(id), maxManifest)
	switch {
	case block.Is(err, block.NotFound):
		return nil
	case block.Is(err, block.Corrupt): // too long to be anything of ours
	case err != nil:
		return err
	default:
		if err := r.store.Put(ctx, l.damaged()+"/"+string(id), p); err != nil {
			return err
		}
	}
	return r.store.Delete(ctx, l.manifest(id))
}

// putUUID writes an id as 16 bytes; none as zeros.
func putUUID(p []byte, id string) error {
	if id == "" {
		return nil
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return block.Wrap(block.Internal, err, "%q is no id", id)
	}
	copy(p, u[:])
	return nil
}

func uuidAt(p []byte) string {
	u := uuid.UUID(p)
	if u == uuid.Nil {
		return ""
	}
	return u.String()
}
