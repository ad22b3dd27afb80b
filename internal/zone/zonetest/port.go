package zonetest

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
)

// nextPort is where the search goes on. Ports are given out one after another, from somewhere above those that the
// system gives to clients: one that is free now is not taken by somebody's
// connection while the zone that it is for does not run.
var nextPort atomic.Int64

const (
	firstPort = 61000
	portCount = 4500
)

func freeAddress(t *testing.T) string {
	start := int64(os.Getpid()) * 97 // tests of several processes begin elsewhere
	for range portCount {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+(start+nextPort.Add(1))%portCount)
		if l, err := net.Listen("tcp", address); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
