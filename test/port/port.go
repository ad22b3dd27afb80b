// Package port finds addresses for programs that a test starts later, or again:
// who listens for himself, and goes on, asks the system for a port instead.
package port

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
)

// Ports are given out one after another, from those above the ones that Linux gives
// to clients and to who asks for any: one that is free now is not taken by somebody's
// connection while the program that it is for does not run.
const (
	first = 61000
	count = 4500
)

var next atomic.Int64 // where the search goes on

// Address is a free address of this machine, as host:port. Until the test ends no
// other test is given its port, not of other processes either. It may be called by
// several goroutines at once.
func Address(t testing.TB) string {
	t.Helper()
	start := int64(os.Getpid()) * 97 // tests of several processes begin elsewhere
	for range count {
		n := first + (start+next.Add(1))%count
		held, err := net.Listen("unix", fmt.Sprintf("@kvol test port %d", n)) // no file: it ends with the process
		if err != nil {
			continue // somebody else has it
		}
		address := fmt.Sprintf("127.0.0.1:%d", n)
		l, err := net.Listen("tcp", address)
		if err != nil {
			held.Close()
			continue
		}
		t.Cleanup(func() { held.Close() })
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no port is free")
	return ""
}

// Addresses is n times Address.
func Addresses(t testing.TB, n int) (all []string) {
	t.Helper()
	for range n {
		all = append(all, Address(t))
	}
	return all
}
