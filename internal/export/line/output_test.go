package line

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// note is an answer of a few bytes; extra is how many it pretends to have beside.
type note struct{ cost, extra int }

const noteBytes = 16

func (*note) Append(pieces net.Buffers) net.Buffers { return append(pieces, make([]byte, noteBytes)) }
func (n *note) Cost() (requests, bytes int)         { return 1, n.cost }
func (n *note) Size() int                           { return noteBytes + n.extra }
func (*note) Sent()                                 {}

type notes = Output[note, *note]

func outputTo(c net.Conn, requests, bytes int) *notes {
	return NewOutput[note](OutputConfig{Conn: c, Requests: requests, Bytes: bytes, Stall: time.Minute, Now: time.Now}, nil)
}

// TestAdmitWaits: a request beyond a limit waits until a reply was sent, and
// replies that were left for later are sent for its sake.
func TestAdmitWaits(t *testing.T) {
	for name, c := range map[string]struct {
		requests, bytes, cost int
	}{
		"requests": {2, 1 << 20, 1},
		"bytes":    {100, 250, 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				defer far.Close()
				o := outputTo(near, c.requests, c.bytes)
				for range 2 {
					if err := o.Admit(1, c.cost); err != nil {
						t.Fatal(err)
					}
				}
				admitted := make(chan error, 1)
				go func() { admitted <- o.Admit(1, c.cost) }()
				synctest.Wait()
				if len(admitted) != 0 {
					t.Fatal("a third request was admitted")
				}
				answer := note{cost: c.cost}
				go o.Send(answer)
				synctest.Wait()
				if len(admitted) != 0 {
					t.Fatal("a request was admitted before the reply was sent")
				}
				read := func() {
					if _, err := io.ReadFull(far, make([]byte, noteBytes)); err != nil {
						t.Error(err)
					}
				}
				read()
				if err := <-admitted; err != nil {
					t.Fatal(err)
				}
				o.Leave(answer)
				go read()
				if err := o.Admit(1, c.cost); err != nil { // sends what was left
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
	o := outputTo(near, 2, 10)
	if err := o.Admit(1, 10); err != nil {
		t.Fatal(err)
	}
	o.Send(note{cost: 10})
	if err := o.Admit(1, 1); err == nil {
		t.Error("a request was admitted after the client had gone")
	}
	o.Drain()
}

// TestFail: who waits for room waits no longer when the connection is ended from
// outside, and what is under way then ends without anything being sent.
func TestFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		ended := errors.New("ended")
		failed := 0
		var o *notes
		o = NewOutput[note](OutputConfig{Conn: near, Requests: 2, Bytes: 10, Stall: time.Minute, Now: time.Now,
			Failed: func() { failed++; o.Leave(note{cost: 10}) }}, nil) // it may use the Output
		if !o.TryAdmit(1, 10) || o.TryAdmit(1, 1) {
			t.Fatal("TryAdmit does not go by the limits")
		}
		admitted := make(chan error, 1)
		go func() { admitted <- o.Admit(1, 1) }()
		synctest.Wait()
		o.Fail(ended)
		o.Fail(io.EOF)
		if err := <-admitted; !errors.Is(err, ended) || failed != 1 {
			t.Errorf("admitted: %v; the failure was told %d times", err, failed)
		}
		if o.TryAdmit(0, 0) {
			t.Error("admitted after the end")
		}
		if _, err := far.Read(make([]byte, 1)); err == nil {
			t.Error("something was sent after the end")
		}
		o.Drain() // by the one that was left from Failed
	})
}

// TestRoom: a reader waits while too many answers, or too large ones, are unread
// that cost nothing; what was admitted does not count.
func TestRoom(t *testing.T) {
	for name, c := range map[string]struct {
		answer note
		fit    int
	}{
		"answers":  {note{cost: noteBytes}, mostUnsent},
		"bytes":    {note{extra: 1<<18 - noteBytes}, mostSurplus >> 18},
		"admitted": {note{cost: 1 << 20, extra: 1 << 20}, mostUnsent},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				o := outputTo(near, 10_000, 1<<40)
				for range c.fit {
					if err := o.Admit(1, c.answer.cost); err != nil {
						t.Fatal(err)
					}
					o.Leave(c.answer)
				}
				go o.Flush() // nobody reads
				synctest.Wait()
				if err := o.Room(); err != nil {
					t.Fatal(err)
				}
				_ = o.Admit(1, c.answer.cost)
				o.Leave(c.answer)
				room := make(chan error, 1)
				go func() { room <- o.Room() }()
				synctest.Wait()
				if len(room) != 0 {
					t.Fatal("there is room for more than may be unread")
				}
				if _, err := io.ReadFull(far, make([]byte, c.fit*noteBytes)); err != nil {
					t.Fatal(err)
				}
				if err := <-room; err != nil {
					t.Error(err)
				}
				far.Close()
				synctest.Wait()
				if err := o.Room(); err == nil {
					t.Error("there is room after the client had gone")
				}
			})
		})
	}
}

// TestShare: what a connection may hold depends on how many there are, and one
// request is always let in.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		var d Door
		o := NewOutput[note](OutputConfig{Conn: near, Requests: 100, Bytes: 1000,
			Share: func() int { return d.Share(1000) }, Stall: time.Minute, Now: time.Now}, nil)
		d.open.Store(5)
		if err := o.Admit(1, 900); err != nil {
			t.Fatal(err)
		}
		admitted := make(chan error, 1)
		go func() { admitted <- o.Admit(1, 100) }()
		synctest.Wait()
		if len(admitted) != 0 {
			t.Fatal("a connection holds more than its share")
		}
		go o.Send(note{cost: 900})
		if _, err := io.ReadFull(far, make([]byte, noteBytes)); err != nil {
			t.Fatal(err)
		}
		if err := <-admitted; err != nil {
			t.Fatal(err)
		}
		if err := o.Admit(1, 100); err != nil { // up to a fifth
			t.Fatal(err)
		}
		d.open.Store(1)
		if err := o.Admit(1, 800); err != nil {
			t.Fatal(err)
		}
	})
}
