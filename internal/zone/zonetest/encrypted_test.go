package zonetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// ask sends a request to a service of a session and wants success.
func ask(t *testing.T, s *client.Session, method, service, path, body string) []byte {
	t.Helper()
	code, text := tryAsk(t, s, method, service, path, body)
	if code >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	return []byte(text)
}

// tryAsk is ask for what may be refused.
func tryAsk(t *testing.T, s *client.Session, method, service, path, body string) (code int, text string) {
	t.Helper()
	base, err := s.URL(service)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", s.Token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(said)
}

// TestEncryptedVolumeIsRecovered: an encrypted volume is recovered when nothing
// is left of the zone that made its key, and no file of any zone tells what is
// on it.
func TestEncryptedVolumeIsRecovered(t *testing.T) {
	const blocks = 64
	pattern := bytes.Repeat([]byte("nobody may read this "), zonetest.BlockSize/21+1)[:zonetest.BlockSize]
	c := zonetest.NewEmbedded(t)
	dirs := []string{
		filepath.Dir(c.StoreDir(source)),
		filepath.Dir(c.StoreDir("kilo1")),
		filepath.Dir(c.StoreDir("kilo2")),
	}
	admin := c.Session(source, zonetest.Admin)
	ask(t, admin, http.MethodPost, "volumev3", "/types/"+zonetest.TypeID(source)+"/encryption", `{"encryption": {
		"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 512, "control_location": "back-end"}}`)
	alice := c.Session(source, zonetest.Alice)
	v, err := alice.CreateVolume(t.Context(), client.NewVolume{Name: "hushed", Size: 1})
	if err == nil {
		v, err = alice.WaitVolume(t.Context(), v.ID, nil, "available")
	}
	if err != nil || !v.Encrypted {
		t.Fatalf("%+v, %v", v, err)
	}
	conn := c.Open(source, v.ID)
	for b := range int64(blocks) {
		if _, err := conn.WriteAt(pattern, b*zonetest.BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	sn, err := alice.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: v.ID, Force: true})
	if err == nil {
		sn, err = alice.WaitSnapshot(t.Context(), sn.ID, "available")
	}
	if err != nil {
		t.Fatal(err)
	}
	awaitSnapshot(t, c, v.ID, sn.ID)
	key := keyOf(t, alice, v.ID)
	c.Stop(source)
	for _, file := range []string{"zone.key", "catalog.db"} { // nothing of it is needed
		if err := os.Remove(filepath.Join(dirs[0], file)); err != nil {
			t.Fatal(err)
		}
	}
	k := c.Kvol("kilo1")
	rowkey, err := k.Recovery(t.Context(), client.Elsewhere{SrcZone: source, SrcType: zonetest.TypeID(source),
		Volume: v.ID, DstZone: "kilo1", DstProject: c.Projects[zonetest.Alice], DstType: zonetest.TypeID("kilo1")})
	var job client.KvolJob
	if err == nil {
		job, err = k.Wait(t.Context(), "recovery", rowkey, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	for b := range blocks {
		if got := c.Block("kilo1", *job.NewVolumeID, b); !bytes.Equal(got, pattern) {
			t.Fatalf("block %d reads %q", b, got[:32])
		}
	}
	if got := keyOf(t, c.Session("kilo1", zonetest.Alice), *job.NewVolumeID); !bytes.Equal(got, key) || len(got) != 64 {
		t.Errorf("the key became %x", got)
	}
	for _, dir := range dirs {
		wantHushed(t, dir, []byte("nobody may read this"), key)
	}
}

// keyOf is a volume's key, as its host gets it.
func keyOf(t *testing.T, s *client.Session, volume string) []byte {
	t.Helper()
	var document struct {
		Key      string `json:"encryption_key_id"`
		Location string `json:"control_location"`
	}
	text := ask(t, s, http.MethodGet, "volumev3", "/volumes/"+volume+"/encryption", "")
	if err := json.Unmarshal(text, &document); err != nil || document.Location != "back-end" {
		t.Fatalf("%s, %v", text, err)
	}
	return ask(t, s, http.MethodGet, "key-manager", "/v1/secrets/"+document.Key+"/payload", "")
}

// awaitSnapshot waits until a snapshot of the source's is a point in kilo1.
func awaitSnapshot(t *testing.T, c *zonetest.Cloud, volume, snapshot string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := c.Session("kilo1", zonetest.Admin)
	err := client.Poll(ctx, 5*time.Millisecond, func() (bool, error) {
		replicas, err := s.ReplicasOf(ctx, source, volume)
		if client.IsStatus(err, http.StatusNotFound) {
			return false, nil
		}
		return len(replicas) == 1 && slices.ContainsFunc(replicas[0].Points, func(p client.Point) bool {
			return p.ID == snapshot
		}), err
	})
	if err != nil {
		t.Fatalf("the snapshot is not replicated: %v", err)
	}
}

// wantHushed wants none of the secrets in any file below a directory. Zones that run
// remove some of theirs meanwhile.
func wantHushed(t *testing.T, dir string, secrets ...[]byte) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		files++
		for _, secret := range secrets {
			if bytes.Contains(text, secret) {
				t.Errorf("%s tells %q", path, secret[:16])
			}
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files were looked at, %v", files, err)
	}
}
