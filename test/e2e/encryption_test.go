package e2e

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v2/volumes"

	"kvol/internal/client"
)

// fetched is what a service answers to a GET of a session.
func fetched(t *testing.T, s *client.Session, service, path string) []byte {
	t.Helper()
	base, err := s.URL(service)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", s.Token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s, %v", path, answer.Status, text, err)
	}
	return text
}

// TestEncryptedByHost: the openstack command makes an encrypted type, gophercloud
// a volume of it, and qemu opens with the volume's key what kvol wrote of a clear
// image.
func TestEncryptedByHost(t *testing.T) {
	tool(t, "openstack")
	io := tool(t, "qemu-io")
	types, err := session(t, "kilo2", "admin").Types(t.Context())
	if err != nil || len(types) == 0 {
		t.Fatalf("types %v, %v", types, err)
	}
	commands(t, clientEnv(t, "kilo2", "admin"), openstackShell,
		"volume type create --property volume_backend_name="+types[0].ExtraSpecs["volume_backend_name"]+
			" --encryption-provider luks --encryption-control-location front-end --encryption-key-size 256 "+
			"--encryption-cipher aes-xts-plain64 hushed")
	c := blockStorage(t, "kilo2", "bob", "v3")
	s := session(t, "kilo2", "bob")
	image, err := s.CreateImage(t.Context(), client.NewImage{Name: "clear", DiskFormat: "raw", ContainerFormat: "bare"})
	if err == nil {
		err = s.UploadImage(t.Context(), image.ID, strings.NewReader(strings.Repeat("\x5a", 1<<20)))
	}
	if err != nil {
		t.Fatal(err)
	}
	made, err := volumes.Create(t.Context(), c, volumes.CreateOpts{Name: "hushed", Size: 1, VolumeType: "hushed",
		ImageID: image.ID}, nil).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if v := awaitVolume(t, c, made.ID, "available"); !v.Encrypted {
		t.Errorf("gophercloud sees %+v", v)
	}
	var document struct {
		Key      string `json:"encryption_key_id"`
		Provider string `json:"provider"`
	}
	text := fetched(t, s, "volumev3", "/volumes/"+made.ID+"/encryption")
	if err := json.Unmarshal(text, &document); err != nil || document.Provider != "luks" {
		t.Fatalf("%s, %v", text, err)
	}
	key := fetched(t, s, "key-manager", "/v1/secrets/"+document.Key+"/payload")
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte(hex.EncodeToString(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	address := connected(t, s, made.ID)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	out := sh(t, nil, io, "--object", "secret,id=s,file="+file, "--image-opts",
		"driver=luks,key-secret=s,file.driver=nbd,file.server.type=inet,file.server.host="+u.Hostname()+",file.server.port="+
			u.Port()+",file.export="+strings.TrimPrefix(u.Path, "/"), "-c", "read -P 0x5a 0 1M",
		"-c", "write -P 0x11 8M 64k", "-c", "read -P 0x11 8M 64k")
	if strings.Contains(out, "verification failed") || strings.Count(out, "1 MiB") == 0 {
		t.Errorf("qemu-io says\n%s", out)
	}
	if raw := sh(t, nil, io, "-r", "-f", "raw", address, "-c", "read -v 0 16"); !strings.Contains(raw, "4c 55 4b 53") {
		t.Errorf("the volume does not begin with LUKS:\n%s", raw)
	}
	disconnect(t, s, made.ID)
	if err := volumes.Delete(t.Context(), c, made.ID, nil).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	awaitVolume(t, c, made.ID, "deleted")
	if err := s.DeleteImage(t.Context(), image.ID); err != nil {
		t.Error(err)
	}
	out = commands(t, clientEnv(t, "kilo2", "bob"), openstackShell, "secret list -f json")
	if strings.Contains(out, document.Key) {
		t.Errorf("the key outlives the volume: %s", out)
	}
	commands(t, clientEnv(t, "kilo2", "admin"), openstackShell, "volume type delete hushed")
}
