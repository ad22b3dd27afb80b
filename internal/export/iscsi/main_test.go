package iscsi_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/mem"
	"kvol/internal/export/iscsi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	iqn      = "iqn.2025-01.test:vol"
	testSize = 64 << 20
)

// shelf is the targets of a test: one volume of the reference driver, behind
// faults, as iqn, and read-only, with CHAP and with CHAP both ways.
type shelf struct {
	faults  *drivertest.Faults
	store   *mem.Store
	dev     driver.Device
	revoked chan struct{}
	opened  atomic.Int64 // targets that are open now

	throttle func(write bool, bytes int64) time.Duration
}

func newShelf(t testing.TB, size int64) *shelf {
	t.Helper()
	s := &shelf{store: mem.New(mem.Options{}), revoked: make(chan struct{})}
	s.faults = drivertest.NewFaults(s.store)
	if err := s.store.CreateVolume(t.Context(), "v", size); err != nil {
		t.Fatal(err)
	}
	dev, err := s.faults.OpenVolume(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	s.dev = dev
	t.Cleanup(func() {
		if n := s.opened.Load(); n != 0 {
			t.Errorf("%d targets were not released", n)
		}
		dev.Close()
	})
	return s
}

func (s *shelf) Discover(context.Context, string) ([]string, error) {
	return []string{iqn, iqn + "-ro"}, nil
}

const (
	user, secret             = "someone", "asecretoflength"
	targetUser, targetSecret = "target", "anotherlongsecret"
)

func (s *shelf) Credentials(_ context.Context, name, _ string) (iscsi.Credentials, error) {
	switch name {
	case iqn + "-chap":
		return iscsi.Credentials{User: user, Secret: secret}, nil
	case iqn + "-mutual":
		return iscsi.Credentials{User: user, Secret: secret, TargetUser: targetUser, TargetSecret: targetSecret}, nil
	case iqn, iqn + "-ro":
		return iscsi.Credentials{}, nil
	case iqn + "-busy":
		return iscsi.Credentials{}, block.Errorf(block.Unavailable, "come back later")
	case iqn + "-forbidden":
		return iscsi.Credentials{}, block.Errorf(block.Forbidden, "not for you")
	case iqn + "-broken":
		return iscsi.Credentials{}, io.ErrUnexpectedEOF
	}
	return iscsi.Credentials{}, block.Errorf(block.NotFound, "no such target")
}

func (s *shelf) Open(_ context.Context, name, _ string) (iscsi.Target, error) {
	t := iscsi.Target{Device: s.dev, LUN: 1, Unit: "a volume", ReadOnly: name == iqn+"-ro", Revoked: s.revoked,
		Throttle: s.throttle}
	s.opened.Add(1)
	var once atomic.Bool
	t.Release = func() {
		if once.Swap(true) {
			panic("released twice")
		}
		s.opened.Add(-1)
	}
	return t, nil
}

// serve runs a server on TCP until the test ends.
func serve(t testing.TB, c iscsi.Config) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), serveOn(t, c, l)
}

func serveOn(t testing.TB, c iscsi.Config, l net.Listener) (stop func()) {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- iscsi.New(c).Serve(ctx, l) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func fill(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}
