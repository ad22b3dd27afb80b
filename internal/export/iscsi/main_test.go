package iscsi_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvol/internal/block"
	"kvol/internal/export/exporttest"
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
	*exporttest.Volume
	throttle func(write bool, bytes int64) time.Duration
	giveBack func(write bool, bytes int64)
	counted  atomic.Int64 // for a test's throttle
}

func newShelf(t testing.TB, size int64) *shelf {
	t.Helper()
	return &shelf{Volume: exporttest.NewVolume(t, size)}
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
	t := iscsi.Target{Device: s.Device, LUN: 1, Unit: "a volume", ReadOnly: name == iqn+"-ro", Revoked: s.Revoked,
		Throttle: s.throttle, GiveBack: s.giveBack}
	t.Release = s.Use()
	return t, nil
}

// serve runs a server on TCP until the test ends.
func serve(t testing.TB, c iscsi.Config) (address string, stop func()) {
	t.Helper()
	l := exporttest.Listen(t)
	return l.Addr().String(), serveOn(t, c, l)
}

func serveOn(t testing.TB, c iscsi.Config, l net.Listener) (stop func()) {
	t.Helper()
	if c.Log == nil {
		c.Log = exporttest.Log(t)
	}
	return exporttest.Serve(t, iscsi.New(c), l)
}
