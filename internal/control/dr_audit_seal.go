package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"kvol/internal/audit"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

const (
	sealCall   = "audit seal"
	maxSealed  = 50000   // records of a file
	keptAudits = 1000000 // records that the catalog keeps, if nothing else is said
)

func (d DR) keepAudits() int64 {
	if d.KeepAudits > 0 {
		return d.KeepAudits
	}
	return keptAudits
}

// sealAudit moves records that are older than is to be kept, or too many, into
// files. A log that is not whole is not sealed: what shows that stays.
func (s *Service) sealAudit(ctx context.Context) error {
	if s.cfg.DR.AuditFile == nil {
		return nil
	}
	const most = 100 // files in one go
	for range most {
		sealed, err := s.sealOnce(ctx)
		if err != nil || !sealed {
			return err
		}
	}
	return nil
}

// sealOnce writes one file. Stopped in between, it writes the same one again.
func (s *Service) sealOnce(ctx context.Context) (bool, error) {
	var upTo int64
	var base audit.Head
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if base, err = auditBase(tx); err != nil {
			return err
		}
		upTo, err = tx.AuditBefore(tx.Now.Add(-s.cfg.DR.keepAudit()), s.cfg.DR.keepAudits())
		return err
	})
	if upTo = min(upTo, base.Seq+maxSealed); err != nil || upTo <= base.Seq {
		return false, err
	}
	seal := catalog.AuditSeal{First: base.Seq + 1,
		File: fmt.Sprintf("audit-%s-%012d-%012d.log", s.cfg.Zone, base.Seq+1, upTo)}
	digest := sha256.New()
	err = s.cfg.DR.AuditFile(seal.File, func(to io.Writer) error {
		digest.Reset()
		seal.Last, err = s.writeAudit(ctx, io.MultiWriter(to, digest), base, upTo)
		return err
	})
	if err != nil {
		return false, err
	}
	seal.Sum = hex.EncodeToString(digest.Sum(nil))
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		now, err := auditBase(tx)
		if err != nil || now != base {
			return err
		}
		return tx.SealAudit(seal, block.Audit{Call: sealCall, Params: sealParams(seal)})
	})
	if err == nil {
		s.log.Info("records of the audit log were sealed", "file", seal.File, "last", seal.Last.Seq)
	}
	return err == nil, err
}

// sealParams is what a record says of what was sealed.
func sealParams(s catalog.AuditSeal) string {
	return url.Values{"first": {strconv.FormatInt(s.First, 10)}, "last": {strconv.FormatInt(s.Last.Seq, 10)},
		"hash": {s.Last.Hash.String()}, "file": {s.File}, "sha256": {s.Sum}}.Encode()
}

// writeAudit writes the records after base up to one as a file, and returns the
// last. Records that are not what was written are refused.
func (s *Service) writeAudit(ctx context.Context, to io.Writer, base audit.Head, upTo int64) (audit.Head, error) {
	w, err := audit.NewWriter(to, s.cfg.Zone, base)
	if err != nil {
		return base, err
	}
	check := audit.NewChecker(base, nil)
	for check.Head().Seq < upTo {
		var rows []audit.Row
		err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			rows, err = tx.AuditRows(check.Head().Seq, int(min(MaxAudits, upTo-check.Head().Seq)))
			return err
		})
		if err != nil {
			return base, err
		}
		for _, r := range rows {
			check.Add(r)
			if err := w.Add(r); err != nil {
				return base, err
			}
		}
		if p := check.Problems(); len(p) > 0 || len(rows) == 0 {
			return base, fmt.Errorf("the audit log is not whole after record %d: %v", base.Seq, p)
		}
	}
	return check.Head(), w.End()
}
