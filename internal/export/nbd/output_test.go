package nbd

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func outputTo(c net.Conn, l Limits) *output {
	l.ServerBytes, l.Stall = 1<<30, time.Minute
	return newOutput(&Server{limits: l, now: time.Now}, &handshake{conn: c, raw: c})
}

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
				o := outputTo(near, c.limits)
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
	o := outputTo(near, Limits{Requests: 2, InFlightBytes: 10})
	if err := o.admit(10); err != nil {
		t.Fatal(err)
	}
	o.send(reply{n: simpleHeader, cost: 10})
	if err := o.admit(1); err == nil {
		t.Error("a request was admitted after the client had gone")
	}
	o.drain()
}

// TestShare: what a connection may hold depends on how many there are, and one
// request is always let in.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		s := &Server{limits: Limits{Requests: 100, InFlightBytes: 1000, ServerBytes: 1000, Stall: time.Minute}, now: time.Now}
		o := newOutput(s, &handshake{conn: near, raw: near})
		s.open.Store(5)
		if err := o.admit(900); err != nil {
			t.Fatal(err)
		}
		admitted := make(chan error, 1)
		go func() { admitted <- o.admit(100) }()
		synctest.Wait()
		if len(admitted) != 0 {
			t.Fatal("a connection holds more than its share")
		}
		go o.send(reply{n: simpleHeader, cost: 900})
		if _, err := io.ReadFull(far, make([]byte, simpleHeader)); err != nil {
			t.Fatal(err)
		}
		if err := <-admitted; err != nil {
			t.Fatal(err)
		}
		if err := o.admit(100); err != nil { // up to a fifth
			t.Fatal(err)
		}
		s.open.Store(1)
		if err := o.admit(800); err != nil {
			t.Fatal(err)
		}
	})
}
