package zone_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
)

// smallZone runs a zone on an embedded store of so many bytes, which is checked
// when the test ends.
func smallZone(t *testing.T, bytes int64) (url string, alice *client.Session) {
	t.Helper()
	dir := t.TempDir()
	o := logstore.Options{Dir: dir, MaxBytes: bytes, SegmentSize: 1 << 20, Log: slog.New(slog.DiscardHandler)}
	store, err := logstore.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the zone has ended
		s, err := logstore.Open(context.Background(), o)
		if err != nil {
			t.Error(err)
			return
		}
		if err := errors.Join(s.Check(context.Background()), s.Close()); err != nil {
			t.Error(err)
		}
	})
	text := fmt.Sprintf(lonely, `exports: {nbd: "127.0.0.1:0"}`)
	url = serveOn(t, t.TempDir(), text, map[string]driver.Driver{"main": store})
	alice, err = client.Login(t.Context(), client.Auth{URL: url + "/identity", User: "alice",
		Password: "a long password", Project: "blue"})
	if err != nil {
		t.Fatal(err)
	}
	return url, alice
}

// filled is a volume that is written to by NBD until the store is full.
type filled struct {
	*testing.T
	s      *client.Session
	id     string
	conn   *nbd.Conn
	blocks int64 // of 64 KiB, that were acknowledged
}

const filledBlock = 64 << 10

func (f *filled) page(n int64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64([]byte(f.id[:8]), uint64(n)), filledBlock/16)
}

func newFilled(t *testing.T, s *client.Session) *filled {
	t.Helper()
	v, err := s.CreateVolume(t.Context(), client.NewVolume{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitVolume(t.Context(), v.ID, nil, "available"); err != nil {
		t.Fatal(err)
	}
	info, err := s.Connect(t.Context(), v.ID, map[string]any{"host": "h"})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nbd.Dial(t.Context(), info.NBDURL(), nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &filled{T: t, s: s, id: v.ID, conn: conn}
}

// write writes n blocks more, or fewer if the store refuses.
func (f *filled) write(n int64) error {
	for range n {
		if _, err := f.conn.WriteAt(f.page(f.blocks), f.blocks*filledBlock); err != nil {
			return err
		}
		f.blocks++
	}
	return nil
}

// verify reads all that was acknowledged.
func (f *filled) verify() {
	f.Helper()
	got := make([]byte, filledBlock)
	for n := range f.blocks {
		if _, err := f.conn.ReadAt(got, n*filledBlock); err != nil || !bytes.Equal(got, f.page(n)) {
			f.Fatalf("block %d: %v, or other bytes", n, err)
		}
	}
}

// delete deletes the volume and waits until it is gone.
func (f *filled) delete() {
	f.Helper()
	f.conn.Close()
	if err := f.s.DeleteVolume(f.Context(), f.id); err != nil {
		f.Fatal(err)
	}
	f.gone(func() error { _, err := f.s.Volume(f.Context(), f.id); return err })
}

func (f *filled) gone(look func() error) {
	f.Helper()
	err := client.Poll(f.Context(), 5*time.Millisecond, func() (bool, error) {
		err := look()
		if client.IsStatus(err, http.StatusNotFound) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		f.Fatal(err)
	}
}

func level(t *testing.T, url, want string) bool {
	t.Helper()
	return strings.Contains(metrics(t, url), fmt.Sprintf("kvol_store_level{backend=\"fast\",level=%q} 1\n", want))
}

// TestFullStore fills a zone's store through NBD. Writers of every volume get
// ENOSPC, nothing else: all that was acknowledged is there, flushes work,
// snapshots and volumes can be deleted by the API, and writing goes on when that
// has made room. The metrics tell all along.
func TestFullStore(t *testing.T) {
	url, alice := smallZone(t, 48<<20)
	stays, goes := newFilled(t, alice), newFilled(t, alice)
	if err := errors.Join(stays.write(100), goes.write(200), goes.conn.Flush()); err != nil {
		t.Fatal(err)
	}
	snap, err := alice.CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: goes.id, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alice.WaitSnapshot(t.Context(), snap.ID, "available"); err != nil {
		t.Fatal(err)
	}
	if !level(t, url, "ok") {
		t.Error("the level of a store with room is not ok")
	}
	for name, f := range map[string]*filled{"the one": goes, "the other": stays} {
		for range 2 {
			if err := f.write(2000); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("writing to %s volume of a full store: %v", name, err)
			}
		}
		if err := f.conn.Flush(); err != nil {
			t.Errorf("flush in a full store: %v", err)
		}
	}
	if n := (stays.blocks + goes.blocks) * filledBlock; n < 38<<20 {
		t.Errorf("a store of 48 MiB was full with %d bytes", n)
	}
	if !level(t, url, "full") {
		t.Errorf("the metrics don't tell that the store is full:\n%s", metrics(t, url))
	}
	stays.verify()
	goes.verify()

	if err := alice.DeleteSnapshot(t.Context(), snap.ID); err != nil {
		t.Fatal(err)
	}
	goes.gone(func() error { _, err := alice.Snapshot(t.Context(), snap.ID); return err })
	goes.delete()
	err = client.Poll(t.Context(), 5*time.Millisecond, func() (bool, error) {
		err := stays.write(100)
		if errors.Is(err, syscall.ENOSPC) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		t.Fatalf("writing when there is room again: %v", err)
	}
	if level(t, url, "full") {
		t.Error("the metrics tell that the store is still full")
	}
	stays.verify()
	for _, want := range []string{`kvol_store_held_writes_total{backend="fast"} `,
		`kvol_store_memory_bytes{backend="fast",part="index"} `, `kvol_store_memory_bytes{backend="fast",part="leaves"} `,
		`kvol_store_memory_bytes{backend="fast",part="places"} `, `kvol_store_memory_bytes{backend="fast",part="nouns"} `,
		`kvol_store_memory_bound_bytes{backend="fast"} 2.68435456e+08`} {
		if !strings.Contains(metrics(t, url), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}
