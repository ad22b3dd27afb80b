package replication

import (
	"context"

	"kvol/internal/block"
)

// Sender replicates the protected volumes of one zone.
type Sender struct{ cfg SenderConfig }

// NewSender makes a Sender; Run starts it.
func NewSender(cfg SenderConfig) *Sender { return &Sender{cfg: cfg} }

// Run replicates until ctx ends.
func (s *Sender) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Kick makes the Sender look at a volume now.
func (s *Sender) Kick(volume block.VolumeID) {}

// Status tells how every link stands.
func (s *Sender) Status() []LinkStatus { return nil }
