package port

import (
	"net"
	"slices"
	"testing"
)

// TestNobodyElseHasIt: nobody listens at an address that was given out, and nobody
// is given it again while its test runs, wherever his search begins.
func TestNobodyElseHasIt(t *testing.T) {
	var all []string
	for range 3 {
		begin := next.Load()
		all = append(all, Addresses(t, 5)...)
		next.Store(begin) // as another process with this one's number would
	}
	for _, address := range all {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("%s is not free: %v", address, err)
			continue
		}
		l.Close()
	}
	slices.Sort(all)
	if different := len(slices.Compact(all)); different != 15 {
		t.Errorf("of 15 addresses %d differ: %v", different, all)
	}
}
