package zonetest_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

const encryptedType = `{"encryption": {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 512,
	"control_location": "back-end"}}`

// encryptedVolume makes a volume of an encrypted type in the source zone, with a
// pattern in its first blocks, of which the backup zone has all.
func encryptedVolume(t *testing.T, c *zonetest.Cloud, pattern []byte) client.Volume {
	t.Helper()
	for _, name := range []string{source, to} {
		ask(t, c.Session(name, zonetest.Admin), http.MethodPost, "volumev3",
			"/types/"+zonetest.TypeID(name)+"/encryption", encryptedType)
	}
	v := makeVolume(t, c.Session(source, zonetest.Alice), client.NewVolume{Name: "hushed", Size: 1})
	if !v.Encrypted {
		t.Fatalf("%+v", v)
	}
	writePattern(t, c, source, v.ID, 0, pattern)
	upToDate(t, c, v.ID)
	return v
}

func writePattern(t *testing.T, c *zonetest.Cloud, zone, volume string, block int64, pattern []byte) {
	t.Helper()
	conn := c.Open(zone, volume)
	defer conn.Close()
	for b := block; b < block+16; b++ {
		if _, err := conn.WriteAt(pattern, b*zonetest.BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

func pattern(text string) []byte {
	return bytes.Repeat([]byte(text), zonetest.BlockSize/len(text)+1)[:zonetest.BlockSize]
}

// TestEncryptedVolumeGoesThereAndBack by planned failovers: its bytes are right in
// each zone, and no file of any zone tells them or the key.
func TestEncryptedVolumeGoesThereAndBack(t *testing.T) {
	t.Parallel()
	c := zonetest.NewEmbedded(t)
	first, second := pattern("nobody may read this "), pattern("nor this, written there ")
	v := encryptedVolume(t, c, first)
	key := keyOf(t, c.Session(source, zonetest.Alice), v.ID)
	there := c.Session(source, zonetest.Alice)
	f := moved(t, there, func() (client.Failover, error) {
		return there.Failover(t.Context(), v.ID, client.FailoverTo{Destination: to})
	})
	if got := c.Block(to, f.NewVolume, 15); !bytes.Equal(got, first) {
		t.Errorf("in %s it reads %q", to, got[:32])
	}
	if got := keyOf(t, c.Session(to, zonetest.Alice), f.NewVolume); !bytes.Equal(got, key) {
		t.Error("it has another key there")
	}
	writePattern(t, c, to, f.NewVolume, 16, second)
	awaitLink(t, c, to, f.NewVolume, source)
	back := c.Session(to, zonetest.Alice)
	home := moved(t, back, func() (client.Failover, error) {
		return back.Failback(t.Context(), f.NewVolume, client.FailoverTo{})
	})
	for b, want := range map[int][]byte{0: first, 15: first, 16: second, 31: second} {
		if got := c.Block(source, home.NewVolume, b); !bytes.Equal(got, want) {
			t.Errorf("block %d at home reads %q", b, got[:32])
		}
	}
	for _, name := range zonetest.Names {
		wantHushed(t, filepath.Dir(c.StoreDir(name)), []byte("nobody may read this"), []byte("nor this, written there"), key)
	}
}

// moved waits for the end of what begin asks for, until it is taken: the other zone may
// not have answered in its time, of which nothing has changed.
func moved(t *testing.T, s *client.Session, begin func() (client.Failover, error)) (f client.Failover) {
	t.Helper()
	eventually(t, "the failover begins", func() (begun bool) {
		var err error
		if f, err = begin(); err != nil && !client.IsStatus(err, http.StatusServiceUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	f, err := s.WaitFailover(t.Context(), f.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// awaitLink waits until a volume is replicated to a zone.
func awaitLink(t *testing.T, c *zonetest.Cloud, zone, volume, destination string) {
	t.Helper()
	s := c.Session(zone, zonetest.Admin)
	err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		links, err := s.Links(t.Context())
		for _, l := range links {
			if l.VolumeID == volume && l.Destination == destination && l.Confirmed != nil {
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRecoveryWithoutTheKeyIsRefused: the backup zone lost its key, so that what
// it has of an encrypted volume can't be read. It says so, and takes nothing over;
// with the key it goes.
func TestRecoveryWithoutTheKeyIsRefused(t *testing.T) {
	t.Parallel()
	c := zonetest.NewEmbedded(t)
	secret := pattern("nobody may read this ")
	v := encryptedVolume(t, c, secret)
	c.Stop(source)
	c.Stop(to)
	path := filepath.Join(filepath.Dir(c.StoreDir(to)), "zone.key")
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte{7}, len(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Start(to)
	req := client.Recovery{Scope: client.RecoveryScope{Volumes: []string{v.ID}}, AcceptLoss: true}
	admin := c.Session(to, zonetest.Admin)
	_, _, err = admin.Recover(t.Context(), req)
	wantRefused(t, err, http.StatusConflict, "The key of volume "+v.ID+" was not sealed for this zone.")
	k := c.Kvol(to)
	_, err = k.Recovery(t.Context(), client.Elsewhere{SrcZone: source, SrcType: zonetest.TypeID(source), Volume: v.ID,
		DstZone: to, DstProject: c.Projects[zonetest.Alice], DstType: zonetest.TypeID(to)})
	if err == nil {
		t.Error("the kvol API begins it")
	}
	if fences := c.Rows(to, "fences"); len(fences) > 0 {
		t.Errorf("something was taken over: %v", fences)
	}
	c.Stop(to)
	if err := os.WriteFile(path, key, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Start(to)
	admin = c.Session(to, zonetest.Admin)
	op, _, err := admin.Recover(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	d, err := admin.WaitDurable(t.Context(), op.ID, nil)
	if err != nil {
		t.Fatalf("%+v, %v", d, err)
	}
	if got := c.Block(to, d.Steps[0].NewVolume, 0); !bytes.Equal(got, secret) {
		t.Errorf("it reads %q", got[:32])
	}
}
