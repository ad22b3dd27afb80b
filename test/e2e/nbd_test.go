package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
)

// TestSnapshotsForUnmodifiedClients reads snapshots beside their volume, behind
// @, with qemu-img, nbdcopy and nbdinfo: each is what its volume was, says what
// changed since the one before, and takes no write; when it is deleted, it
// can't be opened any more.
func TestSnapshotsForUnmodifiedClients(t *testing.T) {
	nbdcopy, nbdinfo, qemuImg := tool(t, "nbdcopy"), tool(t, "nbdinfo"), tool(t, "qemu-img")
	s := session(t, "kilo2", "alice")
	v := volume(t, s, client.NewVolume{Name: "with snapshots", Size: 1})
	url := connected(t, s, v.ID)
	file := randomFile(t, 8<<20)
	sh(t, nil, nbdcopy, "--flush", "--", file, url)
	snap := func() string {
		t.Helper()
		sn, err := s.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: v.ID, Force: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WaitSnapshot(t.Context(), sn.ID, "available"); err != nil {
			t.Fatal(err)
		}
		return sn.ID
	}
	older := snap()
	put(t, url, bytes.Repeat([]byte{7}, 4096), 64<<10)
	newer := snap()
	put(t, url, bytes.Repeat([]byte{8}, 4096), 0)

	if out := sh(t, nil, nbdinfo, "--json", url+"@"+older); !strings.Contains(out, `"is_read_only": true`) ||
		!strings.Contains(out, `"export-size": 1073741824`) {
		t.Errorf("of a snapshot nbdinfo says:\n%s", out)
	}
	sh(t, nil, qemuImg, "compare", "-f", "raw", "-F", "raw", url+"@"+older, file)
	back := filepath.Join(t.TempDir(), "newer.raw")
	sh(t, nil, nbdcopy, "--", url+"@"+newer, back)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	copy(want[64<<10:], bytes.Repeat([]byte{7}, 4096))
	got, err := os.ReadFile(back)
	if err != nil || !bytes.Equal(got[:len(want)], want) {
		t.Errorf("nbdcopy of the newer snapshot: %v, or other bytes", err)
	}
	changed := changedExtents(t, sh(t, nil, nbdinfo, "--json", "--map=kvol:changed:"+older, url+"@"+newer))
	if len(changed) != 1 || changed[0] != [2]int64{64 << 10, 4096} {
		t.Errorf("changed since: %v", changed)
	}
	if out, err := exitError(nbdcopy, "--", file, url+"@"+older); err == nil {
		t.Errorf("a snapshot was written to: %s", out)
	}
	for _, id := range []string{older, newer} {
		if err := s.DeleteSnapshot(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
			_, err := s.Snapshot(t.Context(), id)
			if client.IsStatus(err, http.StatusNotFound) {
				return true, nil
			}
			return false, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exitError(nbdinfo, "--size", url+"@"+id); err == nil {
			t.Errorf("a deleted snapshot opens: %s", out)
		}
	}
	sh(t, nil, nbdinfo, "--size", url)
	disconnect(t, s, v.ID)
}

// changedExtents are the extents of nbdinfo's map whose state is not 0.
func changedExtents(t *testing.T, text string) (list [][2]int64) {
	t.Helper()
	var all []struct {
		Offset, Length int64
		Type           int
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, e := range all {
		if e.Type != 0 {
			list = append(list, [2]int64{e.Offset, e.Length})
		}
	}
	return list
}

// put writes to an export and flushes.
func put(t *testing.T, url string, p []byte, off int64) {
	t.Helper()
	c, err := nbd.Dial(t.Context(), url, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteAt(p, off); err != nil {
		t.Error(err)
	}
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestResizeWhileConnected extends a volume under a client: the connection goes
// on, and takes writes beyond the old end where the client asks for them;
// whoever connects anew is told the new size.
func TestResizeWhileConnected(t *testing.T) {
	nbdinfo := tool(t, "nbdinfo")
	s := session(t, "kilo2", "alice")
	v := volume(t, s, client.NewVolume{Name: "grows", Size: 1})
	url := connected(t, s, v.ID)
	c, err := nbd.Dial(t.Context(), url, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := bytes.Repeat([]byte("beyond"), 512)
	if _, err := c.WriteAt(p, 1<<30); err == nil {
		t.Error("a write beyond the end was taken")
	}
	if err := s.VolumeAction(t.Context(), v.ID, "os-extend", map[string]any{"new_size": 2}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitVolume(t.Context(), v.ID, nil, "available"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(p))
	if _, err := c.WriteAt(p, 1<<20); err != nil {
		t.Errorf("a write of the connection that was there: %v", err)
	}
	if _, err := c.ReadAt(got, 1<<20); err != nil || !bytes.Equal(got, p) {
		t.Errorf("read back: %v, or other bytes", err)
	}
	if size := strings.TrimSpace(sh(t, nil, nbdinfo, "--size", url)); size != "2147483648" {
		t.Errorf("a new client is told %s bytes", size)
	}
	put(t, url, p, 1<<30)
	disconnect(t, s, v.ID)
}

// TestDeletedVolumeRefusesClients: deleting a volume ends its connection's
// export, cleanly, and its name opens nothing after.
func TestDeletedVolumeRefusesClients(t *testing.T) {
	qemuImg := tool(t, "qemu-img")
	s := session(t, "kilo2", "alice")
	v, err := s.CreateVolume(t.Context(), client.NewVolume{Name: "goes", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitVolume(t.Context(), v.ID, nil, "available"); err != nil {
		t.Fatal(err)
	}
	url := connected(t, s, v.ID)
	c, err := nbd.Dial(t.Context(), url, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	put(t, url, make([]byte, 4096), 0)
	if err := s.DeleteVolume(t.Context(), v.ID); err != nil {
		t.Fatal(err)
	}
	if out, err := exitError(qemuImg, "info", "-f", "raw", url); err == nil {
		t.Errorf("a deleted volume opens: %s", out)
	}
	if _, err := c.ReadAt(make([]byte, 512), 0); err == nil {
		t.Error("a deleted volume is read")
	}
}

// TestStoreCommands: the stores of a zone that runs are shown and checked
// through it; their directory is refused with the zone's address.
func TestStoreCommands(t *testing.T) {
	z := zone(t, "mitaka1")
	u := user(t, "admin")
	env := []string{"OS_AUTH_URL=" + z.IdentityURL, "OS_USERNAME=" + u.Name, "OS_PASSWORD=" + u.Password,
		"OS_PROJECT_ID=" + u.ProjectID, "OS_REGION_NAME=" + z.Region}
	if out, err := exitErrorEnv(openrc(t, "mitaka1"), zones.exe, "store", "status"); err == nil ||
		!strings.Contains(out, "Only an administrator") {
		t.Errorf("a tenant's store status: %v\n%s", err, out)
	}
	if out := sh(t, env, zones.exe, "store", "status"); !strings.Contains(out, "main") || !strings.Contains(out, "ok") {
		t.Errorf("store status says\n%s", out)
	}
	for _, kind := range []string{"check", "scrub"} {
		out := sh(t, env, zones.exe, "store", kind, "--store", "main")
		if !strings.Contains(out, " 0 places found, 0 damages stand") {
			t.Errorf("store %s says\n%s", kind, out)
		}
	}
	if out := sh(t, env, zones.exe, "store", "damages", "main", "--all", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("store damages says\n%s", out)
	}
	dir := filepath.Join(z.DataDir, "main")
	out, err := exitError(zones.exe, "store", "check", dir)
	if err == nil || !strings.Contains(out, "zone mitaka1") || !strings.Contains(out, z.URL) {
		t.Errorf("store check of a directory in use says %v\n%s", err, out)
	}
}
