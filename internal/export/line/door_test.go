package line

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
)

// TestDoor: connections beyond the numbers are closed at once, and make room
// when they end.
func TestDoor(t *testing.T) {
	for _, test := range []struct{ most, perHost int }{{1, 5}, {5, 1}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		d := &Door{Most: test.most, PerHost: test.perHost, Log: slog.New(slog.DiscardHandler)}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- d.Serve(ctx, l, func(ctx context.Context, c net.Conn) {
				defer context.AfterFunc(ctx, func() { c.Close() })()
				_, _ = io.Copy(c, c)
			})
		}()
		heard := func(c net.Conn) bool {
			_, _ = c.Write([]byte{1}) // fails where it is closed
			n, _ := c.Read(make([]byte, 1))
			return n == 1
		}
		dial := func() net.Conn {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		first := dial()
		if !heard(first) {
			t.Error("the first connection is refused")
		}
		if heard(dial()) {
			t.Errorf("%+v: a second connection is let in", test)
		}
		first.Close()
		for !heard(dial()) { // until the server knows that the first one ended
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
