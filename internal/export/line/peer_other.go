//go:build !linux

package line

import "net"

// watchPeer leaves the keepalive as Go's listeners set it.
func watchPeer(net.Conn) error { return nil }
