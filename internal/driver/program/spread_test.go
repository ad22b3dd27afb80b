package program

import (
	"testing"

	"kvol/internal/client/nbd"
)

// TestSpread has more requests under way than one connection takes at once, and then
// more than all do.
func TestSpread(t *testing.T) {
	e := Export{conns: make([]conn, 2)}
	for i := range e.conns {
		e.conns[i].Conn = &nbd.Conn{}
	}
	var on [2]int
	var begin func(n int)
	begin = func(n int) {
		if n == 0 {
			return
		}
		err := e.with(func(c *nbd.Conn) error {
			i := 0
			if c == e.conns[1].Conn {
				i = 1
			}
			if on[i]++; i == 1 && on[0] < RequestsEach {
				t.Errorf("the second connection is used beside %d requests on the first", on[0])
			}
			begin(n - 1)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	begin(2*RequestsEach + 4)
	if want := [2]int{RequestsEach + 2, RequestsEach + 2}; on != want {
		t.Errorf("the connections had %v requests at once, want %v", on, want)
	}
	if e.conns[0].under.Load() != 0 || e.conns[1].under.Load() != 0 {
		t.Error("requests that ended are counted still")
	}
}
