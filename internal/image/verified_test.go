package image

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// What a disk made of an image's bytes is not read as the image: a file of another
// size is refused at once, one of other bytes at its end.
func TestDamagedFile(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	for name, c := range map[string]struct {
		damage func(path string) error
		early  bool // seen when it is opened
	}{
		"cut":     {func(path string) error { return os.Truncate(path, 1000) }, true},
		"emptied": {func(path string) error { return os.Truncate(path, 0) }, true},
		"longer":  {func(path string) error { return os.Truncate(path, int64(len(data))+1) }, true},
		"changed": {func(path string) error {
			other := bytes.Clone(data)
			other[len(other)/2] ^= 1
			return os.WriteFile(path, other, 0o600)
		}, false},
	} {
		p := newPlace(t)
		s := p.open(t, Config{})
		img := mustCreate(t, s, alice, control.Image{Name: "disk"})
		if err := s.Upload(t.Context(), alice, img.ID, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if err := c.damage(filepath.Join(p.dir, files(t, p)[0])); err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(t.Context(), alice, img.ID)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
			if c.early {
				t.Errorf("%s: it was opened", name)
			}
		}
		if !block.Is(err, block.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if !c.early {
			continue
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, serve(t, s)+"/image/v2/images/"+img.ID+"/file",
			http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Auth-Token", "alice")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: a download is answered with %s", name, resp.Status)
		}
	}
}

// A file that is changed while it is open is noticed too, also where no hash was
// noted.
func TestCutWhileRead(t *testing.T) {
	const want = int64(1 << 20)
	for _, size := range []int64{1 << 10, want + 1} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		known := want
		r := verify(f, catalog.Image{Size: &known})
		if n, err := io.Copy(io.Discard, r); !block.Is(err, block.Corrupt) {
			t.Errorf("of %d bytes, which were to be %d, %d were read: %v", size, want, n, err)
		}
		r.Close()
	}
}
