package control

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"kvol/internal/audit"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// MaxAudits is how many records of the audit log are read at once.
const MaxAudits = 1000

// Audit appends a record to the audit log that belongs to no other change: a
// call that only read, or one that was refused.
func (s *Service) Audit(ctx context.Context, a block.Audit) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.InsertAudit(a) })
}

// Audits returns the newest records of the audit log, to administrators.
func (s *Service) Audits(ctx context.Context, c block.Caller, q catalog.AuditQuery) (calls []block.Audit, err error) {
	if !c.Admin() {
		return nil, errDRAdmin()
	}
	if q.Limit < 1 || q.Limit > MaxAudits {
		return nil, block.Errorf(block.Invalid, "limit must be between 1 and %d.", MaxAudits)
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		calls, err = tx.Audits(q)
		return err
	})
	return calls, err
}

// AuditPage is a part of the audit log as it is kept, for exports.
type AuditPage struct {
	Zone  block.Zone
	After audit.Head // the record before the first; what was sealed last, or the beginning
	Rows  []audit.Row
}

// AuditRecords returns the records after one as they are kept, the oldest first,
// to administrators. Those that were sealed are in files.
func (s *Service) AuditRecords(ctx context.Context, c block.Caller, after int64) (p AuditPage, err error) {
	if !c.Admin() {
		return p, errDRAdmin()
	}
	p.Zone = s.cfg.Zone
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if p.After, err = auditBase(tx); err != nil {
			return err
		}
		if after > p.After.Seq {
			before, err := tx.AuditRows(after-1, 1)
			if err != nil {
				return err
			}
			if len(before) == 0 || before[0].Seq != after {
				return block.Errorf(block.NotFound, "The audit log has no record %d.", after)
			}
			p.After = before[0].Head
		}
		p.Rows, err = tx.AuditRows(p.After.Seq, MaxAudits)
		return err
	})
	return p, err
}

// auditBase is the last record that is in files only; zero before the first was
// sealed.
func auditBase(tx *catalog.Tx) (audit.Head, error) {
	seals, err := tx.AuditSeals()
	if err != nil || len(seals) == 0 {
		return audit.Head{}, err
	}
	return seals[len(seals)-1].Last, nil
}

// AuditReport is what a look over the audit log found.
type AuditReport struct {
	Zone     block.Zone
	Base     audit.Head // the last record that is in files only
	Head     audit.Head // the last record
	Seals    []catalog.AuditSeal
	Told     []ToldTo // what other zones were told of it
	Problems []audit.Problem
	Foreign  []catalog.AuditBroken // other zones' logs that are not believed here
}

// ToldTo is another zone as a witness of this one's audit log.
type ToldTo struct {
	Zone   block.Zone
	Heads  int        // that it was told of and that were compared
	Newest audit.Head // zero for none
	Silent bool       // it does not answer
}

// VerifyAudit goes over the whole audit log, and compares it with what the other
// zones were told of it, as far as they answer. It is for administrators.
func (s *Service) VerifyAudit(ctx context.Context, c block.Caller) (AuditReport, error) {
	if !c.Admin() {
		return AuditReport{}, errDRAdmin()
	}
	return s.verifyAudit(ctx)
}

func (s *Service) verifyAudit(ctx context.Context) (AuditReport, error) {
	r := AuditReport{Zone: s.cfg.Zone}
	told := map[block.Zone][]catalog.AuditTold{}
	var named []audit.Head
	for _, zone := range s.otherZones() {
		var heads []catalog.AuditTold
		err := s.ask(ctx, zone, PathAuditTold, nil, &heads)
		if err != nil && ctx.Err() != nil {
			return r, ctx.Err()
		}
		of := ToldTo{Zone: zone, Silent: err != nil, Heads: len(heads)}
		for _, h := range heads {
			named = append(named, h.Head)
			if h.Seq > of.Newest.Seq {
				of.Newest = h.Head
			}
		}
		told[zone] = heads
		r.Told = append(r.Told, of)
	}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		check, err := r.check(tx, named)
		if err != nil {
			return err
		}
		for _, of := range r.Told {
			for _, h := range told[of.Zone] {
				check.Compare("zone "+string(of.Zone), h.Head)
			}
		}
		r.Problems = append(r.Problems, check.Problems()...)
		r.Foreign, err = tx.AuditBroken()
		return err
	})
	return r, err
}

