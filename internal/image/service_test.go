package image

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// The callers of the tests; their tokens are their names.
var (
	alice  = block.Caller{Project: "alices", User: "alice", UserName: "alice", Roles: []string{"member", "reader"}}
	bob    = block.Caller{Project: "bobs", User: "bob", UserName: "bob", Roles: []string{"member"}}
	reader = block.Caller{Project: "alices", User: "reader", UserName: "reader", Roles: []string{"reader"}}
	root   = block.Caller{Project: "ours", User: "root", UserName: "root", Roles: []string{"admin"}}
)

type names struct{}

func (names) Authenticate(_ context.Context, token string) (block.Caller, error) {
	for _, c := range []block.Caller{alice, bob, reader, root} {
		if token == c.UserName {
			return c, nil
		}
	}
	return block.Caller{}, block.Errorf(block.Unauthorized, "The request you have made requires authentication.")
}

// ticking is a clock that moves on by a second with each look.
func ticking() func() time.Time {
	var mu sync.Mutex
	t := time.Date(2026, 4, 29, 3, 0, 0, 0, time.UTC)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		t = t.Add(time.Second)
		return t
	}
}

type place struct {
	dir, db string
	now     func() time.Time
}

func newPlace(t *testing.T) place {
	dir := t.TempDir()
	return place{dir: filepath.Join(dir, "images"), db: filepath.Join(dir, "catalog.db"), now: ticking()}
}

