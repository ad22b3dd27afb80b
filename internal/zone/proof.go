package zone

import (
	"context"
	"net/http"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/proof"
)

// proofCall is how long another zone is waited for that hashes some MiB.
const proofCall = 20 * time.Second

// newProver makes what reads the zone's replicas again.
func (s *Server) newProver() *proof.Prover {
	return proof.New(proof.Config{Catalog: s.catalog, Backends: s.stores, Within: s.cfg.DR.VerifyWithin,
		Rate: s.cfg.DR.VerifyMiBs << 20, Now: s.env.Now, Log: s.log,
		Sender: s.senderOf,
		Claim:  func(rep block.Replica) (func(), bool) { return s.receiver.Claim(rep) },
		Ask: func(ctx context.Context, zone block.Zone, q proof.Question) (a proof.Answer, err error) {
			ctx, cancel := context.WithTimeout(ctx, proofCall)
			defer cancel()
			err = s.peers.Call(ctx, zone, http.MethodPost, control.PathProof, q, &a)
			return a, err
		}})
}

// senderOf is the zone that a replica comes from: the volume's, or the one before
// this in a chain.
func (s *Server) senderOf(rep block.Replica) block.Zone {
	for _, p := range s.control.KnownProtections() {
		if p.Key() == rep.Policy() {
			return p.Sender()
		}
	}
	return rep.SourceZone
}

// compare implements replication.Compare.
func (s *Server) compare(ctx context.Context, to block.Zone, volume block.VolumeID, protection int64,
	point block.PointID, ranges []block.Range) ([]block.RootHash, error) {
	ctx, cancel := context.WithTimeout(ctx, proofCall)
	defer cancel()
	var a proof.Answer
	err := s.peers.Call(ctx, to, http.MethodPost, control.PathProof, proof.Question{Verb: proof.Sums, Replica: true,
		Volume: volume, Protection: protection, Point: point, Ranges: ranges}, &a)
	return a.Sums, err
}