// check goes over the records.
func (r *AuditReport) check(tx *catalog.Tx, named []audit.Head) (*audit.Checker, error) {
	r.Problems = nil
	var err error
	if r.Seals, err = tx.AuditSeals(); err != nil {
		return nil, err
	}
	if r.Base, err = auditBase(tx); err != nil {
		return nil, err
	}
	attested := len(r.Seals) == 0
	check := audit.NewChecker(r.Base, named)
	for after := r.Base.Seq; ; {
		rows, err := tx.AuditRows(after, MaxAudits)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			check.Add(row)
			if row.Call == sealCall && !attested {
				a, err := row.Record()
				attested = err == nil && a.Params == sealParams(r.Seals[len(r.Seals)-1])
			}
		}
		if len(rows) < MaxAudits {
			break
		}
		after = rows[len(rows)-1].Seq
	}
	if !attested {
		r.Problems = append(r.Problems, audit.Problem{Record: r.Base.Seq, Text: fmt.Sprintf("Records up to %d are missing: "+
			"no record says that they were sealed into a file.", r.Base.Seq)})
	}
	kept, err := tx.AuditHead()
	if err != nil {
		r.Problems = append(r.Problems, audit.Problem{Record: check.Head().Seq, Text: fmt.Sprintf("What is kept of the end "+
			"beside the records is missing; the last record is %d.", check.Head().Seq)})
		kept = check.Head()
	}
	check.End(kept)
	r.Head = kept
	return check, nil
}

// AuditProof shows another zone that the audit log grew since it was told of it.
type AuditProof struct {
	After   audit.Head   `json:"after"`   // the record that was asked about as it is here; Seq 0: it is none, or sealed
	Digests []audit.Hash `json:"digests"` // of the records after it
	Head    audit.Head   `json:"head"`    // the last of these
}

// maxProof is how many records one proof goes over.
const maxProof = 10000

// ProveAudit answers a zone that was told of a record.
func (s *Service) ProveAudit(ctx context.Context, after int64) (p AuditProof, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		base, err := auditBase(tx)
		if err != nil {
			return err
		}
		p = AuditProof{After: base, Digests: []audit.Hash{}}
		if after > base.Seq {
			before, err := tx.AuditRows(after-1, 1)
			if err != nil {
				return err
			}
			if p.After = (audit.Head{}); len(before) > 0 && before[0].Seq == after {
				p.After = before[0].Head
			}
		}
		rows, err := tx.AuditRows(p.After.Seq, maxProof)
		p.Head = p.After
		for _, r := range rows {
			p.Digests, p.Head = append(p.Digests, audit.Digest(r.Body)), r.Head
		}
		return err
	})
	return p, err
}

// AuditToldBy answers a zone what it told of its audit log.
func (s *Service) AuditToldBy(ctx context.Context, zone block.Zone) (told []catalog.AuditTold, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		told, err = tx.AuditTold(zone, MaxAudits)
		return err
	})
	return append([]catalog.AuditTold{}, told...), err
}

// AuditHeads lists what other zones told of their audit logs, and which of these
// are not believed, to administrators.
func (s *Service) AuditHeads(ctx context.Context, c block.Caller) (told []catalog.AuditTold,
	broken []catalog.AuditBroken, err error,
) {
	if !c.Admin() {
		return nil, nil, errDRAdmin()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if broken, err = tx.AuditBroken(); err != nil {
			return err
		}
		told = nil
		for _, zone := range s.otherZones() {
			newest, err := tx.AuditTold(zone, 1)
			if err != nil {
				return err
			}
			told = append(told, newest...)
		}
		return nil
	})
	return told, broken, err
}

// AcceptAudit begins anew with the audit log of another zone, that was restored
// from a copy, say. What was known of it is noted in this zone's log.
func (s *Service) AcceptAudit(ctx context.Context, c block.Caller, zone block.Zone) error {
	if !c.Admin() {
		return errDRAdmin()
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		broken, err := tx.AuditBroken()
		if err != nil {
			return err
		}
		for _, b := range broken {
			if b.Zone != zone {
				continue
			}
			newest, err := tx.AuditTold(zone, 1)
			if err != nil {
				return err
			}
			params := url.Values{"zone": {string(zone)}, "why": {b.Why}}
			for _, h := range newest {
				params.Set("seq", strconv.FormatInt(h.Seq, 10))
				params.Set("hash", h.Hash.String())
			}
			return first(tx.ForgetAuditTold(zone), tx.InsertAudit(block.Audit{User: string(c.User), Call: "audit accept",
				Params: params.Encode(), Code: 200}))
		}
		return block.Errorf(block.NotFound, "Nothing is wrong with the audit log of zone %s, as far as is known here.", zone)
	})
}
