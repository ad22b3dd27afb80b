package replication

import (
	"context"
	"net"

	"kvol/internal/block"
)

// Receiver keeps the replicas of one zone.
type Receiver struct{ cfg ReceiverConfig }

// NewReceiver makes a Receiver.
func NewReceiver(cfg ReceiverConfig) *Receiver { return &Receiver{cfg: cfg} }

// Run tidies replicas until ctx ends.
func (r *Receiver) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// ServeConn serves a stream.
func (r *Receiver) ServeConn(ctx context.Context, conn net.Conn, from block.Zone) error { return conn.Close() }