func (p place) open(t *testing.T, config Config) *Service {
	t.Helper()
	c, err := catalog.Open(t.Context(), catalog.Options{Path: p.db, Now: p.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	config.Dir, config.Authenticator = p.dir, names{}
	s, err := New(t.Context(), c, config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serve(t *testing.T, s *Service) string {
	t.Helper()
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server.URL
}

func mustCreate(t *testing.T, s *Service, c block.Caller, img control.Image) control.Image {
	t.Helper()
	if img.DiskFormat == "" {
		img.DiskFormat, img.ContainerFormat = "raw", "bare"
	}
	img, err := s.Create(t.Context(), c, img)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func files(t *testing.T, p place) []string {
	t.Helper()
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// What is uploaded is read back, with its size and hashes, also after a
// restart; deleting it leaves nothing.
func TestLife(t *testing.T) {
	p := newPlace(t)
	s := p.open(t, Config{})
	data := bytes.Repeat([]byte("0123456789abcdef"), 300_000) // more than one buffer
	img := mustCreate(t, s, alice, control.Image{Name: "disk", MinDisk: 1, Properties: map[string]string{"os": "x"}})
	if img.Status != "queued" || img.Size != 0 {
		t.Errorf("made: %+v", img)
	}
	if _, err := s.Open(t.Context(), alice, img.ID); !block.Is(err, block.Conflict) {
		t.Errorf("open before the upload: %v", err)
	}
	if err := s.Upload(t.Context(), alice, img.ID, iotest.HalfReader(bytes.NewReader(data))); err != nil {
		t.Fatal(err)
	}
	if err := s.Upload(t.Context(), alice, img.ID, bytes.NewReader(data)); !block.Is(err, block.Conflict) {
		t.Errorf("a second upload: %v", err)
	}
	s.catalog.Close()
	s = p.open(t, Config{})
	for _, name := range []string{img.ID, strings.ReplaceAll(img.ID, "-", ""), "disk"} {
		got, err := s.Find(t.Context(), alice, name)
		if err != nil {
			t.Fatal(err)
		}
		sum := md5.Sum(data)
		if got.Status != "active" || got.Size != int64(len(data)) || got.VirtualSize != got.Size || got.MinDisk != 1 ||
			got.Checksum != hex.EncodeToString(sum[:]) || got.Properties["os"] != "x" {
			t.Errorf("found %+v", got)
		}
	}
	row, err := s.get(t.Context(), alice, img.ID)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha512.Sum512(data); *row.HashValue != hex.EncodeToString(sum[:]) {
		t.Errorf("sha512 is %s", *row.HashValue)
	}
	r, err := s.Open(t.Context(), alice, img.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), alice, img.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v; want %d, though the image was deleted", len(got), err, len(data))
	}
	r.Close()
	if err := s.Delete(t.Context(), alice, img.ID); !block.Is(err, block.NotFound) {
		t.Errorf("delete again: %v", err)
	}
	if left := files(t, p); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// An upload that is cut, too long, refused or cancelled leaves the image
// queued and no file, and may be repeated.
func TestUploadFails(t *testing.T) {
	cut := errors.New("connection reset")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		want block.Kind
	}{
		"cut": {t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(cut)), block.Invalid},
		"cut short": {t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF)),
			block.Invalid},
		"too long":  {t.Context(), strings.NewReader(strings.Repeat("x", 101)), block.OverLimit},
		"format":    {t.Context(), strings.NewReader("QFI\xfb and so on"), block.Unsupported},
		"cancelled": {cancelled, strings.NewReader("x"), block.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			s := p.open(t, Config{MaxSize: 100})
			img := mustCreate(t, s, alice, control.Image{Name: "disk"})
			if err := s.Upload(c.ctx, alice, img.ID, c.r); !block.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if left := files(t, p); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if err := s.Upload(t.Context(), alice, img.ID, strings.NewReader(strings.Repeat("x", 100))); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// A project's images are bounded together; other projects' are not counted.
// TestUploadIsCut: an upload whose context ended before its client's end is no success,
// and may be tried again.
func TestUploadIsCut(t *testing.T) {
	p := newPlace(t)
	s := p.open(t, Config{})
	i := mustCreate(t, s, alice, control.Image{Name: "cut"})
	ctx, end := context.WithCancel(t.Context())
	body := io.MultiReader(strings.NewReader("half"), endOnRead(end), strings.NewReader("the rest"))
	r := httptest.NewRequestWithContext(ctx, "PUT", "/image/v2/images/"+i.ID+"/file", body)
	r.Header.Set("X-Auth-Token", "alice")
	r.Header.Set("Content-Type", "application/octet-stream")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if w.Code != 503 || !strings.Contains(w.Body.String(), "did not finish") {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	got, err := s.get(t.Context(), alice, i.ID)
	if err != nil || got.Status != queued {
		t.Errorf("the image is %s, %v", got.Status, err)
	}
	if left := files(t, p); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// endOnRead is a reader that ends a context when it is its turn, and is at its end.
type endOnRead context.CancelFunc

func (f endOnRead) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestMaxAll(t *testing.T) {
	s := newPlace(t).open(t, Config{MaxAll: 10})
	for i, c := range []struct {
		who  block.Caller
		size int
		ok   bool
	}{{alice, 6, true}, {bob, 10, true}, {alice, 5, false}, {alice, 4, true}, {alice, 1, false}} {
		img := mustCreate(t, s, c.who, control.Image{})
		err := s.Upload(t.Context(), c.who, img.ID, strings.NewReader(strings.Repeat("x", c.size)))
		if (err == nil) != c.ok || err != nil && !block.Is(err, block.OverLimit) {
			t.Errorf("upload %d: %v, want ok %v", i, err, c.ok)
		}
	}
}

// After a crash in the middle of uploads and deletes, no half image is active,
// whole ones are, and no file is left over; others' files stay.
func TestCrash(t *testing.T) {
	p := newPlace(t)
	s := p.open(t, Config{})
	whole := mustCreate(t, s, alice, control.Image{Name: "whole"})
	if err := s.Upload(t.Context(), alice, whole.ID, strings.NewReader("whole")); err != nil {
		t.Fatal(err)
	}
	half := mustCreate(t, s, alice, control.Image{Name: "half"})
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- s.Upload(context.Background(), alice, half.ID, r) }()
	if _, err := io.WriteString(w, "ha"); err != nil { // returns once the upload has taken it
		t.Fatal(err)
	}
	crashed := place{dir: filepath.Join(t.TempDir(), "images"), now: p.now}
	crashed.db = crashed.dir + ".db"
	copyPlace(t, p, crashed) // what a crash at this moment would leave
	w.CloseWithError(io.ErrClosedPipe)
	<-done
	id := block.NewID()
	for _, name := range []string{id + "." + block.NewID(), id + "." + block.NewID() + ".part", "README"} {
		if err := os.WriteFile(filepath.Join(crashed.dir, name), []byte("?"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	s = crashed.open(t, Config{})
	if left := files(t, crashed); len(left) != 2 {
		t.Errorf("files are %v; want the whole image's and README", left)
	}
	for id, want := range map[string]string{whole.ID: "active", half.ID: "queued"} {
		if got, err := s.Find(t.Context(), alice, id); err != nil || got.Status != want {
			t.Errorf("%s is %s, %v; want %s", got.Name, got.Status, err, want)
		}
	}
	if err := s.Upload(t.Context(), alice, half.ID, strings.NewReader("half")); err != nil {
		t.Errorf("upload after the crash: %v", err)
	}
}

func copyPlace(t *testing.T, from, to place) {
	t.Helper()
	if err := os.CopyFS(to.dir, os.DirFS(from.dir)); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"", "-wal"} {
		text, err := os.ReadFile(from.db + end)
		if err == nil {
			err = os.WriteFile(to.db+end, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// An image that is deleted while it is uploaded stays deleted.
func TestDeletedWhileUploading(t *testing.T) {
	p := newPlace(t)
	s := p.open(t, Config{})
	img := mustCreate(t, s, alice, control.Image{})
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- s.Upload(context.Background(), alice, img.ID, r) }()
	if _, err := io.WriteString(w, "ha"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), alice, img.ID); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-done; !block.Is(err, block.NotFound) {
		t.Errorf("the upload ended with %v", err)
	}
	if left := files(t, p); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Who sees, changes, publishes and deletes what.
func TestRights(t *testing.T) {
	s := newPlace(t).open(t, Config{})
	private := mustCreate(t, s, alice, control.Image{Name: "private", Visibility: "private"})
	shared := mustCreate(t, s, alice, control.Image{Name: "shared"})
	community := mustCreate(t, s, alice, control.Image{Name: "community", Visibility: "community"})
	public := mustCreate(t, s, root, control.Image{Name: "public", Visibility: "public"})
	protected := mustCreate(t, s, alice, control.Image{Name: "protected", Protected: true})
	for _, c := range []struct {
		what string
		err  error
		want block.Kind
	}{
		{"bob finds private", find(t, s, bob, private.ID), block.NotFound},
		{"bob finds shared", find(t, s, bob, shared.ID), block.NotFound},
		{"bob finds private by name", find(t, s, bob, "private"), block.NotFound},
		{"bob deletes private", s.Delete(t.Context(), bob, private.ID), block.NotFound},
		{"bob deletes public", s.Delete(t.Context(), bob, public.ID), block.Forbidden},
		{"bob uploads to community", s.Upload(t.Context(), bob, community.ID, strings.NewReader("x")), block.Forbidden},
		{"reader deletes private", s.Delete(t.Context(), reader, private.ID), block.Forbidden},
		{"alice deletes protected", s.Delete(t.Context(), alice, protected.ID), block.Forbidden},
		{"reader creates", create(t, s, reader, control.Image{}), block.Forbidden},
		{"alice publishes", create(t, s, alice, control.Image{Visibility: "public"}), block.Forbidden},
		{"the same id twice", create(t, s, alice, control.Image{ID: private.ID}), block.Conflict},
		{"unknown format", create(t, s, alice, control.Image{DiskFormat: "floppy"}), block.Invalid},
	} {
		if !block.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
		}
	}
	for _, c := range []struct {
		who block.Caller
		id  string
	}{{alice, private.ID}, {reader, private.ID}, {root, private.ID}, {bob, public.ID}, {bob, community.ID},
		{bob, "community"}} {
		if err := find(t, s, c.who, c.id); err != nil {
			t.Errorf("%s finds %s: %v", c.who.UserName, c.id, err)
		}
	}
	mustCreate(t, s, alice, control.Image{Name: "private"})
	if err := find(t, s, alice, "private"); !block.Is(err, block.NotFound) {
		t.Errorf("one of two of the same name: %v", err)
	}
}

func find(t *testing.T, s *Service, c block.Caller, id string) error {
	_, err := s.Find(t.Context(), c, id)
	return err
}

func create(t *testing.T, s *Service, c block.Caller, img control.Image) error {
	_, err := s.Create(t.Context(), c, img)
	return err
}

// Of many uploads to one image at once, one wins, and its bytes are whole.
func TestUploadsAtOnce(t *testing.T) {
	p := newPlace(t)
	s := p.open(t, Config{})
	img := mustCreate(t, s, alice, control.Image{})
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() {
			data := strings.Repeat(string(rune('a'+i)), 1000)
			results[i] = s.Upload(context.Background(), alice, img.ID, strings.NewReader(data))
		})
	}
	wg.Wait()
	won := -1
	for i, err := range results {
		switch {
		case err == nil && won < 0:
			won = i
		case err == nil:
			t.Errorf("uploads %d and %d both won", won, i)
		case !block.Is(err, block.Conflict):
			t.Errorf("upload %d: %v", i, err)
		}
	}
	r, err := s.Open(t.Context(), alice, img.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != strings.Repeat(string(rune('a'+won)), 1000) {
		t.Errorf("the bytes are not upload %d's: %.10s..., %v", won, got, err)
	}
	if left := files(t, p); len(left) != 1 {
		t.Errorf("files are %v", left)
	}
}

// An upload that is no longer the one under way makes nothing active.
func TestStaleUpload(t *testing.T) {
	s := newPlace(t).open(t, Config{})
	img := mustCreate(t, s, alice, control.Image{})
	row, err := s.change(t.Context(), alice, img.ID, func(i *catalog.Image) error {
		i.Status, i.Upload = saving, block.NewID()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	row.Upload = block.NewID()
	if err := s.activate(t.Context(), row); !block.Is(err, block.Conflict) {
		t.Errorf("activated by a stale upload: %v", err)
	}
	if got, err := s.Find(t.Context(), alice, img.ID); err != nil || got.Status != "saving" {
		t.Errorf("the image is %s, %v", got.Status, err)
	}
}
