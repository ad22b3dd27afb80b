package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"kvol/internal/audit"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// The paths by which zones see that each other's audit logs only grow.
const (
	PathAudit     = "/peer/v1/audit"
	PathAuditTold = "/peer/v1/audit/told"
)

// hearAudit looks whether the audit log of another zone goes on from what that
// told before, and keeps how far it is. A log that does not is not believed from
// then on: its zone's operator rewrote or cut it, or went back to an old copy.
func (s *Service) hearAudit(ctx context.Context, zone block.Zone, told audit.Head) error {
	if !s.peers.begin(zone) {
		return nil // another exchange is at it
	}
	defer s.peers.end(zone)
	var held audit.Head
	believed := true
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		heads, err := tx.AuditTold(zone, 1)
		if held = (audit.Head{}); len(heads) > 0 {
			held = heads[0].Head
		}
		if err != nil {
			return err
		}
		broken, err := tx.AuditBroken()
		for _, b := range broken {
			believed = believed && b.Zone != zone
		}
		return err
	})
	if err != nil || !believed || told == held {
		return err
	}
	var p AuditProof
	query := url.Values{"after": {strconv.FormatInt(held.Seq, 10)}}
	if err := s.cfg.DR.Peers.Call(ctx, zone, http.MethodGet, PathAudit+"?"+query.Encode(), nil, &p); err != nil {
		return err
	}
	why := p.contradicts(held)
	if why == "" && p.Head == held {
		return nil // told was overtaken by what is held
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if why == "" {
			return tx.PutAuditTold(zone, p.Head)
		}
		return first(tx.BreakAudit(zone, why), tx.InsertAudit(block.Audit{Call: "audit broken",
			Params: url.Values{"zone": {string(zone)}}.Encode(), Outcome: why}))
	})
	if err == nil && why != "" {
		s.log.Error("the audit log of a zone is not what it told before", "peer", zone, "reason", why)
	}
	return err
}

// contradicts says why a proof does not go on from what was told before; "" if it
// does.
func (p AuditProof) contradicts(held audit.Head) string {
	switch {
	case held.Seq == 0:
	case p.After.Seq == 0:
		return fmt.Sprintf("Its record %d is missing.", held.Seq)
	case p.After.Seq > held.Seq:
		return fmt.Sprintf("Its records from %d to %d are in files only, before this zone saw that they follow from record "+
			"%d; check those files with kvol dr audit verify FILE.", held.Seq+1, p.After.Seq, held.Seq)
	case p.After != held:
		return fmt.Sprintf("Its record %d, or one before it, was written anew.", held.Seq)
	}
	if p.After.Follow(p.Digests) != p.Head {
		return fmt.Sprintf("Its records after %d do not follow from each other.", p.After.Seq)
	}
	return ""
}

// begin takes the turn to look at a zone's audit log, if nobody has it.
func (b *peerBook) begin(zone block.Zone) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hearing[zone] {
		return false
	}
	if b.hearing == nil {
		b.hearing = map[block.Zone]bool{}
	}
	b.hearing[zone] = true
	return true
}

func (b *peerBook) end(zone block.Zone) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.hearing, zone)
}
