package nbd

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// TestAdmitWaits: a request beyond a limit waits until a reply was sent, and
// replies that were left for later are sent for its sake.
func TestAdmitWaits(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		cost   int
	}{
		"requests": {Limits{Requests: 2, InFlightBytes: 1 << 20}, 1},
		"bytes":    {Limits{Requests: 100, InFlightBytes: 250}, 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				defer far.Close()
				o := newOutput(near, near, new(buffers), c.limits)
				for range 2 {
					if err := o.admit(c.cost); err != nil {
						t.Fatal(err)
					}
				}
				admitted := make(chan error, 1)
				go func() { admitted <- o.admit(c.cost) }()
				synctest.Wait()
				if len(admitted) != 0 {
					t.Fatal("a third request was admitted")
				}
				answer := reply{n: simpleHeader, cost: c.cost}
				go o.send(answer)
				synctest.Wait()
				if len(admitted) != 0 {
					t.Fatal("a request was admitted before the reply was sent")
				}
				read := func() {
					if _, err := io.ReadFull(far, make([]byte, simpleHeader)); err != nil {
						t.Error(err)
					}
				}
				read()
				if err := <-admitted; err != nil {
					t.Fatal(err)
				}
				o.leave(answer)
				go read()
				if err := o.admit(c.cost); err != nil { // sends what was left
					t.Fatal(err)
				}
			})
		})
	}
}

// TestOutputAfterFailure: when the client is gone nothing waits for it.
func TestOutputAfterFailure(t *testing.T) {
	near, far := net.Pipe()
	far.Close()
	o := newOutput(near, near, new(buffers), Limits{Requests: 2, InFlightBytes: 10})
	if err := o.admit(10); err != nil {
		t.Fatal(err)
	}
	o.send(reply{n: simpleHeader, cost: 10})
	if err := o.admit(1); err == nil {
		t.Error("a request was admitted after the client had gone")
	}
	o.drain()
}
