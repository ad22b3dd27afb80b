package glance

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"sync"
	"time"

	"kvol/internal/block"
)

// hashes are those by which Glance may be configured to keep images
// (hashing_algorithm). md5 is what it kept before, and keeps still.
var hashes = map[string]func() hash.Hash{"sha512": sha512.New, "sha384": sha512.New384, "sha256": sha256.New,
	"sha224": sha256.New224, "sha1": sha1.New, "md5": md5.New}

// check is the hash by which an image's bytes are known, and what it has to be;
// nil where Glance keeps none that is known here.
func (f found) check() (sum hash.Hash, want string) {
	if makes, ok := hashes[f.hashAlgorithm]; ok && f.hashValue != "" {
		return makes(), f.hashValue
	}
	if f.Checksum != "" {
		return md5.New(), f.Checksum
	}
	return nil, ""
}

// Open reads an active image's bytes. Reading to the end fails as Corrupt where
// they are not those that Glance took, and as Unavailable where they end early.
// Conflict before they are there, Forbidden while the image is deactivated.
func (s *Service) Open(ctx context.Context, c block.Caller, id string) (io.ReadCloser, error) {
	f, err := s.get(ctx, c, id)
	if err != nil {
		return nil, err
	}
	ctx, w := watch(ctx, s.c.Stall)
	resp, _, err := s.send(ctx, c, http.MethodGet, step(id)+"/file", "", http.NoBody, "")
	switch {
	case err != nil:
		w.stop()
		return nil, err
	case resp.StatusCode == http.StatusOK:
		d := &download{body: resp.Body, w: w, ctx: ctx, size: f.Size}
		d.sum, d.want = f.check()
		return d, nil
	}
	drop(resp)
	w.stop()
	switch {
	case resp.StatusCode != http.StatusNoContent:
		return nil, refused(resp.StatusCode)
	case f.Status == "active" && f.Size == 0:
		return http.NoBody, nil
	}
	return nil, refused(http.StatusConflict)
}

// drop reads what is left of an answer that nobody looks at.
func drop(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain) // the status said it all
	resp.Body.Close()
}

// download is an image on its way here. It belongs to one goroutine.
type download struct {
	ctx  context.Context
	body io.ReadCloser
	w    *watchdog
	size int64
	done int64
	sum  hash.Hash // nil where there is none to compare with
	want string
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	n, err := d.body.Read(p)
	d.w.moved()
	d.done += int64(n)
	if d.sum != nil {
		d.sum.Write(p[:n])
	}
	switch {
	case d.done > d.size:
		return n, block.Errorf(block.Corrupt, "The image is longer than the image service says.")
	case errors.Is(err, io.EOF):
		return n, d.ended()
	case err != nil:
		if cause := context.Cause(d.ctx); cause != nil {
			err = cause
		}
		return n, block.Wrap(block.Unavailable, err, "The image service broke off.")
	}
	return n, nil
}

func (d *download) ended() error {
	switch {
	case d.done < d.size:
		return block.Errorf(block.Unavailable, "The image service sent %d of %d bytes.", d.done, d.size)
	case d.sum != nil && hex.EncodeToString(d.sum.Sum(nil)) != d.want:
		return block.Errorf(block.Corrupt, "The bytes of the image are not those of its hash.")
	}
	return io.EOF
}

// Close implements io.Closer.
func (d *download) Close() error {
	d.w.stop()
	return d.body.Close()
}

// Upload gives a queued image its bytes, and looks afterwards whether Glance has
// what was sent: Corrupt if not. An error of r is returned as it is.
func (s *Service) Upload(ctx context.Context, c block.Caller, id string, r io.Reader) error {
	if _, err := s.get(ctx, c, id); err != nil { // also renews the token of ours, which a stream can't be repeated for
		return err
	}
	moving, w := watch(ctx, s.c.Stall)
	defer w.stop()
	up := &upload{from: r, sum: sha512.New(), w: w}
	defer up.end()
	resp, _, err := s.send(moving, c, http.MethodPut, step(id)+"/file", "application/octet-stream", up, "")
	if broken := up.failure(); broken != nil {
		if err == nil {
			drop(resp)
		}
		return broken
	}
	if err != nil {
		return err
	}
	drop(resp)
	if resp.StatusCode >= http.StatusMultipleChoices {
		return refused(resp.StatusCode)
	}
	f, err := s.get(ctx, c, id)
	if err != nil {
		return err
	}
	sent, sum := up.sent()
	switch {
	case f.Status != "active":
		return block.Errorf(block.Unavailable, "The image service took the image, and calls it %s.", f.Status)
	case f.Size != sent || f.hashAlgorithm == "sha512" && f.hashValue != sum:
		return block.Errorf(block.Corrupt, "The image service does not have the bytes that it was sent.")
	}
	return nil
}

// upload is an image on its way to Glance. The transport may still read from it
// when the answer is there, so what it knows is guarded.
type upload struct {
	w *watchdog

	mu   sync.Mutex // guards the rest
	from io.Reader
	sum  hash.Hash
	done int64
	err  error // of from
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil {
		return 0, u.err
	}
	n, err := u.from.Read(p)
	u.sum.Write(p[:n])
	u.done += int64(n)
	u.w.moved()
	switch {
	case errors.Is(err, io.EOF):
		u.w.settle()
	case err != nil:
		u.err = err
	}
	return n, err
}

func (u *upload) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// end has r read by nobody any more.
func (u *upload) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = errors.New("the upload is over")
}

func (u *upload) sent() (int64, string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.done, hex.EncodeToString(u.sum.Sum(nil))
}

var errStalled = errors.New("no byte moved for too long")

// watchdog ends a transfer in which no byte moves. Its methods may be called at
// once.
type watchdog struct {
	timer  *time.Timer
	stall  time.Duration
	cancel context.CancelCauseFunc
}

func watch(ctx context.Context, stall time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{stall: stall, cancel: cancel}
	w.timer = time.AfterFunc(stall, func() { cancel(errStalled) })
	return ctx, w
}

func (w *watchdog) moved()  { w.timer.Reset(w.stall) }
func (w *watchdog) settle() { w.timer.Reset(max(settleTime, w.stall)) }

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}
