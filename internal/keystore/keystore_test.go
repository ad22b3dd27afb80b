package keystore

import (
	"bytes"
	"context"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

func open(t *testing.T, now func() time.Time) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(t.Context(), catalog.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func sealer(t *testing.T, zone byte) *Sealer {
	t.Helper()
	s, err := NewSealer([32]byte{zone})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSealed: only the same zone's key opens a secret, under its own id only.
func TestSealed(t *testing.T) {
	c, one, two := open(t, nil), sealer(t, 1), sealer(t, 2)
	err := c.Update(t.Context(), func(tx *catalog.Tx) error {
		id, err := one.NewKey(tx, "p", "u", "aes", 512)
		if err != nil {
			return err
		}
		kept, err := tx.Secret(id)
		if err != nil {
			return err
		}
		key, err := one.Key(tx, id)
		if err != nil || len(key) != 64 || bytes.Contains(kept.Sealed, key[:8]) {
			t.Errorf("the key is %x, %v", key, err)
		}
		if _, err := two.Key(tx, id); !block.Is(err, block.Corrupt) {
			t.Errorf("another zone opens it: %v", err)
		}
		if _, err := one.open("another", kept.Sealed); !block.Is(err, block.Corrupt) {
			t.Errorf("it passes for another: %v", err)
		}
		if again, err := sealer(t, 1).Key(tx, id); err != nil || !bytes.Equal(again, key) {
			t.Errorf("after a restart: %x, %v", again, err)
		}
		copied, err := one.CopyKey(tx, id, "q", "w")
		if err != nil {
			return err
		}
		same, err := one.Key(tx, copied)
		if made, _ := tx.Secret(copied); copied == id || !bytes.Equal(same, key) || made.Project != "q" ||
			bytes.Equal(made.Sealed, kept.Sealed) {
			t.Errorf("the copy is %+v, %v", made, err)
		}
		for _, bits := range []int64{-8, 8, 255, 8192} {
			if _, err := one.NewKey(tx, "p", "u", "aes", bits); !block.Is(err, block.Invalid) {
				t.Errorf("a key of %d bits: %v", bits, err)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTravellingKeys: a key that goes to another zone is opened there, and
// nowhere else, as the key of its volume and of no other one.
func TestTravellingKeys(t *testing.T) {
	here, there := sealer(t, 1), sealer(t, 2)
	key := []byte("a key of some length, longer than a block")
	sealed, err := SealFor(there.Box(), "v", key)
	if err != nil || bytes.Contains(sealed, key) {
		t.Fatalf("%q, %v", sealed, err)
	}
	if got, err := there.OpenFor("v", sealed); err != nil || !bytes.Equal(got, key) {
		t.Errorf("there it is %q, %v", got, err)
	}
	if _, err := here.OpenFor("v", sealed); !block.Is(err, block.Corrupt) {
		t.Errorf("here it opens: %v", err)
	}
	if _, err := there.OpenFor("w", sealed); !block.Is(err, block.Corrupt) {
		t.Errorf("it opens as another volume's: %v", err)
	}
	if _, err := SealFor([]byte("no key"), "v", key); !block.Is(err, block.Invalid) {
		t.Errorf("it is sealed for nobody: %v", err)
	}
}

func TestExpired(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := open(t, func() time.Time { return now })
	s := NewService(c, sealer(t, 1))
	who := block.Caller{Project: "p", Roles: []string{"member"}}
	made, err := s.Create(context.Background(), who, NewSecret{ContentType: octets, Payload: []byte("x"),
		ExpiresAt: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Payload(t.Context(), who, made.ID); err != nil {
		t.Error(err)
	}
	now = now.Add(time.Hour)
	if _, _, err := s.Payload(t.Context(), who, made.ID); !block.Is(err, block.NotFound) {
		t.Errorf("after it expired: %v", err)
	}
}

func FuzzOpenFor(f *testing.F) {
	s, err := NewSealer([32]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := SealFor(s.Box(), "v", []byte("key"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, s.Box())
	f.Fuzz(func(t *testing.T, p, box []byte) {
		if got, err := s.OpenFor("v", p); err == nil && string(got) != "key" {
			t.Errorf("opened %q", got)
		}
		if _, err := SealFor(box, "v", []byte("key")); err != nil && !block.Is(err, block.Invalid) {
			t.Errorf("an error of kind %v", block.KindOf(err))
		}
	})
}
